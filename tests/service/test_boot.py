# SPDX-License-Identifier: MIT
"""The boot: nobody asks for the daemon, and it is there before the network, with no more rights than it needs."""
import os

import pytest

from conftest import UNIT

# What the unit may have at the start: DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE, PERFMON, BPF (capabilities(7)).
BOUNDING = 1 << 2 | 1 << 12 | 1 << 19 | 1 << 38 | 1 << 39


def stamp(box, unit, name):
    return int(box.show(f"{name}TimestampMonotonic", unit))


def test_the_boot_starts_it_before_the_network(service):
    ready = stamp(service, UNIT, "ActiveEnter")
    assert 0 < ready <= stamp(service, "network-pre.target", "ActiveEnter")
    # ... and it did not wait for what only later services need
    assert stamp(service, UNIT, "InactiveExit") < stamp(service, "basic.target", "ActiveEnter")
    wanting = service.text("systemctl", "list-dependencies", "--plain", "basic.target")
    assert UNIT in wanting


def test_nothing_of_it_is_to_be_complained_of(service):
    """Landlock too is there: what a unit's seccomp filter may not keep from control."""
    service.run("systemctl", "restart", UNIT)
    entries = service.journal(f"_SYSTEMD_INVOCATION_ID={service.show('InvocationID')}")
    assert any("recording" in e["MESSAGE"] for e in entries)
    assert not [e["MESSAGE"] for e in entries if int(e["PRIORITY"]) <= 4 or "Landlock" in e["MESSAGE"]]


def status_of(box, pid):
    lines = box.text("cat", f"/proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("name", ["portledgerd", "pl-ledger", "pl-control"])
def test_no_process_has_more_than_it_needs(service, name):
    status = status_of(service, service.processes()[name])
    capabilities = {kind: int(status[f"Cap{kind}"], 16) for kind in ("Eff", "Prm", "Inh", "Amb", "Bnd")}
    # PID 1 has cut the bounding set; to cut it further would take a capability more
    assert capabilities == {"Eff": 0, "Prm": 0, "Inh": 0, "Amb": 0, "Bnd": BOUNDING}
    assert status["NoNewPrivs"] == "1"
    uid = service.text("id", "-u", "portledger")
    assert status["Uid"].split() == [uid] * 4


def test_a_member_of_the_group_may_ask(service):
    result = service.portledger(user="alice")
    assert result.returncode == 0, result.stderr
    assert "is recording, by events, with a sweep every 1 s" in result.stdout


def test_who_is_no_member_is_told_so(service):
    result = service.portledger(user="mallory")
    assert result.returncode == 4, (result.stdout, result.stderr)
    assert "ermission" in result.stderr


BINDER = """
import socket, subprocess
s = socket.socket()
s.bind(("127.0.0.1", 60531))
subprocess.run(["portledger", "now", "60531", "--json=short"])
"""


def test_the_sandbox_hides_no_socket(service):
    """It allows no IP socket, with which the source would try what this kernel shows."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8):
        pytest.skip("cannot run here: Linux shows TCP sockets that are only bound since 6.8")
    assert "bound-only" not in service.portledger("doctor").stdout
    printed = service.unit_run("binder.service", "/usr/bin/python3", "-c", BINDER)
    assert '"role":"bound"' in printed.replace(" ", "")


CLAIMER = """
import socket, subprocess
s = socket.socket()
s.bind(("127.0.0.1", 60530))
s.listen()
subprocess.run(["portledger", "now", "--json=short"])
"""


def test_a_claim_has_the_unit_that_made_it(service):
    printed = service.unit_run("claimer.service", "/usr/bin/python3", "-c", CLAIMER)
    assert '"port":60530' in printed.replace(" ", "")
    claims, _ = service.rows("history", "60530")
    assert [(c["unit"], c["role"], c["comm"]) for c in claims] == [("claimer.service", "listening", "python3")]
