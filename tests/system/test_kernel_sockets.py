# SPDX-License-Identifier: MIT
"""Sockets of the kernel itself: told by proof, and never taken for those that a process has out of sight."""
import subprocess

import pytest

from conftest import wait_for


@pytest.fixture
def rung():
    """Who has a socket is read from /proc here."""
    return "destroy"


def open_claims(daemon):
    """By port and family, when all processes were looked at for each: on a busy machine one sweep's budget may not do."""

    def settled():
        claims, _ = daemon.rows("now", "--range", "1-65535")
        return all(c["attribution"] != "none" for c in claims) and claims

    return {(c["port"], c["family"]): c for c in wait_for(settled, "every claim to be looked into")}


def vxlan(namespace, name, port, local):
    command = namespace.enter("ip", "link", "add", name, "type", "vxlan", "id", port, "local", local, "dstport", port,
                              "dev", "lo")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unknown device type" in result.stderr or "not supported" in result.stderr:
        pytest.skip("cannot run here: this kernel has no vxlan")
    assert result.returncode == 0, result.stderr


def set_link(namespace, name, state):
    subprocess.run(namespace.enter("ip", "link", "set", name, state), check=True)


def expect(claim, **want):
    assert {k: claim[k] for k in want} == want, claim


def test_tunnels(namespace, daemon):
    vxlan(namespace, "four", 50000, "127.0.0.1")
    vxlan(namespace, "six", 50001, "::1")
    set_link(namespace, "four", "up")
    set_link(namespace, "six", "up")
    claims = open_claims(daemon)
    assert set(claims) == {(50000, "ipv4"), (50001, "ipv6")}
    for claim in claims.values():
        expect(claim, protocol="udp", role="bound", attribution="kernel", pid=None, comm=None, exe=None, unit=None,
               uid=0, holders=[])
    set_link(namespace, "four", "down")
    for _ in range(2):
        daemon.call("org.portledger.ledger.Sync")
    claims = open_claims(daemon)
    assert set(claims) == {(50001, "ipv6")}
    expect(claims[50001, "ipv6"], attribution="kernel")


def test_in_flight(namespace, daemon, actor):
    """What a process of root's has on its way to another looks just as a tunnel's socket does."""
    vxlan(namespace, "four", 50000, "127.0.0.1")
    set_link(namespace, "four", "up")
    vxlan(namespace, "down", 50001, "127.0.0.1")
    for name, port in (("a", 50001), ("b", 50002)):
        actor.do(f"make('{name}', 'udp')")
        actor.do(f"bind('{name}', '0.0.0.0', {port})")
        actor.do(f"put_in_flight('{name}')")
    claims = open_claims(daemon)
    expect(claims[50000, "ipv4"], attribution="kernel", pid=None)
    for port in (50001, 50002):
        assert claims[port, "ipv4"]["attribution"] in ("cgroup", "uid")
        expect(claims[port, "ipv4"], pid=None, uid=0)


def test_older_than_the_daemon(namespace, make_daemon):
    vxlan(namespace, "four", 50000, "127.0.0.1")
    set_link(namespace, "four", "up")
    expect(open_claims(make_daemon().start())[50000, "ipv4"], attribution="kernel", pid=None)
