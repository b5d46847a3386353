# SPDX-License-Identifier: MIT
"""portledgerd --forget: rows go, and their bytes; what is somebody else's stays; an answer says that something went."""
import sqlite3
import subprocess
import sys
import time

import pytest

from conftest import DAEMON, ROOT

sys.path.append(str(ROOT / "tests/support"))
import stream  # noqa: E402

pytestmark = pytest.mark.any_rung

NOW = int(time.time() * stream.SECOND)
BEGIN = NOW - 3600 * stream.SECOND
SECRET, PUBLIC = "q7secretprogram", "publicprogram"
SECRET_PEER, PUBLIC_PEER = b"\xc6\x33\x64\x4d", b"\xc0\x00\x02\x07"


def forget(daemon, *options):
    return subprocess.run([DAEMON, "--state", daemon.state, *map(str, options)], capture_output=True, text=True, check=False,
                          timeout=60)


def bytes_of(daemon):
    return b"".join(f.read_bytes() for f in daemon.state.iterdir())


def at(usec):
    return f"@{usec // stream.SECOND}"


@pytest.fixture
def daemon(make_daemon, directory):
    """Two users, 40 claims each of one, three long claims, of which two are still open, and failures."""
    recording = stream.Recording(directory / "recording", BEGIN)
    recording.process(7, SECRET, pid=7, uid=4242)
    recording.process(8, PUBLIC, pid=8, uid=4243)
    for cookie in range(1, 81):
        recording.present(cookie, 40000 + cookie, opener=7 + cookie % 2, remote=((SECRET_PEER, PUBLIC_PEER)[cookie % 2], 443))
    recording.present(100, 41000, opener=7, remote=(SECRET_PEER, 22))
    recording.present(101, 41001, opener=8, remote=(PUBLIC_PEER, 22))
    recording.failure(40001, process=7, call=2, remote=(SECRET_PEER, 443))
    recording.sweep(82)
    recording.move()
    for cookie in range(1, 81):
        recording.absent(cookie)
    for _ in range(3):
        recording.sweep(2)
        recording.move()
    recording.close()
    return make_daemon(options=("--replay", directory / "recording")).start()


def rows(daemon, sql):
    database = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_a_daemon_runs(daemon):
    before = rows(daemon, "SELECT count(*) FROM claims")
    refused = forget(daemon, "--forget", "uid:4242")
    assert refused.returncode == 75 and "(pid " in refused.stderr and refused.stdout == "", refused
    assert rows(daemon, "SELECT count(*) FROM claims") == before == [(82,)]


def test_a_user(daemon):
    daemon.stop()
    assert SECRET.encode() in bytes_of(daemon) and SECRET_PEER in bytes_of(daemon)
    done = forget(daemon, "--forget", "uid:4242")
    assert done.returncode == 0 and done.stdout.endswith(" rows erased\n") and int(done.stdout.split()[0]) >= 42, done
    left = bytes_of(daemon)
    assert SECRET.encode() not in left and SECRET_PEER not in left
    assert PUBLIC.encode() in left and PUBLIC_PEER in left
    assert rows(daemon, "SELECT comm,count(*) FROM claims GROUP BY comm") == [(PUBLIC, 41)]
    assert rows(daemon, "SELECT count(*) FROM failures") == [(0,)]
    assert rows(daemon, "PRAGMA integrity_check") == [("ok",)]
    # again: nothing is left to go
    assert forget(daemon, "--forget", "uid:4242").stdout == "0 rows erased\n"
    # and what is left is gone on with
    daemon.options = daemon.options[2:]
    daemon.start()
    answer = daemon.call("org.portledger.ledger.Who", {
        "port": 40001, "from_usec": BEGIN, "until_usec": BEGIN + 2 * stream.SECOND})["coverage"]
    assert "forgotten" in [gap["reason"] for gap in answer["gaps"]] and not answer["complete"]


def test_a_window(daemon):
    daemon.stop()
    done = forget(daemon, "--forget-since", at(BEGIN - stream.SECOND), "--forget-until", at(BEGIN + 60 * stream.SECOND))
    assert done.returncode == 0, done
    left = bytes_of(daemon)
    assert not any(secret in left for secret in (SECRET.encode(), PUBLIC.encode(), SECRET_PEER, PUBLIC_PEER))
    assert rows(daemon, "SELECT count(*) FROM claims") == [(0,)]
    assert rows(daemon, "SELECT reason,lost FROM gap WHERE reason='forgotten'") == [("forgotten", None)]


def test_a_user_in_another_window(daemon):
    daemon.stop()
    done = forget(daemon, "--forget", "uid:4242", "--forget-since", at(BEGIN - 600 * stream.SECOND), "--forget-until",
                  at(BEGIN - 300 * stream.SECOND))
    assert (done.returncode, done.stdout) == (0, "0 rows erased\n"), done
    assert rows(daemon, "SELECT count(*) FROM claims") == [(82,)]


def test_a_reader_is_told(daemon):
    """Who reads keeps the WAL from being emptied: that is said, and done again it is done."""
    daemon.stop()
    reader = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM claims").fetchall()
    refused = forget(daemon, "--forget", "uid:4242")
    assert refused.returncode == 1 and "somebody reads" in refused.stderr, refused
    reader.close()
    assert forget(daemon, "--forget", "uid:4242").returncode == 0
    assert SECRET.encode() not in bytes_of(daemon)


@pytest.mark.parametrize("words", (
    ("--forget", "4242"), ("--forget", "uid:"), ("--forget", "uid:no-such-user"), ("--forget", "uid:-1"),
    ("--forget", "uid:4294967295"), ("--forget-since", "@1"), ("--forget-until", "@1"),
    ("--forget-since", "@2", "--forget-until", "@2"), ("--forget-since", "never", "--forget-until", "@2")))
def test_wrong_words(directory, words):
    wrong = subprocess.run([DAEMON, "--state", directory, *words], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2 and "--forget" in wrong.stderr, wrong


def test_no_database(directory):
    none = subprocess.run([DAEMON, "--state", directory, "--forget", "uid:1"], capture_output=True, text=True, check=False,
                          timeout=60)
    assert none.returncode == 1 and "no database" in none.stderr, none
    assert not (directory / "portledger.db").exists()
