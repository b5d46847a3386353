# SPDX-License-Identifier: MIT
"""A live daemon with a long history: recordings made by hand are replayed (tests/support/stream.py), so that sealing and
retention really run, and answers are held against each other before and after."""
import os
import signal
import sqlite3
import sys
import time

import pytest

from conftest import ROOT, wait_for

sys.path.append(str(ROOT / "tests/support"))
import stream  # noqa: E402

pytestmark = pytest.mark.any_rung

SEGMENT_ROWS = 16384  # LIMIT_SEGMENT_ROWS
NOW = int(time.time() * stream.SECOND)


def query(daemon, sql):
    database = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def replay(make_daemon, directory, count, per_sweep, **options):
    path = directory / "recording"
    recording = stream.Recording(path, NOW - (count // per_sweep + 60) * stream.SECOND, **options)
    recording.process(7, "churn")
    recording.churn(count, per_sweep, opener=7)
    recording.close()
    return make_daemon(options=("--replay", path)).start(), recording


def at_rest(daemon):
    """Sealed and pruned as far as is due."""
    wait_for(lambda: query(daemon, "SELECT count(*) FROM claim_hot")[0][0] < SEGMENT_ROWS, "the seals")


@pytest.mark.long
def test_all_is_kept_however_fast_it_comes(make_daemon, directory):
    """What waits for a commit is limited; a disk that takes everything must not lose a claim by that."""
    daemon, _ = replay(make_daemon, directory, 150_000, 3000)
    at_rest(daemon)
    assert query(daemon, "SELECT count(*),count(DISTINCT opened_usec) FROM claims") == [(150_000, 50)]
    assert query(daemon, "SELECT * FROM gap") == []
    assert daemon.call("org.portledger.ledger.Status")["recorded"] == 150_000


@pytest.mark.long
def test_retention_by_bytes_keeps_the_budget_and_says_what_expired(make_daemon, directory):
    budget = 4 << 20
    daemon, recording = replay(make_daemon, directory, 250_000, 5000, max_bytes=budget)
    at_rest(daemon)
    wait_for(lambda: query(daemon, "SELECT ((SELECT * FROM pragma_page_count())-(SELECT * FROM pragma_freelist_count()))"
                                   "*(SELECT * FROM pragma_page_size())")[0][0] <= budget, "retention")
    (kept, oldest), = query(daemon, "SELECT count(*),min(opened_usec) FROM claims")
    assert SEGMENT_ROWS < kept < 250_000
    assert query(daemon, "SELECT * FROM gap") == []  # expired, not lost
    assert (daemon.database).stat().st_size <= budget + (2 << 20)
    receipt = daemon.call("org.portledger.ledger.Who", {
        "port": 40000, "from_usec": oldest - 20 * stream.SECOND, "until_usec": oldest + 5 * stream.SECOND})["coverage"]
    assert [gap["reason"] for gap in receipt["gaps"]] == ["expired"]
    assert receipt["stretches"][0]["from_usec"] == receipt["gaps"][0]["until_usec"]
    assert daemon.call("org.portledger.ledger.Status")["degraded"] == []


@pytest.mark.parametrize("sweep", (3, pytest.param(20, marks=pytest.mark.long)))  # in the first segment, and in what is not sealed yet
def test_the_past_gives_the_same_bytes(make_daemon, directory, sweep):
    """Asked before and after sealing, and after a restart."""
    count, per_sweep = SEGMENT_ROWS * 2 - 5, 1500
    daemon, recording = replay(make_daemon, directory, count, per_sweep)
    port = 32768 + sweep * per_sweep + 100
    moment = (port, "--at", f"@{NOW // stream.SECOND - (count // per_sweep + 60) + sweep + 1}")
    commands = (("who", *moment, "-j"), ("who", *moment, "--csv"),
                ("history", port, "--since", f"@{NOW // stream.SECOND - 3600}",
                 "--until", f"@{recording.wall // stream.SECOND - 2}", "--json=short"))
    before = [daemon.client(*command).stdout for command in commands]
    assert all("churn" in answer for answer in before), before
    hot = query(daemon, "SELECT count(*) FROM claim_hot")
    daemon.stop()
    # A day and an hour later: everything is sealed.
    later = stream.Recording(directory / "recording", NOW + 25 * stream.HOUR, boot=1100 * stream.HOUR)
    later.sweep()
    later.move()
    later.sweep()
    later.close()
    daemon.start()
    wait_for(lambda: query(daemon, "SELECT count(*) FROM claim_hot") == [(0,)], "the seal")
    assert hot[0][0] > 0
    assert [daemon.client(*command).stdout for command in commands] == before


def test_nothing_is_replayed_twice(make_daemon, directory):
    """A ledger that dies in a replay has stored some of it: to go on would double that."""
    daemon, _ = replay(make_daemon, directory, 1000, 100)
    os.kill(daemon.child("pl-ledger"), signal.SIGKILL)
    wait_for(lambda: daemon.process.poll() is not None, "the daemon to give up")
    assert daemon.process.returncode == 1 and "replay it anew" in daemon.log.read_text()
    assert query(daemon, "SELECT count(*) FROM claims") == [(1000,)]
