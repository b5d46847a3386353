# SPDX-License-Identifier: MIT
"""kill -9 of all three processes at any moment, from their start on, while claims are made (tests/support/churn.c): the database is whole
each time, what was committed stays, and what was missed lies in a gap (tests/support/oracle.py)."""
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

import oracle
from conftest import PATIENCE, SUPPORT, all_ended

# check --full and --soak; a failure says the seed
KILLS = int(os.environ.get("PORTLEDGER_KILLS", 200 if os.environ.get("PORTLEDGER_FULL") else 20))
SEED = int(os.environ.get("PORTLEDGER_SEED", random.randrange(1 << 32)))
RATE = 150
# Not MPTCP: what is left of it in TIME_WAIT, if a sweep sees no more of it, is TCP.
KINDS = "tcp4,tcp6,nonblock,rst,exec,refused,listen-bind,listen,bound,udp-send,udp-connect,udp-bind,mapped,udplite"
CHURN = [SUPPORT / "churn", "--rate", RATE, "--count", 3 * RATE, "--parallel", 1, "--uids", "0,1,1000,65534", "--kinds", KINDS]
KEY = ("netns", "protocol", "port", "opened_usec", "pid")


class Load:
    """One run of the load after the other, until stopped; `truths` has what they made."""

    def __init__(self, namespace, directory):
        self.namespace, self.directory, self.truths = namespace, directory, []
        self.failure, self.stopping = None, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                command = self.namespace.enter(*CHURN, "--exe", self.directory, "--seed", len(self.truths))
                output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE).stdout
                self.truths.append(oracle.Truth(output))
        except (OSError, subprocess.SubprocessError, ValueError) as e:
            self.failure = e

    def stop(self):
        self.stopping.set()
        self.thread.join(2 * PATIENCE)
        assert self.failure is None, self.failure


@contextlib.contextmanager
def reading(daemon):
    db = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()


def committed(daemon, since):
    """What any other process sees of the claims that were opened since then, and whether all is whole."""
    with reading(daemon) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if db.execute("SELECT count(*) FROM sqlite_schema WHERE name='claims'").fetchone() == (0,):
            return set()  # killed before the tables were made
        return set(db.execute(f"SELECT {','.join(KEY)} FROM claims WHERE opened_usec>=?", (since,)))


def live(daemon, dice):
    """One life, which may end before the daemon answers."""
    if dice.random() < 0.3:
        daemon.spawn()
    else:
        daemon.start()
        if dice.random() < 0.5:
            daemon.call("org.portledger.ledger.Sync")
    time.sleep(dice.uniform(0.005, 0.4))
    assert daemon.process.poll() is None, daemon.log.read_text()
    daemon.process.send_signal(signal.SIGSTOP)  # no child comes after we have looked
    daemon.kill()


def live_and_die(daemon, dice, kills):
    """What was committed at each end."""
    shown = set()
    for number in range(kills):
        began = time.time_ns() // 1000
        live(daemon, dice)
        if daemon.database.exists():
            try:
                shown |= committed(daemon, began - 2_000_000)
            except sqlite3.Error as e:
                raise AssertionError(f"kill {number}: {e}") from e
    return shown


def check_missing(daemon, missing):
    """What nobody told of lies in a time in which the ledger does not say that it watched, or in a gap."""
    with reading(daemon) as db:
        gaps = db.execute("SELECT from_usec*1000,until_usec*1000 FROM gap").fetchall()
        watched = db.execute("SELECT from_usec*1000,until_usec*1000 FROM coverage").fetchall()
    wrong = [c for c in missing if any(begin < c["open_before"] and c["close_after"] < end for begin, end in watched)
             and not any(begin <= c["close_after"] and c["open_before"] <= end for begin, end in gaps)]
    assert not wrong, f"seed {SEED}: {len(wrong)} claims are missing where it was watched: {wrong[:3]}"


@pytest.mark.long
def test_random_kills(make_daemon, namespace, directory):
    print(f"seed {SEED}")
    daemon = make_daemon(interval="1s")
    load = Load(namespace, directory)
    try:
        shown = live_and_die(daemon, random.Random(SEED), KILLS)
    finally:
        load.stop()
    daemon.start()
    all_ended(daemon, *load.truths)
    with reading(daemon) as db:
        kept = set(db.execute(f"SELECT {','.join(KEY)} FROM claims"))
    gone = shown - kept
    assert not gone, f"seed {SEED}: {len(gone)} of {len(shown)} claims that were committed are gone: {list(gone)[:5]}"
    result = oracle.compare(daemon.database, load.truths, lossy=True)
    print(f"{KILLS} kills, {len(shown)} claims were committed at one of them; {result.made} made, {result.recorded} recorded")
    assert not result.wrong and not result.invented, f"seed {SEED}: {result}"
    assert result.recorded > KILLS and shown
    check_missing(daemon, result.missing)
