# SPDX-License-Identifier: MIT
"""All of it at random, one after the other and several at a time, under a load that does not rest; what the faults of this directory
promise one by one holds of all together."""
import contextlib
import os
import random
import signal
import socket
import sqlite3
import threading
import time

import pytest

import conftest
from conftest import EVENTS, FULL, PATIENCE, all_ended, descriptors, filled, gaps, injected, integrity, reasons, status, sync, wait_for

SECONDS = float(os.environ.get("PORTLEDGER_SECONDS", 60 if FULL else 20))
SEED = int(os.environ.get("PORTLEDGER_SEED", random.randrange(1 << 32)))
RATE = 300
CALLS = ("pwrite64:error=EIO", "fdatasync:error=EIO", "pwrite64:error=ENOSPC", "epoll_wait:error=EINTR:when=2+2", "pwrite64:error=EIO:when=5+7")


class Mix:
    """Faults of a running daemon. Each begins, lasts, and ends, whatever the others do."""

    def __init__(self, daemon, state, rng):
        self.daemon, self.state, self.rng = daemon, state, rng
        self.deaths = []
        self.done = []

    def pause(self, longest):
        time.sleep(self.rng.uniform(0.05, longest))

    def child_dies(self):
        """At most four within a minute: after the sixth of one the daemon would give up, as it should."""
        now = time.monotonic()
        self.deaths = [at for at in self.deaths if at > now - 61]
        if len(self.deaths) < 4:
            self.deaths.append(now)
            with contextlib.suppress(AssertionError, ProcessLookupError, FileNotFoundError):
                os.kill(self.daemon.child(self.rng.choice(("pl-ledger", "pl-control"))), signal.SIGKILL)

    def stops(self):
        with contextlib.suppress(FileNotFoundError):
            pids = [pid for pid in [self.daemon.process.pid, *self.daemon.children()] if self.rng.random() < 0.5]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            self.pause(1)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def hangups(self):
        for _ in range(self.rng.randrange(200)):
            os.kill(self.daemon.process.pid, signal.SIGHUP)

    def disk_is_full(self):
        with filled(self.state) as fill:
            self.pause(1)
            fill()
            self.pause(1)

    def calls_fail(self):
        with contextlib.suppress(AssertionError, FileNotFoundError):
            with injected(self.daemon.child("pl-ledger"), self.rng.choice(CALLS)):
                self.pause(2)

    def clients(self):
        with contextlib.ExitStack() as stack:
            for _ in range(self.rng.randrange(80)):
                with contextlib.suppress(OSError):
                    s = stack.enter_context(socket.socket(socket.AF_UNIX))
                    s.settimeout(1)
                    s.connect(self.daemon.socket)
                    s.sendall(self.rng.choice((b'{"method":', b"[" * 60_000, b"\0\0", b"\xff" * 9_000,
                                               b'{"method":"org.portledger.ledger.Status"}\0' * 30)))
            self.pause(1)

    def somebody_writes(self):
        with contextlib.suppress(sqlite3.Error):
            db = sqlite3.connect(self.daemon.database, isolation_level=None, timeout=1)
            try:
                db.execute("BEGIN IMMEDIATE")
                self.pause(2)
                db.execute("ROLLBACK")
            finally:
                db.close()

    def run(self, until):
        faults = (self.child_dies, self.stops, self.hangups, self.disk_is_full, self.calls_fail, self.clients, self.somebody_writes)
        while time.monotonic() < until:
            fault = self.rng.choice(faults)
            self.done.append(fault.__name__)
            fault()
            self.pause(0.5)


@pytest.mark.long
def test_all_of_it_at_random(make_daemon, make_disk, make_load):
    print(f"PORTLEDGER_SEED={SEED} PORTLEDGER_SECONDS={SECONDS}")
    rng = random.Random(SEED)
    state = make_disk("96m")
    daemon = make_daemon(options=EVENTS, interval="1s").start()
    sync(daemon)
    main = daemon.process.pid
    before = descriptors(main)
    until = time.monotonic() + SECONDS
    mix = Mix(daemon, state, rng)
    worker = threading.Thread(target=mix.run, args=(until,))
    worker.start()
    truths = []
    try:
        while worker.is_alive():
            truths.append(make_load("--count", RATE * 3, "--rate", RATE, "--seed", len(truths), "--uids", "0,1,1000,65534").truth())
    finally:
        worker.join(SECONDS + 3 * PATIENCE)
    wait_for(daemon.answers, "the daemon to be there")
    wait_for(lambda: reasons(daemon) == "", "each state to be over")
    assert daemon.process.poll() is None and daemon.process.pid == main

    all_ended(daemon, *truths)
    result = conftest.oracle.compare(daemon.database, truths, source="events", attribution="event")
    print(f"{len(mix.done)} faults in {SECONDS:.0f} s: " + ", ".join(f"{mix.done.count(n)} {n}" for n in sorted(set(mix.done))))
    print(f"made {result.made}, recorded {result.recorded}, lost {status(daemon)['lost']}, gaps {gaps(daemon)}")
    assert result.is_exact(), str(result)
    assert gaps(daemon) == [] and integrity(daemon.database) == [("ok",)]
    assert descriptors(main) <= before + 1
