# SPDX-License-Identifier: MIT
"""Servers on ports that the kernel gives to clients: what really took their ports, counted, and the line that reserves
them, which the kernel itself takes."""
import json
import shutil
import subprocess
import sys

import pytest

from conftest import sysctl, wait_for

pytestmark = pytest.mark.any_rung

LISTENERS = "org.portledger.ledger.Listeners"
RESERVED = "net.ipv4.ip_local_reserved_ports"


def sync(daemon, times=1):
    for _ in range(times):
        daemon.call("org.portledger.ledger.Sync")


def listed(daemon, *options):
    rows, _ = daemon.rows("listeners", *options)
    return {row["port"]: row for row in rows if "port" in row}


def take_port(client, server, port, name="c"):
    """A connection from that very port, whose TIME_WAIT is the server's: the port is free again at once."""
    client.do(f"make('{name}', 'tcp')")
    client.do(f"bind('{name}', '127.0.0.1', {port})")
    client.do(f"connect('{name}', '127.0.0.1', 20000)")
    server.do("accept('far', 'a')")

    def let_go():
        server.do("close('a')")
        client.do(f"over('{name}')")
        client.do(f"close('{name}')")
        wait_for(lambda: client.do("closing(20000)") == 0, "the port to be free")

    return let_go


def test_collisions_are_those_that_were(make_daemon, namespace, make_actor):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 50000")
    sysctl(namespace, RESERVED, "1080,49000-49002")
    daemon = make_daemon().start()
    server, thief, far = make_actor(), make_actor(), make_actor()
    thief.do("set_name('7468696566')")
    far.do("set_name('666172')")
    far.do("listener('far', at=20000)")
    server.do("listener('outside', at=50001)")
    server.do("listener('kept', at=49001)")
    server.do("listener('mine', at=44892)")
    sync(daemon)
    server.do("close('mine')")
    sync(daemon, 2)
    for _ in range(3):
        let_go = take_port(thief, far, 44892)
        sync(daemon)
        let_go()
        sync(daemon, 2)
    server.do("listener('mine', at=44892)")
    take_port(thief, far, 45000)  # a client's own port is no server
    far.do("listener('far-6', 'tcp', '6', at=44892)")  # another program there, another server
    rows = listed(daemon)
    assert {(r["port"], r["pid"], r["collisions"], r["tenures"], r["reserved"]) for r in daemon.call(LISTENERS)["listeners"]} == {
        (44892, server.pid, 3, 3, False), (44892, far.pid, 3, 3, False), (49001, server.pid, 0, 1, True)}
    assert rows[44892]["collision_comm"] == "thief" and rows[49001]["collision_usec"] is None
    answer = daemon.call(LISTENERS)
    assert answer["reserved"] == "1080,49000-49002" and answer["netns"] == namespace.inode() and answer["omitted"] == 0
    assert answer["ephemeral_range"] == {"low": 40000, "high": 50000}
    # before the window nothing counts
    now = answer["coverage"]["until_usec"]
    later = daemon.call(LISTENERS, {"since_usec": now})
    assert {(r["port"], r["collisions"]) for r in later["listeners"]} == {(44892, 0), (49001, 0)}
    assert {r["port"] for r in daemon.call(LISTENERS, {"filter": {"pid": far.pid}})["listeners"]} == {44892}
    assert set(listed(daemon, "--range", "49000-65535")) == {49001}


def test_the_line_keeps_what_is_reserved_and_the_kernel_takes_it(make_daemon, namespace, actor, directory):
    sysctl(namespace, RESERVED, "1080,61000")
    daemon = make_daemon().start()
    ports = sorted(actor.do(f"listener('l{i}')") for i in range(3))
    text = daemon.client("listeners")
    assert text.returncode == 0 and f"Fix: {RESERVED} = 1080," in text.stdout and "(now: 1080,61000)" in text.stdout
    result = daemon.client("listeners", "--sysctl")
    assert result.returncode == 0, result.stderr
    *comments, line = result.stdout.splitlines()
    assert all(c.startswith("# ") for c in comments) and all(f"# {p}/tcp python3[{actor.pid}]" in result.stdout for p in ports)
    # nothing was applied
    shown = namespace.enter("sysctl", "-n", RESERVED)
    assert subprocess.run(shown, capture_output=True, text=True, check=True).stdout == "1080,61000\n"
    (directory / "60-portledger.conf").write_text(result.stdout)
    subprocess.run(namespace.enter("sysctl", "-q", "-p", directory / "60-portledger.conf"), check=True)
    now = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()
    assert line == f"{RESERVED} = {now}"
    assert all(row["reserved"] for row in listed(daemon).values()) and set(listed(daemon)) == set(ports)
    again = daemon.client("listeners", "--sysctl")
    assert again.returncode == 1 and again.stdout.splitlines()[-1] == line
    assert "Fix:" not in daemon.client("listeners").stdout
    assert daemon.client("listeners", "--sysctl", "-j").returncode == 2


def test_udp_counts_when_it_is_bound_for_long(daemon, make_actor, directory):
    other = directory / "other-program"
    shutil.copy(sys.executable, other)
    server, thief = make_actor(), make_actor(program=str(other))
    port = server.do("bound('u', 'udp')")
    server.do("bound('workers', 'udp')")
    sync(daemon)
    server.do("close('u')")
    sync(daemon, 2)
    thief.do(f"bound('t', 'udp', at={port})")
    sync(daemon)
    thief.do("close('t')")
    sync(daemon, 2)
    server.do(f"bound('u', 'udp', at={port})")
    assert listed(daemon) == {}  # ten minutes
    rows = listed(daemon, "--bound-for", "0s")
    assert len(rows) == 2
    row = rows[port]
    assert (row["protocol"], row["collisions"], row["tenures"], row["collision_exe"]) == ("udp", 1, 2, str(other))
    assert daemon.client("listeners", "--bound-for", "1h").returncode == 1


def test_sockets_of_one_program_are_one_server(daemon, actor):
    """Workers with SO_REUSEPORT."""
    for name in "abc":
        actor.do(f"make('{name}', 'tcp')")
        actor.do(f"kept['{name}'].setsockopt(1, 15, 1)")
        actor.do(f"bind('{name}', '127.0.0.1', 45000)")
        actor.do(f"listen('{name}')")
    rows = daemon.call(LISTENERS)["listeners"]
    assert [(r["port"], r["sockets"], r["tenures"], r["pid"]) for r in rows] == [(45000, 3, 3, actor.pid)]


def test_no_server_and_not_watching_differ(make_daemon):
    daemon = make_daemon().start()
    result = daemon.client("listeners")
    assert result.returncode == 1 and "No server is on a port that the kernel hands out (32768-60999)." in result.stdout
    assert daemon.client("listeners", "--strict").returncode == 6
    lines = [json.loads(line) for line in daemon.client("listeners", "--json=short").stdout.splitlines()]
    assert len(lines) == 1 and lines[0]["total"]["omitted"] == 0 and lines[0]["coverage"]["stretches"]
    assert daemon.client("listeners", "--csv").stdout.startswith("port,protocol,")
