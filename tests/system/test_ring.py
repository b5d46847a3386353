# SPDX-License-Identifier: MIT
"""The events' ring over the death of a daemon: what was told and not stored is told again, a loss is told once, and where the
kernel has recorded all the while there is no gap. The two lives are two recordings, so that this is the same on every kernel."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

import oracle
from conftest import PATIENCE, ROOT, SUPPORT, all_ended, wait_for

sys.path.append(str(ROOT / "tests/support"))
import stream  # noqa: E402

SECOND = stream.SECOND
BEGIN = int(time.time()) * SECOND - 600 * SECOND


class Life:
    """One life of the daemon: what it is told, from a moment (in seconds) on."""

    def __init__(self, make_daemon, directory, name, at, **options):
        options = {"generation": 9, "rung": 2, "udp_connect": 1, "failures": 1, **options}
        self.recording = stream.Recording(directory / name, BEGIN + at * SECOND, boot=1000 * stream.HOUR + at * SECOND, **options)
        self.recording.process(7, "curl")
        self.make_daemon, self.daemon = make_daemon, None

    def start(self):
        self.recording.close()
        self.daemon = self.make_daemon(options=("--replay", self.recording.file.name)).start()
        self.daemon.call("org.portledger.ledger.Sync")
        return self.daemon


def rows(daemon, sql):
    database = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def first_life(make_daemon, directory):
    """Claims 1 and 2 are opened and told to the end; 3 to 5 come behind the last place, and 3 and 2 have ended."""
    life = Life(make_daemon, directory, "first", 0)
    r = life.recording
    r.sweep()
    for cookie in (1, 2):
        r.move()
        r.event(cookie, 40000 + cookie, opener=7)
    r.closed(1)
    r.drained(50, lost=2)
    r.move()
    tell_the_rest(r)
    return life


def tell_the_rest(r):
    for cookie in (3, 4, 5):
        r.event(cookie, 40000 + cookie, opener=7)
    r.failure(40004, process=7)
    r.closed(2)
    r.closed(3)


def second_life(make_daemon, directory, **options):
    life = Life(make_daemon, directory, "second", 3, **options)
    tell_the_rest(life.recording)
    life.recording.move()
    life.recording.closed(5)
    life.recording.drained(100, lost=5)
    life.recording.move()
    life.recording.present(4, 40004)
    life.recording.sweep()
    life.recording.move()
    life.recording.drained(120, lost=5)
    life.recording.sweep()
    return life


CLAIMS = [(40001, 1, 2), (40002, 2, 3), (40003, 3, 3), (40004, 3, None), (40005, 3, 4)]


def claims(daemon):
    seconds = f"(opened_usec-{BEGIN})/1000000,(released_usec-{BEGIN})/1000000"
    return rows(daemon, f"SELECT port,{seconds} FROM claims ORDER BY port,opened_usec")


def test_a_kill_loses_nothing_and_makes_nothing_two(make_daemon, directory):
    first = first_life(make_daemon, directory).start()
    # the question was answered in the midst of what the ring told: what has ended there is known
    assert [c[0] for c in claims(first)] == [40001, 40002, 40003, 40004, 40005]
    first.kill()
    second = second_life(make_daemon, directory).start()
    assert claims(second) == CLAIMS
    assert rows(second, "SELECT reason,sum(lost) FROM gap GROUP BY reason") == [("events-lost", 5)]
    assert rows(second, "SELECT count(*),min(holder_comm) FROM failures") == [(1, "curl")]
    assert {p for p, in rows(second, "SELECT comm FROM claims")} == {"curl"}
    second.kill()
    # told a third time, with nothing new
    third = Life(make_daemon, directory, "third", 6)
    third.recording.drained(120, lost=5)
    third.recording.present(4, 40004)
    third.recording.sweep()
    third = third.start()
    assert claims(third) == CLAIMS
    assert rows(third, "SELECT reason,sum(lost) FROM gap GROUP BY reason") == [("events-lost", 5)]
    # from the first sweep on it was watched: one stretch over three lives, and what was lost is all that is missing
    window = {"since_usec": BEGIN, "until_usec": BEGIN + 6 * SECOND}
    receipt = third.call("org.portledger.ledger.Claims", window)["coverage"]
    assert [(s["from_usec"], s["until_usec"], s["source"]) for s in receipt["stretches"]] == [
        (BEGIN, BEGIN + 6 * SECOND, "events")]
    assert receipt["lost"] == 5 and not receipt["complete"]
    # of the last three seconds nothing is missing
    window["since_usec"] = BEGIN + 4 * SECOND + 1
    whole = third.call("org.portledger.ledger.Claims", window)["coverage"]
    assert whole["complete"] and whole["lost"] == 0 and whole["gaps"] == []
    assert "complete" in third.client("who", 40004, "--at", f"@{BEGIN // SECOND + 5}").stdout


@pytest.mark.parametrize("options", [{"generation": 8}, {"generation": 0, "rung": 0}, {"udp_connect": 0}],
                         ids=["another ring", "no ring", "another way"])
def test_a_break_is_a_gap(make_daemon, directory, options):
    first = first_life(make_daemon, directory).start()
    first.kill()
    life = Life(make_daemon, directory, "second", 10, **options)
    life.recording.sweep()
    second = life.start()
    gaps = rows(second, f"SELECT reason,lost,(until_usec-{BEGIN})/1000000 FROM gap WHERE reason<>'events-lost'")
    assert gaps == [("killed", None, 10)]
    receipt = second.call("org.portledger.ledger.Claims", {"since_usec": BEGIN, "until_usec": BEGIN + 10 * SECOND})["coverage"]
    assert not receipt["complete"]


def test_a_ring_that_began_in_a_life_without_a_sweep(make_daemon, directory):
    """It has recorded since, but not since somebody watched."""
    first_life(make_daemon, directory).start().kill()
    second = Life(make_daemon, directory, "second", 10, generation=8)
    second.recording.event(9, 40009, opener=7)
    second.recording.drained(10)
    second.start().kill()
    third = Life(make_daemon, directory, "third", 20, generation=8)
    third.recording.drained(10)
    third.recording.sweep()
    third = third.start()
    gaps = rows(third, f"SELECT reason,lost,(until_usec-{BEGIN})/1000000 FROM gap WHERE reason<>'events-lost'")
    assert gaps == [("killed", None, 20)]
    assert len(rows(third, "SELECT 1 FROM claims WHERE port=40009")) == 1


def test_a_new_ring_counts_from_nothing(make_daemon, directory):
    first_life(make_daemon, directory).start().kill()
    life = Life(make_daemon, directory, "second", 10, generation=8)
    life.recording.sweep()
    life.recording.drained(10, lost=1, lost_ends=4)
    life.recording.sweep()
    second = life.start()
    assert rows(second, "SELECT reason,sum(lost) FROM gap WHERE reason<>'killed' GROUP BY reason ORDER BY 1") == [
        ("ends-lost", 0), ("events-lost", 3)]
    status = json.loads(second.client("status", "--json=short").stdout)
    assert (status["lost"], status["lost_ends"], status["found_only_by_sweep"]) == (1, 4, 0)
    text = second.client("status").stdout
    assert "1 claim lost, 4 ends lost; 0 found only by sweep" in text and "failures are watched" in text


@pytest.mark.parametrize("what", ("ledger", pytest.param("ledger, in the midst of an answer", marks=pytest.mark.long)))
def test_the_ledger_killed_under_load(make_daemon, namespace, directory, what):
    """kill -9, three times, while claims of less than a millisecond are made: each is recorded, once, and with its process."""
    daemon = make_daemon(options=("--rung", "events")).start()
    load = subprocess.Popen(namespace.enter(SUPPORT / "churn", "--exe", directory, "--count", 60_000, "--rate", 3000, "--seed", 7),
                            stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: daemon.call("org.portledger.ledger.Status")["recorded"] > 500, "the load to be on its way")
        for i in range(3):
            assert load.poll() is None
            before = daemon.child("pl-ledger")
            if "answer" in what:
                daemon.call("org.portledger.ledger.Sync")
            os.kill(before, signal.SIGKILL)
            wait_for(lambda: daemon.answers() and daemon.child("pl-ledger") != before, "another ledger")
        load.send_signal(signal.SIGUSR1)  # no more than what has been begun
        truth = oracle.Truth(load.communicate(timeout=PATIENCE)[0])
    finally:  # a load that goes on would be every other test's
        load.kill()
        load.wait()
    all_ended(daemon, truth)
    result = oracle.compare(daemon.database, [truth], source="events", attribution="event")
    assert result.is_exact(), str(result)
    assert rows(daemon, "SELECT * FROM gap") == []
    begin = min(c["open_before"] for c in truth.claims) // 1000
    receipt = daemon.call("org.portledger.ledger.Claims", {"since_usec": begin, "limit": 1})["coverage"]
    assert receipt["complete"] and receipt["lost"] == 0 and len(receipt["stretches"]) == 1, receipt
