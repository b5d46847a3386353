# SPDX-License-Identifier: MIT
"""The events rung on a kernel where fexit attaches, and what lower rungs show there."""
import contextlib
import json

import pytest

from conftest import changed, status

LOWER = "[Service]\nExecStart=\nExecStart=/usr/sbin/portledgerd --rung {}\n"

# All that is to be claimed, in the order in which it is made, and told while it is open.
SCRIPT = """
import socket, struct, subprocess
bound = socket.socket()
bound.bind(("127.0.0.1", 60533))
listener = socket.create_server(("127.0.0.1", 60530))
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves no TIME_WAIT
client.bind(("127.0.0.1", 60531))
client.connect(("127.0.0.1", 60530))
accepted, _ = listener.accept()
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::1", 60532))
subprocess.run(["portledger", "now", "--range", "60530-60533", "--json=short"])
"""
BOUND_ONLY = (60533, "tcp", "bound")
CLAIMED = {(60530, "tcp", "listening"), (60531, "tcp", "connected"), (60530, "tcp", "accepted"), (60532, "udp", "bound"), BOUND_ONLY}

UDP_CONNECT = """
import socket, subprocess
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.connect(("127.0.0.1", 9))
port = str(udp.getsockname()[1])
subprocess.run(["portledger", "history", port, "--json=short"])
"""

# A port that the kernel chose is given back by a connect to AF_UNSPEC, and the socket stays, and goes on with another one. Once by a
# connect, once by a datagram; and one that was bound stays so.
UDP_DISCONNECT = """
import ctypes, socket, subprocess
def undo(udp):
    assert ctypes.CDLL(None).connect(udp.fileno(), bytes(16), 16) == 0
ports = []
connected, sent, bound = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(3))
connected.connect(("127.0.0.1", 9))
sent.sendto(b"x", ("127.0.0.1", 9))
bound.bind(("127.0.0.1", 60532))
bound.connect(("127.0.0.1", 9))
for udp in (connected, sent, bound):
    ports.append(udp.getsockname()[1])
    undo(udp)
    assert udp.getsockname()[1] == (60532 if udp is bound else 0)
subprocess.run(["portledger", "history", *map(str, ports), "--json=short"])
for udp in (connected, sent):
    udp.sendto(b"x", ("127.0.0.1", 9))
    ports.append(udp.getsockname()[1])
print(*ports, flush=True)
for udp in (connected, sent, bound):
    udp.close()
subprocess.run(["portledger", "history", *map(str, ports), "--json=short"])
"""

# One port is held, and there is no other.
FAILING = """
import os, socket, subprocess
def failing(call, *arguments):
    try:
        call(*arguments)
        print("it did not fail")
    except OSError as error:
        print(error.errno)
holder = socket.create_server(("127.0.0.1", 60530))
failing(socket.socket().bind, ("127.0.0.1", 60530))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
    f.write("60535 60535")
first = socket.create_connection(("127.0.0.1", 60530))
failing(socket.socket().connect, ("127.0.0.1", 60530))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
    f.write("32768 60999")
print(os.getpid())
"""


def told(lines):
    rows = [json.loads(line) for line in lines.splitlines()]
    return [row for row in rows if "coverage" not in row], rows[-1]["coverage"]


def test_every_claim_is_told_with_its_process(guest):
    """Also TCP that is bound and no more, which no sweep shows before Linux 6.8."""
    claims, receipt = told(guest.unit_run("claimer.service", "/usr/bin/python3", "-c", SCRIPT))
    assert {(c["port"], c["protocol"], c["role"]) for c in claims} == CLAIMED and len(claims) == len(CLAIMED)
    assert all((c["source"], c["unit"], c["comm"]) == ("events", "claimer.service", "python3") for c in claims), claims
    assert all(c["attribution"] == "event" or c["role"] == "accepted" for c in claims), claims
    assert receipt["complete"] and receipt["lost"] == 0
    assert "bound-only" not in guest.portledger("doctor").stdout


@pytest.mark.parametrize("rung", ("destroy", "sweep"))
def test_what_a_lower_rung_does_not_see_is_said(guest, rung):
    with changed(guest, LOWER.format(rung)):
        claims, receipt = told(guest.unit_run("claimer.service", "/usr/bin/python3", "-c", SCRIPT))
        assert {(c["port"], c["protocol"], c["role"]) for c in claims} == CLAIMED - {BOUND_ONLY}, claims
        assert len(claims) == len(CLAIMED) - 1 and receipt["stretches"][0]["source"] == rung
        # where a sweep's budget for /proc did not do, nobody is named
        assert all(c["attribution"] == "none" or (c["attribution"], c["unit"]) == ("procfd", "claimer.service") for c in claims), claims
        assert "bound-only: TCP sockets that are bound and no more are not seen" in guest.portledger("doctor").stdout


def test_a_udp_connect_is_told_at_once(guest):
    assert status(guest)["udp_connect"] is True
    (claim,), receipt = told(guest.unit_run("claimer.service", "/usr/bin/python3", "-c", UDP_CONNECT))
    assert (claim["source"], claim["attribution"], claim["role"]) == ("events", "event", "connected")
    assert claim["closed_usec"] is None and claim["opened_after_usec"] is None and claim["remote_port"] == 9
    assert receipt["stretches"][-1]["udp_connect"] is True


def test_a_port_that_is_given_back_is_told_at_once(guest):
    """... while the socket is still there; and what it does next is a claim of its own, which ends once."""
    assert status(guest)["udp_connect"] is True
    lines = guest.unit_run("claimer.service", "/usr/bin/python3", "-c", UDP_DISCONNECT).splitlines()
    at = next(i for i, line in enumerate(lines) if not line.startswith("{"))
    ports = [int(port) for port in lines[at].split()]
    rows, _ = told("\n".join(lines[:at]))
    mine = {r["port"]: r for r in rows if r["unit"] == "claimer.service"}
    assert {port: mine[port]["closed_usec"] is None for port in ports[:3]} == {ports[0]: False, ports[1]: False, 60532: True}, rows
    assert all(mine[port]["closed_after_usec"] is None for port in ports[:2]), rows
    rows, _ = told("\n".join(lines[at + 1:]))
    rows = [r for r in rows if r["pid"] == mine[60532]["pid"]]  # other tests had a unit of that name, and the port, before
    assert sorted(r["port"] for r in rows) == sorted(ports) and all(r["closed_usec"] and r["source"] == "events" for r in rows), rows


@contextlib.contextmanager
def standing_still(guest):
    """Whoever reads what the kernel tells."""
    pid = guest.main_pid()
    guest.run("kill", "-STOP", str(pid))
    try:
        yield
    finally:
        guest.run("kill", "-CONT", str(pid))


@pytest.mark.parametrize("reader", (contextlib.nullcontext, standing_still), ids=("in time", "too late for the unit"))
def test_failures_are_told_with_who_had_the_port(guest, reader):
    """... and with the unit, which is gone when its process is."""
    assert status(guest)["failures"] is True
    begin = guest.text("date", "+@%s")
    with reader(guest):
        *errors, pid = guest.unit_run("failing.service", "/usr/bin/python3", "-c", FAILING).split()
    assert errors == ["98", "99"]
    failures, _ = told(guest.text("portledger", "failures", "-S", begin, "--json=short"))
    assert {(f["call"], f["error"]) for f in failures} == {("bind", "in_use"), ("connect", "not_available")}, failures
    assert all((f["pid"], f["unit"], f["protocol"]) == (int(pid), "failing.service", "tcp") for f in failures), failures
    by = {f["call"]: f for f in failures}
    assert (by["bind"]["port"], by["bind"]["holder_pid"], by["bind"]["holder_role"]) == (60530, int(pid), "listening")
    assert by["connect"]["remote_port"] == 60530


def test_capabilities_are_given_up_when_all_is_attached(guest):
    for name, pid in guest.processes().items():
        lines = guest.text("grep", "^Cap", f"/proc/{pid}/status").splitlines()
        assert {line.split()[1] for line in lines if not line.startswith("CapBnd")} == {"0" * 16}, (name, lines)
