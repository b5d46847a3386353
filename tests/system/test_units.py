# SPDX-License-Identifier: MIT
"""The unit of a claim, also when its cgroup was gone before anybody looked."""
import os
import pathlib
import signal
import subprocess
import sys

import pytest

SYNC = "org.portledger.ledger.Sync"
COUNT = 50
# In the cgroup that it is given: one claim of each kind, and the end.
CLAIMS = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as f:
    f.write(str(os.getpid()))
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
sender = socket.socket(type=socket.SOCK_DGRAM)
sender.sendto(b"x", ("127.0.0.1", 9))
print(*(s.getsockname()[1] for s in (listener, client, sender)))
"""
ONE_AFTER_THE_OTHER = """
import os, socket, sys, time
for i in range(int(sys.argv[2])):
    group = sys.argv[1] + f"/brief-{i}.service"
    begin = time.monotonic()
    os.mkdir(group)
    pid = os.fork()
    if pid == 0:
        with open(group + "/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))
        s = socket.socket(type=socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 40000 + i))
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    os.rmdir(group)
    print(time.monotonic() - begin)
"""


@pytest.fixture
def rung():
    return "events"


@pytest.fixture
def slice():
    """A directory in the tree of cgroup2, of a slice's name. What is left in it, nobody is in."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        fields = (line.split() for line in mounts if " - cgroup2 " in line)
        root = next(pathlib.Path(f[4]) for f in fields if f[3] == "/")
    path = root / f"portledger{os.getpid()}.slice"
    path.mkdir()
    yield path
    for group in path.iterdir():
        if group.is_dir():
            group.rmdir()
    path.rmdir()


def test_a_unit_that_is_gone_before_anybody_looks(daemon, namespace, slice):
    """The daemon stands still for as long as it is there."""
    group = slice / "brief.service"
    group.mkdir()
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        result = subprocess.run(namespace.enter(sys.executable, "-c", CLAIMS, group), stdout=subprocess.PIPE, check=True)
        group.rmdir()
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    daemon.call(SYNC)
    claims = [c for c in daemon.rows("history")[0] if c["role"] != "accepted"]
    assert {c["port"] for c in claims} == set(map(int, result.stdout.split())) and len(claims) == 3, claims
    for c in claims:
        assert (c["unit"], c["cgroup"]) == ("brief.service", f"/{slice.name}/brief.service"), c


def test_units_that_live_for_milliseconds(daemon, namespace, slice):
    """One after the other. Each has its own."""
    result = subprocess.run(namespace.enter(sys.executable, "-c", ONE_AFTER_THE_OTHER, slice, COUNT), stdout=subprocess.PIPE,
                            check=True)
    lives = sorted(map(float, result.stdout.split()))
    print(f"{COUNT} cgroups, each for {lives[0] * 1e3:.1f} to {lives[-1] * 1e3:.1f} ms")
    daemon.call(SYNC)
    claims = daemon.rows("history")[0]
    assert {(c["port"], c["unit"]) for c in claims} == {(40000 + i, f"brief-{i}.service") for i in range(COUNT)}
    assert len(claims) == COUNT
