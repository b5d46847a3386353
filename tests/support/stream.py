# SPDX-License-Identifier: MIT
"""Recordings for --replay, made by hand: the stream format of common/stream.h from the writer's side, independent of
the C code. With these a live daemon gets any history: hundreds of thousands of claims, of any age, in a second."""
import struct

MAGIC = b"PLSTRM\x03\n"
UNSET = 2**64 - 1
HELLO, SETTINGS, COVERAGE, NETNS, PROCESS, FORGET, SIGHTING, SWEEP, GAP = range(1, 10)
DRAINED, FAILURE = 13, 14
PRESENT, ABSENT, CLOSED, RELEASED = 1, 2, 3, 4
PROTOCOLS = 0b1111
SECOND = 1_000_000
HOUR = 3600 * SECOND


def text(value):
    if value is None:
        return b"\xff\xff"
    value = value.encode()
    return struct.pack("<H", len(value)) + value


def record(kind, body):
    return struct.pack("<IHH", 8 + len(body), kind, 0) + body


def endpoint(address, port):
    """`address`: packed, 4 or 16 bytes, or None."""
    family = {4: 4, 16: 6}[len(address)] if address else 0
    return bytes([family]) + (address or b"") + struct.pack("<H", port)


def sighting(kind, cookie, at, after, port=0, remote=None, opener=0, local=b"\x7f\0\0\1", role=0, protocol=0, holders=(),
             event=False, time_wait=False, netns=1):
    """`remote`: (packed address, port). An opener is known from /proc/PID/fd, or by an event."""
    return record(SIGHTING, b"".join((
        struct.pack("<BBBBBBBBQQ", kind, 2 if event else 0, protocol, role, (1 if event else 3) if opener else 0, time_wait,
                    0, 0, cookie, netns),
        endpoint(local, port) if port else endpoint(None, 0),
        endpoint(*remote) if remote else endpoint(None, 0),
        struct.pack("<QQQII", at, after, UNSET, opener, len(holders)),
        b"".join(struct.pack("<I", h) for h in holders), struct.pack("<I", 0))))


class Recording:
    """A file that grows by whole records. Its clock, `boot` and `wall`, only moves when told, and by both alike."""

    def __init__(self, path, wall, boot=1000 * HOUR, boot_id=bytes(range(16)), max_age=30 * 24 * HOUR,
                 max_bytes=2 << 30, interval=SECOND, generation=0, rung=0,
                 udp_connect=0, failures=0, remotes=0, remotes_after=24 * HOUR):
        self.file = open(path, "wb")
        self.boot, self.offset, self.interval = boot, wall - boot, interval
        self.sweeps, self.generation = 0, generation
        self.file.write(MAGIC + record(HELLO, boot_id + struct.pack("<QQi", boot, wall, 1) + text("0") +
                        struct.pack("<QQ", generation, 0)))
        self.settings(max_age, max_bytes, remotes, remotes_after)
        self.write(COVERAGE, struct.pack("<BQIHHHHIBBBBBB", rung, interval, 1, 32768, 65535, 32768, 60999, PROTOCOLS,
                                         1, 1, 1, 0, udp_connect, failures))
        self.write(NETNS, struct.pack("<QQ", 1, 4026531840) + text(None) + struct.pack("<HH", 32768, 60999))

    @property
    def wall(self):
        return self.boot + self.offset

    def write(self, kind, body):
        self.file.write(record(kind, body))

    def settings(self, max_age, max_bytes, remotes=0, remotes_after=24 * HOUR, *, coalesce_above=1000):
        self.write(SETTINGS, struct.pack("<QQBQQQIQ", max_age, max_bytes, remotes, remotes_after, 396 * 24 * HOUR, 1827 * 24 * HOUR,
                                         500, coalesce_above))

    def process(self, ref, comm, pid=None, exe=None, unit=None, uid=1000):
        self.write(PROCESS, struct.pack("<IiiQQIB", ref, pid or ref, 1, self.boot, 0, uid, 0) + text(comm) +
                   text(exe or f"/usr/bin/{comm}") + text("/system.slice") + text(unit) + text("init"))

    def present(self, cookie, port, **more):
        self.file.write(sighting(PRESENT, cookie, self.boot, self.boot - self.interval, port, **more))

    def absent(self, cookie):
        self.file.write(sighting(ABSENT, cookie, self.boot, self.boot - self.interval))

    def event(self, cookie, port, **more):
        """The kernel tells of a claim as it is made."""
        self.file.write(sighting(PRESENT, cookie, self.boot, UNSET, port, event=True, **more))

    def closed(self, cookie, time_wait=False):
        self.file.write(sighting(CLOSED, cookie, self.boot, UNSET, event=True, time_wait=time_wait))

    def released(self, cookie):
        self.file.write(sighting(RELEASED, cookie, self.boot, UNSET, event=True))

    def drained(self, position, lost=0, lost_ends=0, failures_dropped=0, urgent=False):
        """All that the ring told before this place has been written."""
        self.write(DRAINED, struct.pack("<QQQQQQB", self.generation, position, lost, lost_ends, failures_dropped, self.boot,
                                        urgent))

    def failure(self, port, process=0, call=1, error=1, protocol=0, local=b"\x7f\0\0\1", remote=None):
        """`call`: 1 bind, 2 connect; `error`: 1 in use, 2 not available."""
        self.write(FAILURE, struct.pack("<QQBBB", self.boot, 1, protocol, error, call) + endpoint(local, port) +
                   (endpoint(*remote) if remote else endpoint(None, 0)) + struct.pack("<I", process))

    def sweep(self, sockets=0):
        """The end of a whole sweep that began when the clock was moved here."""
        self.sweeps += 1
        self.write(SWEEP, struct.pack("<QQQQQIIQIQ", self.sweeps, self.boot, self.boot + 1000, self.boot + 1000,
                                      self.wall + 1000, PROTOCOLS, sockets, 1000, 0, 0))

    def move(self, usec=None):
        self.boot += self.interval if usec is None else usec

    def churn(self, count, per_sweep, first_cookie=1, opener=0):
        """`count` claims, `per_sweep` of them at a time, each held for one sweep."""
        before = []
        for begin in range(0, count, per_sweep):
            now = range(first_cookie + begin, first_cookie + min(begin + per_sweep, count))
            for cookie in before:
                self.absent(cookie)
            for cookie in now:
                self.present(cookie, 32768 + cookie % 32768,
                             remote=(struct.pack(">I", 0x0a000000 + cookie % 5000), 443), opener=opener)
            self.sweep(len(now))
            self.move()
            before = now
        for cookie in before:
            self.absent(cookie)
        self.sweep()
        self.move()
        self.sweep()

    def close(self):
        self.file.close()
