# SPDX-License-Identifier: MIT
"""The boot: nobody asks for the daemon, and it is there before the network."""
from conftest import UNIT


def stamp(box, unit, name):
    return int(box.show(f"{name}TimestampMonotonic", unit))


def test_the_boot_starts_it_before_the_network(service):
    ready = stamp(service, UNIT, "ActiveEnter")
    assert 0 < ready <= stamp(service, "network-pre.target", "ActiveEnter")
    # ... and it did not wait for what only later services need
    assert stamp(service, UNIT, "InactiveExit") < stamp(service, "basic.target", "ActiveEnter")
    assert "UserspaceTimestampMonotonic" in service.text("systemctl", "show")


def test_a_member_of_the_group_may_ask(service):
    result = service.portledger(user="alice")
    assert result.returncode == 0, result.stderr
    assert "is recording, by sweep every 1 s" in result.stdout


def test_who_is_no_member_is_told_so(service):
    result = service.portledger(user="mallory")
    assert result.returncode == 4, (result.stdout, result.stderr)
    assert "ermission" in result.stderr
