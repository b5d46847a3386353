# SPDX-License-Identifier: MIT
"""What the ledger must not say: an end that nobody saw, a bound that nobody knew, a role that was only forgotten."""
import signal
import sqlite3
import time

import pytest

from conftest import wait_for

pytestmark = pytest.mark.any_rung

LOW = "Ranges=40000-44999\n"
HIGH = "Ranges=43000-49999\n"


def usec():
    return time.time_ns() // 1000


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


def reload(daemon, config, interval="1h"):
    said = daemon.log.read_text().count("configuration reloaded")
    daemon.config.write_text(f"[Capture]\nInterval={interval}\n{config}")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.log.read_text().count("configuration reloaded") > said, "the reload")
    sync(daemon)


def only(daemon, port):
    claims, _ = daemon.rows("history", port)
    assert len(claims) == 1, (port, claims)
    return claims[0]


def test_other_ranges_end_no_claim(make_daemon, actor):
    daemon = make_daemon(config=LOW).start()
    for port in (41000, 43000, 48000):
        actor.do(f"bound('u{port}', 'udp', '4', {port})")
    sync(daemon)
    stays = only(daemon, 43000)
    watched = usec()
    actor.do("bound('between', 'udp', '4', 44000)")
    reload(daemon, HIGH)
    assert {c["port"] for c in daemon.rows("now")[0]} == {43000, 44000, 48000}
    assert only(daemon, 43000) == stays
    between = only(daemon, 44000)  # known exactly, where an event told of it
    assert (between["opened_after_usec"] or between["opened_usec"]) >= watched - 1000_000
    assert only(daemon, 48000)["opened_after_usec"] < stays["opened_usec"] - 1000_000
    gone = only(daemon, 41000)
    # It was there when it was last looked for; that it ended is not known.
    assert gone["closed_usec"] is not None and gone["closed_usec"] == gone["closed_after_usec"]
    with sqlite3.connect(daemon.database) as db:
        ranges = [r[0] for r in db.execute("SELECT ranges FROM coverage ORDER BY id")]
    assert ranges == ["40000-44999", "43000-49999"]


def test_other_ranges_after_a_restart(make_daemon, actor):
    daemon = make_daemon(config=LOW).start()
    for port in (41000, 43000, 48000):
        actor.do(f"bound('u{port}', 'udp', '4', {port})")
    sync(daemon)
    stays = only(daemon, 43000)
    daemon.stop()
    daemon.config.write_text(f"[Capture]\nInterval=1h\n{HIGH}")
    daemon.start()
    assert {c["port"] for c in daemon.rows("now")[0]} == {43000, 48000}
    assert only(daemon, 43000) == stays
    # Nobody watched this port before: the end of the earlier session says nothing of it.
    assert only(daemon, 48000)["opened_after_usec"] < stays["opened_usec"] - 1000_000


def roles(daemon, port):
    return sorted(((c["role"], c["remote_port"]) for c in daemon.rows("now")[0] if c["port"] == port), key=str)


def accept_one(actor):
    at = actor.do("listener('l')")
    peer = actor.do(f"client('c', {at})")
    actor.do("accept('l', 'a')")
    return at, peer


def test_an_accepted_connection_stays_one_after_a_restart(make_daemon, actor):
    daemon = make_daemon().start()
    at, peer = accept_one(actor)
    assert roles(daemon, at) == [("accepted", peer), ("listening", None)]
    actor.do("close('l')")
    sync(daemon)
    assert roles(daemon, at) == [("accepted", peer)]
    daemon.kill()
    daemon.start()
    assert roles(daemon, at) == [("accepted", peer)]
    assert roles(daemon, peer) == [("connected", at)]


def test_an_accepted_connection_stays_one_after_a_reload(make_daemon, actor):
    daemon = make_daemon().start()
    at, peer = accept_one(actor)
    sync(daemon)
    actor.do("close('l')")
    sync(daemon)
    reload(daemon, "Ranges=1024-65535\n")
    assert roles(daemon, at) == [("accepted", peer)]
    assert roles(daemon, peer) == [("connected", at)]


def test_accepted_off_and_on(make_daemon, actor):
    daemon = make_daemon().start()
    at, peer = accept_one(actor)
    sync(daemon)
    watched = usec()
    reload(daemon, "Accepted=no\n")
    other = actor.do(f"client('c2', {at})")
    actor.do("accept('l', 'a2')")
    sync(daemon)
    # What was told is told to its end, what comes now is not told.
    assert roles(daemon, at) == [("accepted", peer), ("listening", None)]
    reload(daemon, "Accepted=yes\n")
    assert set(roles(daemon, at)) == {("accepted", peer), ("accepted", other), ("listening", None)}
    late = [c for c in daemon.rows("history", at)[0] if c["remote_port"] == other][0]
    assert late["pid"] == actor.pid
    assert late["opened_after_usec"] <= late["opened_usec"] and late["opened_after_usec"] >= watched - 1000_000


def test_exec_between_two_claims(make_daemon, actor):
    daemon = make_daemon().start()
    actor.do("set_name('66697273742d6e616d65')")
    first = actor.do("bound('a', 'udp')")
    sync(daemon)
    actor.do("set_name('7365636f6e642d6e616d65')")
    second = actor.do("bound('b', 'udp')")
    sync(daemon)
    assert only(daemon, first)["comm"] == "first-name"
    assert only(daemon, second)["comm"] == "second-name"


def test_a_burst_is_attributed_in_one_walk(make_daemon, make_actor):
    daemon = make_daemon().start()
    actors = [make_actor() for _ in range(5)]
    for i, actor in enumerate(actors):
        actor.do(f"[bound(f'u{{i}}', 'udp', '4', 40000 + {i} * 900 + i) for i in range(900)]")
    claims, _ = daemon.rows("now")
    assert len(claims) == 4500
    for i, actor in enumerate(actors):
        assert {c["pid"] for c in claims if (c["port"] - 40000) // 900 == i} == {actor.pid}


def test_what_ended_before_a_stop_is_not_held_until_it(make_daemon, actor):
    daemon = make_daemon(options=("--rung", "sweep")).start()
    port = actor.do("bound('u', 'udp')")
    sync(daemon)
    before = usec()
    actor.do("close('u')")
    stopped = usec()
    daemon.stop()
    daemon.start()
    ended = only(daemon, port)
    # Not "still there when we stopped": two sweeps missed it, and the last one that did not is the bound.
    assert ended["closed_after_usec"] <= before < stopped - 1 < ended["closed_usec"]
