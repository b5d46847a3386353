# SPDX-License-Identifier: MIT
"""The unit in a real cgroup v2 hierarchy: what its limits allow, what it takes of 50,000 sockets, and that it goes on when the
kernel takes a process of it."""
import json
import time

from conftest import UNIT, wait_until

GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}"
MIB = 1 << 20
SOCKETS = 50_000  # both ends of a connection; that of the listener is not watched
# Five processes, each with 8,000 UDP sockets and 1,000 connections, of which it has both ends.
HOLDER = """
import os, resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
for i in range(1, 6):
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        held = []
        for port in range(40000, 48000):
            held.append(socket.socket(type=socket.SOCK_DGRAM))
            held[-1].bind((f"127.0.{i}.1", port))
        listener = socket.create_server((f"127.0.{i}.1", 20000))
        for port in range(51000, 52000):
            client = socket.socket()
            client.bind((f"127.0.{i}.1", port))
            client.connect((f"127.0.{i}.1", 20000))
            held += [client, listener.accept()[0]]
        theirs.send(b"x")
        time.sleep(3600)
    assert ours.recv(1) == b"x"
open("/run/held", "w").close()
time.sleep(3600)
"""
# In the unit's group: takes memory without end.
HOG = """
import os
with open("{}/cgroup.procs", "w") as f:
    f.write(str(os.getpid()))
taken = []
while True:
    taken.append(bytearray(1 << 20))
"""
# In the unit's group: more processes than it may have.
FORKS = """
import os, signal
with open("{}/cgroup.procs", "w") as f:
    f.write(str(os.getpid()))
children = []
try:
    while len(children) < 100:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except BlockingIOError:
    pass
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(len(children))
"""


def value(guest, name, key=None):
    text = guest.text("cat", f"{GROUP}/{name}")
    return text if key is None else int(dict(line.split() for line in text.splitlines())[key])


def test_its_limits_are_in_force(guest):
    """Tasks are limited, memory is not: it follows the sockets of the machine."""
    assert value(guest, "pids.max") == "16" and value(guest, "pids.current") == "3"
    assert value(guest, "memory.max") == "max" and value(guest, "memory.oom.group") == "0"
    ours = len(guest.processes())
    made = int(guest.text("/usr/bin/python3", "-c", FORKS.format(GROUP)))
    assert made == 16 - ours - 1
    assert guest.is_active() and value(guest, "pids.current") == "3"


def test_it_goes_on_when_the_kernel_takes_a_process_of_its_group(guest):
    """OOMPolicy=continue: with systemd's default the unit would have been stopped."""
    main, killed = guest.main_pid(), value(guest, "memory.events", "oom_kill")
    guest.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=64M")
    try:
        assert guest.run("/usr/bin/python3", "-c", HOG.format(GROUP), check=False).returncode == -9
        assert value(guest, "memory.events", "oom_kill") == killed + 1
        assert guest.journal("MESSAGE_ID=fe6faa94e7774663a0da52717891d8ef")  # systemd has seen it
        assert guest.is_active() and guest.main_pid() == main and guest.show("NRestarts") == "0"
        assert guest.portledger().returncode == 0
    finally:
        guest.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=infinity")


def test_fifty_thousand_sockets(guest):
    """... and questions about them, within 96 MiB for all that the kernel charges: the processes, the ring of the events and
    its tables, the database's pages."""
    guest.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=96M")
    refused = value(guest, "memory.events", "max")
    guest.run("systemd-run", "--quiet", "--unit=holder", "-p", "LimitNOFILE=20000", "/usr/bin/python3", "-c", HOLDER)
    try:
        wait_until(lambda: guest.run("test", "-e", "/run/held", check=False).returncode == 0, "the sockets to be held")

        def all_open():
            status = json.loads(guest.text("portledger", "status", "--json=short"))
            return status["open_claims"] >= 45_000 and status

        assert wait_until(all_open, "all claims to be open")["open_claims"] == SOCKETS - 5_000
        # what others had there lingers, perhaps
        claims, receipt = guest.rows("now", "51999", "--unit", "holder.service")
        assert len(claims) == 5 and receipt["gaps"] == []
        assert len(guest.rows("history", "47999", "--unit", "holder.service")[0]) == 5
        for name, pid in guest.processes().items():
            print(name, guest.text("grep", "-E", "^(Rss|Pss|Anonymous)", f"/proc/{pid}/smaps_rollup").replace("\n", " "))
        print({name: value(guest, "memory.stat", name) for name in ("anon", "file", "shmem", "kernel", "slab")})
        print("peak", int(value(guest, "memory.peak")) / MIB, "MiB")
        assert value(guest, "memory.events", "max") == refused and int(value(guest, "memory.peak")) < 96 * MIB
        assert guest.show("NRestarts") == "0"
    finally:
        guest.run("systemctl", "stop", "holder", check=False)
        guest.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=infinity")
