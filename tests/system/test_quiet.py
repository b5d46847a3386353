# SPDX-License-Identifier: MIT
"""Sweeps that need not read TCP's connections, since the kernel counts no change, and need not look through /proc, since no
socket is new: they happen, and nothing is missed by them."""
import random
import re
import signal
import subprocess
import time

import pytest
from conftest import wait_for

SYNC = "org.portledger.ledger.Sync"
STATUS = "org.portledger.ledger.Status"


@pytest.fixture
def rung():
    return "destroy"


class Trace:
    """The system calls of capture while it is asked; the leak sanitizer is not in the way, since it runs at the end only."""

    def __init__(self, daemon, directory):
        self.path = directory / "trace"
        # in the daemon's namespace: to tell a netlink socket's protocol it asks there
        self.tracer = subprocess.Popen(
            daemon.namespace.enter("strace", "-o", self.path, "-e", "trace=%file,getdents64,pread64,sendto,recvmsg", "-p",
                                   daemon.process.pid), stderr=subprocess.PIPE)
        assert b"attached" in self.tracer.stderr.readline()

    def lines(self):
        self.tracer.send_signal(signal.SIGINT)
        self.tracer.wait()
        self.tracer.stderr.close()
        return self.path.read_text().splitlines()


def below_a_process(lines):
    """What was opened, listed or read as a link below /proc/PID."""
    return [line for line in lines if re.match(r'(open|openat|readlink|readlinkat|newfstatat|statx)\([^"]*"\d|getdents64', line)]


def shown_connections(lines):
    return [line for line in lines if line.startswith("recvmsg") and "idiag_state=TCP_ESTABLISHED" in line]


def test_no_walk_where_no_socket_is_new(daemon, actor, directory):
    port = actor.do("listener('l')")
    actor.do(f"client('c', {port})")
    actor.do("accept('l', 's')")
    actor.do("bound('u', 'udp')")
    wait_for(lambda: daemon.call(STATUS)["unattributed"] == 0, "all to be attributed")
    time.sleep(0.6)  # so long their roles are to be confirmed
    daemon.call(SYNC)
    trace = Trace(daemon, directory)
    sweeps = daemon.call(STATUS)["sweeps"]
    for _ in range(10):
        daemon.call(SYNC)
    swept = daemon.call(STATUS)["sweeps"] - sweeps
    lines = trace.lines()
    assert swept >= 10
    # each of them has looked: at the counters, and at UDP, twice each for both families
    assert sum("sockets: used" in line for line in lines) >= swept
    assert sum("IPPROTO_UDP," in line for line in lines) >= 2 * swept
    assert below_a_process(lines) == []
    assert shown_connections(lines) == []
    # and this is how it looks where one is
    trace = Trace(daemon, directory)
    actor.do(f"client('new', {port})")
    daemon.call(SYNC)
    lines = trace.lines()
    assert below_a_process(lines) and shown_connections(lines)


class World:
    """An actor's sockets, as they should be in the ledger."""

    def __init__(self, actor, chance):
        self.actor = actor
        self.chance = chance
        self.number = 0
        self.listeners, self.pairs, self.plain = {}, {}, {}  # by name: ports
        self.waiting = []  # connections that nobody has accepted yet: listener, client

    def name(self, what):
        self.number += 1
        return f"{what}{self.number}"

    def listen(self):
        name = self.name("l")
        self.listeners[name] = self.actor.do(f"listener('{name}', family='{self.chance.choice('46')}')")

    def connect(self):
        if not self.listeners:
            return
        listener, name = self.chance.choice(list(self.listeners)), self.name("c")
        family = "4" if self.actor.do(f"kept['{listener}'].family == socket.AF_INET") else "6"
        self.pairs[name] = self.actor.do(f"client('{name}', {self.listeners[listener]}, family='{family}')")
        self.waiting.append((listener, name))

    def accept(self):
        if not self.waiting:
            return
        listener, _ = self.waiting.pop(0)
        name = self.name("s")
        self.actor.do(f"accept('{listener}', '{name}')")
        self.pairs[name] = self.actor.do(f"port('{name}')")

    def bind(self):
        name = self.name("b")
        self.plain[name] = "tcp", self.actor.do(f"bound('{name}', 'tcp')")

    def udp(self):
        name = self.name("u")
        self.plain[name] = "udp", self.actor.do(f"bound('{name}', 'udp')")

    def nothing(self):
        pass

    def close(self):
        busy = {name for pair in self.waiting for name in pair}
        names = [n for n in [*self.listeners, *self.pairs, *self.plain] if n not in busy]
        if not names:
            return
        name = self.chance.choice(names)
        self.actor.do(f"close('{name}')")
        for group in self.listeners, self.pairs, self.plain:
            group.pop(name, None)

    def expected(self):
        """Each open socket, but those that nobody has accepted: protocol, port."""
        return sorted([("tcp", p) for p in [*self.listeners.values(), *self.pairs.values()]] + list(self.plain.values()))


@pytest.mark.parametrize("seed, steps", [(0, 30), *(pytest.param(seed, 60, marks=pytest.mark.long) for seed in (0, 1, 2))])
def test_nothing_is_missed(daemon, actor, directory, seed, steps):
    """Anything may happen between two questions, and often nothing does: each answer is what is open, neither more nor less."""
    world = World(actor, random.Random(seed))
    acts = [world.listen, world.connect, world.connect, world.accept, world.accept, world.bind, world.udp, world.close,
            world.close] + 6 * [world.nothing]
    trace = Trace(daemon, directory)
    for step in range(steps):
        act = world.chance.choice(acts)
        act()
        daemon.call(SYNC)  # an end takes two sweeps
        claims, _ = daemon.rows("now", "-n", "1000")
        held = sorted((c["protocol"], c["port"]) for c in claims if c["closed_usec"] is None and c["pid"] == actor.pid)
        assert held == world.expected(), (seed, step, act.__name__)
    lines = trace.lines()
    asked = sum("TCPDIAG_GETSOCK" in line for line in lines)
    swept = sum("sockets: used" in line for line in lines)
    assert asked >= 2 * steps and swept >= 2 * steps, (asked, swept)
