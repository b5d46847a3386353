# SPDX-License-Identifier: MIT
"""Ports that run out, in a namespace whose range is ten ports: who has them, to which destination, and what is left; held
against what the kernel itself does and against a count by hand of the same claims."""
import random
import time

import pytest

from conftest import sysctl, wait_for
from waiting import within

pytestmark = pytest.mark.any_rung

PRESSURE = "org.portledger.ledger.Pressure"
FAR = 20000


def usec():
    return time.time_ns() // 1000


def sync(daemon, times=1):
    for _ in range(times):
        daemon.call("org.portledger.ledger.Sync")


def destinations(daemon, **parameters):
    rows = daemon.call(PRESSURE, parameters)["pressure"]
    return {row["remote_port"]: row for row in rows if row["scope"] == "destination"}


@pytest.fixture(name="ten")
def ten_ports(make_daemon, namespace):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40009")
    return make_daemon().start()


@pytest.fixture(name="far")
def far_end(make_actor):
    actor = make_actor()
    actor.do(f"listener('a', at={FAR})")
    actor.do(f"listener('b', at={FAR + 1})")
    return actor


def fill(actor, at, count, name="c"):
    for i in range(count):
        actor.do(f"client('{name}{at}-{i}', {at})")


def is_exhausted(actor, at):
    try:
        actor.do(f"client('one more', {at})")
    except AssertionError as error:
        return "Cannot assign requested address" in str(error)
    return False


def test_the_full_destination_is_told_within_a_second_with_its_openers(ten, far, make_actor):
    worker, curl = make_actor(), make_actor()
    worker.do("set_name('776f726b6572')")
    curl.do("set_name('6375726c')")
    fill(worker, FAR, 7)
    fill(curl, FAR, 3)
    fill(curl, FAR + 1, 4)
    assert is_exhausted(curl, FAR) and not is_exhausted(curl, FAR + 1)
    result = within(1, lambda: ten.client("pressure"))
    assert result.returncode == 0
    full = [line.split() for line in result.stdout.splitlines() if f"127.0.0.1:{FAR} " in line][0]
    assert full[2:6] == ["127.0.0.1:20000", "10", "10", "10"] and "full" in full and full[-4:] == ["worker", "7,", "curl", "3"]
    rows = destinations(ten)
    assert {p: (r["used"], r["available"], r["peak"], r["claims"], r["grown"]) for p, r in rows.items()} == {
        FAR: (10, 10, 10, 10, 10), FAR + 1: (5, 10, 5, 5, 5)}
    assert [(o["comm"], o["claims"]) for o in rows[FAR]["openers"]] == [("worker", 7), ("curl", 3)]
    assert [(o["comm"], o["claims"]) for o in rows[FAR + 1]["openers"]] == [("curl", 5)]
    # its own ten
    fill(worker, FAR + 1, 5)
    assert is_exhausted(worker, FAR + 1)
    assert {p: (r["used"], r["available"]) for p, r in destinations(ten).items()} == {FAR: (10, 10), FAR + 1: (10, 10)}
    whole = [r for r in ten.call(PRESSURE)["pressure"] if r["scope"] == "namespace"]
    assert [(r["protocol"], r["used"], r["available"], r["low"], r["high"]) for r in whole] == [("tcp", 10, 10, 40000, 40009)]


def test_what_is_bound_or_reserved_is_not_available(make_daemon, namespace, far, make_actor):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40009")
    sysctl(namespace, "net.ipv4.ip_local_reserved_ports", "40005,50000")
    daemon = make_daemon().start()
    server, client = make_actor(), make_actor()
    server.do("listener('l', at=40003)")
    server.do("make('b', 'tcp')")
    server.do("bind('b', '127.0.0.1', 40004)")
    server.do("bound('u', 'udp', at=40006)")  # takes nothing from TCP
    fill(client, FAR, 7)
    assert is_exhausted(client, FAR)
    rows = daemon.call(PRESSURE)["pressure"]
    assert [(r["scope"], r["protocol"], r["used"], r["available"]) for r in rows] == [
        ("namespace", "tcp", 9, 9), ("namespace", "udp", 1, 9), ("destination", "tcp", 7, 7)]


def test_a_port_that_only_waits_is_taken(ten, far, actor):
    fill(actor, FAR, 10)
    for i in range(10):
        far.do(f"accept('a', 'far {i}')")
    sync(ten)
    for i in range(4):
        actor.do(f"close('c{FAR}-{i}')")  # this end closes first, so this end waits
    far.do("over(*[f'far {i}' for i in range(4)])")
    far.do("close(*[name for name in list(kept) if name.startswith('far ')])")
    actor.do(f"over(*[f'c{FAR}-{{i}}' for i in range(4, 10)])")
    wait_for(lambda: actor.do(f"closing({FAR})") == 0, "four to wait")
    sync(ten)  # where only sweeps tell of an end they are two
    row = destinations(ten)[FAR]
    assert (row["used"], row["time_wait"], row["peak"], row["peak_time_wait"]) == (10, 4, 10, 0)
    before = row["peak_usec"]
    actor.do(f"close(*[f'c{FAR}-{{i}}' for i in range(4, 10)])")  # the far end was first: these are free
    wait_for(lambda: actor.do(f"closing({FAR})") == 0, "the others to be free")
    sync(ten, 2)
    row = destinations(ten)[FAR]
    assert (row["used"], row["time_wait"], row["peak"]) == (4, 4, 10)
    # what was full then is still told, by a question about then
    then = destinations(ten, since_usec=before, until_usec=before + 1)[FAR]
    assert (then["peak"], then["used"], sum(o["claims"] for o in then["openers"])) == (10, 10, 10)


def test_a_port_that_waits_for_two_destinations_waits_once(ten, far, actor):
    """Of a namespace a port counts once, and waits only if all that is on it does."""

    def whole():
        sync(ten)
        row, = (r for r in ten.call(PRESSURE)["pressure"] if r["scope"] == "namespace" and r["protocol"] == "tcp")
        return row["used"], row["time_wait"], row["peak"], row["peak_time_wait"]

    fill(actor, FAR, 10)
    fill(actor, FAR + 1, 10)
    sync(ten)  # where sweeps find them, they find them open
    actor.do(f"close(*[f'c{FAR}-{{i}}' for i in range(10)])")
    for i in range(10):
        far.do(f"accept('a', 'far {i}')")
    far.do("close(*[name for name in list(kept) if name.startswith('far ')])")
    assert whole() == (10, 0, 10, 0)
    actor.do(f"close(*[f'c{FAR + 1}-{{i}}' for i in range(10)])")
    for i in range(10):
        far.do(f"accept('b', 'far {i}')")
    far.do("close(*[name for name in list(kept) if name.startswith('far ')])")

    def each():
        sync(ten)
        return [(r["used"], r["time_wait"]) for r in destinations(ten).values()]

    wait_for(lambda: each() == [(10, 10)] * 2, "the kernel to be done with the last of them")
    assert whole() == (10, 10, 10, 0)


def test_ports_that_were_bound_before_they_were_connected(make_daemon, namespace, far, make_actor):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40999")
    daemon = make_daemon().start()
    plain, bound = make_actor(), make_actor()
    fill(plain, FAR, 20)
    for i in range(20):
        bound.do(f"make('c{i}', 'tcp')")
        bound.do(f"bind('c{i}', '127.0.0.1')")
        bound.do(f"connect('c{i}', '127.0.0.1', {FAR + 1})")
    assert {p: r["bound_first"] for p, r in destinations(daemon).items()} == {FAR: False, FAR + 1: True}
    result = daemon.client("pressure", "--peer", f"127.0.0.1:{FAR + 1}")
    assert "bound first" in result.stdout and str(FAR) not in result.stdout.replace(str(FAR + 1), "")


def test_growth_says_when_it_is_full(ten, far, actor):
    began = usec()
    fill(actor, FAR, 4)
    sync(ten)
    wait_for(lambda: usec() - began > 1_500_000, "a second and a half")
    asked = usec()
    answer = ten.call(PRESSURE)
    answered = usec()
    row = [r for r in answer["pressure"] if r["scope"] == "destination"][0]
    since = answer["coverage"]["stretches"][0]["from_usec"]

    def full(now):
        """Six are left, at four in the time that was watched until now."""
        return now + (now - since) * 6 / 4

    assert full(asked) - 1000 <= row["full_usec"] <= full(answered) + 1000, (row, asked, answered, since)
    assert "full in " in ten.client("pressure").stdout
    # nothing grew in the last millisecond
    assert destinations(ten, since_usec=usec() - 1000)[FAR]["full_usec"] is None


def test_a_few_ports_of_many_are_no_forecast(make_daemon, namespace, far, actor):
    """For people; in JSON it is the reader's to judge."""
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40999")
    daemon = make_daemon().start()
    began = usec()
    fill(actor, FAR, 4)
    fill(actor, FAR + 1, 100)
    wait_for(lambda: usec() - began > 1_500_000, "a second and a half")
    assert all(destinations(daemon)[port]["full_usec"] for port in (FAR, FAR + 1))
    few, many = ([line for line in daemon.client("pressure").stdout.splitlines() if f"127.0.0.1:{port} " in line][0]
                 for port in (FAR, FAR + 1))
    assert "full in " in many and "full in " not in few


def by_hand(claims, since, until):
    """For each destination (used at the end, peak, opened) of claims that may have been there in [since, until)."""
    found = {}
    for c in claims:
        if c["role"] == "connected" and (c["opened_after_usec"] or c["opened_usec"]) < until and (c["released_usec"] or until + 1) > since:
            found.setdefault(c["remote_port"], []).append((min(c["opened_usec"], until), c["released_usec"], c["port"]))

    def taken(rows, at):
        return len({port for opened, released, port in rows if opened <= at and (released or at + 1) > at})

    return {port: (taken(rows, until), max(taken(rows, at) for at in [since, *(max(opened, since) for opened, _, _ in rows)]),
                   sum(opened >= since for opened, _, _ in rows)) for port, rows in found.items()}


def test_against_a_count_by_hand(make_daemon, namespace, far, actor):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40099")
    daemon = make_daemon().start()
    chance = random.Random(7)
    names, moments = [], [usec()]
    for step in range(120):
        if names and chance.random() < 0.4:
            actor.do(f"close('{names.pop(chance.randrange(len(names)))}')")
        else:
            names.append(f"c{step}")
            actor.do(f"client('{names[-1]}', {FAR + chance.randrange(2)})")
        if chance.random() < 0.3:
            sync(daemon)
            moments.append(usec())
    sync(daemon, 2)
    claims, _ = daemon.rows("history")
    assert len(claims) > 60
    probes = 0
    for _ in range(60):
        since, until = sorted(chance.sample(moments, 2))
        rows = destinations(daemon, since_usec=since, until_usec=until)
        expected = {port: v for port, v in by_hand(claims, since, until).items() if v[1] > 0}
        assert {p: (r["used"], r["peak"], r["claims"]) for p, r in rows.items()} == expected, (since, until)
        probes += len(expected)
    assert probes > 60


def test_none_and_not_watching_differ(ten):
    result = ten.client("pressure")
    assert result.returncode == 1 and "No claim matched in what was watched." in result.stdout
    result = ten.client("pressure", "--at", "-1d")
    assert result.returncode == 1 and "Nothing can be said: nobody was watching" in result.stdout
    assert ten.client("pressure", "--at", "-1d", "--strict").returncode == 6
    for arguments in (("--app", "x"), ("--window", "x"), ("--window", "0s"), ("-n", "257"), ("--at", "tomorrow"), ("1",)):
        assert ten.client("pressure", *arguments).returncode == 2, arguments
    for name, value in (("app", "x"), ("uid", 0), ("ports", [1]), ("role", "bound"), ("range", "iana")):
        with pytest.raises(AssertionError, match="InvalidParameter"):
            ten.call(PRESSURE, {"filter": {name: value}})
