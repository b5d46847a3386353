# SPDX-License-Identifier: MIT
"""Exports: every released claim once, in the order of release, whole or bit by bit, in three forms."""
import csv
import io
import json
import os
import pty
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from conftest import CLIENT, PATIENCE, wait_for

pytestmark = pytest.mark.any_rung


def released(daemon):
    """What the view has, as dicts in the order of release; `user` is the client's to say."""
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        rows = db.execute("SELECT * FROM claims WHERE released_usec IS NOT NULL ORDER BY released_usec,opened_usec,port").fetchall()
    return [{**dict(row), "holders": json.loads(row["holders"]), "user": None} for row in rows]


def lines_of(text):
    """The claims of one or more runs, and the last line of each."""
    rows, ends = [], []
    for line in text.splitlines():
        record = json.loads(line)
        (ends if "coverage" in record else rows).append(record)
    return [{**row, "user": None} for row in rows], ends


def by_release(rows):
    return sorted(rows, key=lambda r: (r["released_usec"], r["opened_usec"], r["port"]))


def round_of(daemon, actor, count):
    actor.do(f"[bound(f'u{{i}}', 'udp') for i in range({count})]")
    daemon.call("org.portledger.ledger.Sync")
    actor.do("close_all()")
    for _ in range(3):  # what was told late is released by a sweep
        daemon.call("org.portledger.ledger.Sync")


SEGMENTS, ROWS = 12, 2000
BASE = 1_790_000_000_000_000
META = 3 << 5 | 1 << 12  # tcp, connected, procfd, the local address with id 1


@pytest.fixture(name="history")
def make_history(make_daemon):
    """A daemon that remembers 24,000 claims, in segments, of which many were released at the same moment."""
    daemon = make_daemon(config="[Store]\nMaxAge=10000d\n").start()
    daemon.stop()
    with sqlite3.connect(daemon.database) as db:
        db.execute("INSERT INTO app VALUES(1,'/usr/bin/curl',0,'curl',0,NULL,NULL,?)", (BASE,))
        db.execute("INSERT INTO process(id,app,session,pid,last_seen_usec) VALUES(1,1,1,7,?)", (BASE,))
        db.execute("INSERT INTO local(id,netns,address) VALUES(1,(SELECT min(id) FROM netns),'10.0.0.5')")
        for segment in range(1, SEGMENTS + 1):
            base = BASE + segment * 60_000_000
            rows = [(segment, 32768 + i * 7 % 20000, i * 10_000, 0, (i * 37 % 400) * 1000, 0, 0, None, META, 443, 1, b"\xc0\x00\x02\x01")
                    for i in range(ROWS)]
            ends = [base + r[2] + r[4] for r in rows]
            db.execute("INSERT INTO segment VALUES(?,?,?,?,?,?,0,?,0,0)", (
                segment, base, min(ends), max(ends), base, base + rows[-1][2], ROWS))
            db.executemany("INSERT INTO claim_seg VALUES(?,?,?,?,?,?,?,?,?,?,?,?)", rows)
    return daemon.start()


def test_all_that_the_view_has(daemon, actor):
    round_of(daemon, actor, 40)
    actor.do("bound('open', 'udp')")
    result = daemon.client("export")
    assert result.returncode == 0, result.stderr
    rows, ends = lines_of(result.stdout)
    assert rows == by_release(rows) and len(rows) == 40
    assert by_release(rows) == by_release(released(daemon))
    assert len(ends) == 1 and ends[0]["total"]["claims"] == 40 and ends[0]["coverage"]["stretches"]
    text = daemon.client("export", "--format=csv")
    table = list(csv.DictReader(io.StringIO(text.stdout)))
    assert [r["port"] for r in table] == [str(r["port"]) for r in rows] and text.stderr.startswith("Coverage: ")
    assert list(table[0]) == list(rows[0])
    opened, _ = lines_of(daemon.client("export", "--open").stdout)
    assert len(opened) == 41 and opened[-1]["released_usec"] is None
    assert daemon.client("export", "--app", "no-such").returncode == 1
    assert daemon.client("export", "--strict").returncode == 6


def test_gone_on_with(daemon, actor, make_actor, directory):
    """Three times with a file of the cursor, and between them more: each claim once, none left out."""
    place, total = directory / "cursor", 0
    text = ""
    for count in (30, 0, 50):
        round_of(daemon, actor, count)
        make_actor().do("bound('keeps on', 'udp')")
        result = daemon.client("export", "--cursor-file", place)
        assert result.returncode == (0 if count else 1), result.stderr
        text += result.stdout
        total += count
        rows, _ = lines_of(text)
        assert by_release(rows) == by_release(released(daemon))
    rows, ends = lines_of(text)
    assert len(ends) == 3 and len({(r["port"], r["opened_usec"]) for r in rows}) == len(rows) == total
    assert place.read_text().strip() == ends[-1]["total"]["cursor"]
    # the same cursor by hand
    again, _ = lines_of(daemon.client("export", "--cursor", ends[0]["total"]["cursor"]).stdout)
    first, _ = lines_of(text.partition('{"coverage"')[0])
    assert first + again == rows
    assert daemon.client("export", "--cursor", "nonsense").returncode == 2
    assert daemon.client("export", "--cursor", "x", "--cursor-file", place).returncode == 2
    assert not os.path.exists(f"{place}.new")


def test_where_it_goes_is_a_file(daemon, actor, directory):
    """No name means a database in memory, which would be gone with the evidence; what is no file is not replaced by a cursor."""
    round_of(daemon, actor, 3)
    for name in (":memory:", "file:x?mode=memory"):
        assert daemon.client("export", "--format=sqlite", "--to", name, cwd=directory).returncode == 0
        with sqlite3.connect(directory / name) as db:
            assert db.execute("SELECT count(*) FROM claims").fetchone() == (3,)
    nowhere = daemon.client("export", "--format=sqlite", "--to", "")
    assert nowhere.returncode == 2 and "needs a file" in nowhere.stderr
    os.mkfifo(directory / "pipe")
    for place in (directory / "pipe", directory):
        refused = daemon.client("export", "--cursor-file", place)
        assert refused.returncode == 5 and "no regular file" in refused.stderr and refused.stdout == ""
    assert (directory / "pipe").is_fifo()


@pytest.mark.parametrize("by", ["--to", ">>"])
def test_half_a_row_spoils_no_other(daemon, actor, directory, by):
    """What a job that was killed amid a row has left is a line of its own; the next run's rows are whole."""
    place, target = directory / "cursor", directory / "claims.ndjson"
    for count in (5, 7):
        round_of(daemon, actor, count)
        to, out = (["--to", target], subprocess.DEVNULL) if by == "--to" else ([], open(target, "ab"))  # pylint: disable=R1732
        command = [CLIENT, "--socket", daemon.socket, "export", "--cursor-file", place, *to]
        assert subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=PATIENCE, check=False).returncode == 0
        if count == 5:
            with open(target, "ab") as f:
                f.write(b'{"port":40')
    text = target.read_text()
    assert text.count('{"port":40\n') == 1
    rows, ends = lines_of(text.replace('{"port":40\n', ""))
    assert by_release(rows) == by_release(released(daemon)) and len(rows) == 12 and len(ends) == 2


def test_the_place_is_not_ahead_of_its_rows(daemon, actor, directory):
    """A power cut: the rows are on the disk before the cursor behind them is."""
    place, target, trace = directory / "cursor", directory / "claims.ndjson", directory / "trace"
    round_of(daemon, actor, 5)
    sanitizer = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}  # is a tracer itself
    done = subprocess.run(["strace", "-qq", "-y", "-e", "trace=fsync,rename,renameat,renameat2,write", "-o", trace, CLIENT, "--socket",
                           daemon.socket, "export", "--cursor-file", place, "--to", target], env={**os.environ, **sanitizer},
                          capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done
    calls = trace.read_text().splitlines()
    written, synced, moved = ([i for i, call in enumerate(calls) if call.startswith(name) and what in call] for name, what in (
        ("write(", f"{target}>"), ("fsync(", f"{target}>"), ("rename", "cursor")))
    assert written and moved and any(written[-1] < i < moved[-1] for i in synced), calls


def test_sqlite(daemon, actor, directory):
    target = directory / "claims.db"
    for count in (20, 30):
        round_of(daemon, actor, count)
        result = daemon.client("export", "--format=sqlite", "--to", target)
        assert result.returncode == 0 and f"{count} claims added" in result.stderr, result.stderr
    with sqlite3.connect(target) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(r) for r in db.execute("SELECT * FROM claims ORDER BY rowid")]
        exported = [{**r, "holders": json.loads(r["holders"]), "user": None} for r in rows]
        assert by_release(exported) == by_release(released(daemon)) and len(exported) == 50
        assert {r["user"] for r in rows} == {"root"}
        assert db.execute("SELECT count(*) FROM receipt").fetchone()[0] == 2
        plan = " ".join(r["detail"] for r in db.execute("EXPLAIN QUERY PLAN SELECT * FROM claims WHERE port=1"))
        assert "USING INDEX claims_port" in plan
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    # what is open is there once, however often it is asked for
    actor.do("bound('open', 'udp')")
    for _ in range(2):
        daemon.client("export", "--format=sqlite", "--to", target, "--open")
        with sqlite3.connect(target) as db:
            assert db.execute("SELECT count(*) FROM claims WHERE released_usec IS NULL").fetchone()[0] == 1
    # somebody else's database stays as it is
    other = directory / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t(x)")
    before = other.read_bytes()
    result = daemon.client("export", "--format=sqlite", "--to", other)
    assert result.returncode == 5 and "not one of an export" in result.stderr and other.read_bytes() == before
    assert daemon.client("export", "--format=sqlite").returncode == 2
    assert daemon.client("export", "--format=sqlite", "--to", target, "--columns", "port").returncode == 2
    assert daemon.client("export", "--format=sqlite", "--to", directory / "no/such").returncode == 5


@pytest.mark.long
def test_killed_and_gone_on_with(history, directory):
    """kill -9 at any moment: the database has whole pages and their cursor, and the next run adds the rest."""
    daemon = history
    target = directory / "claims.db"
    command = [CLIENT, "--socket", daemon.socket, "export", "--format=sqlite", "--to", target]

    def count():
        try:
            with sqlite3.connect(f"file:{target}?mode=ro", uri=True) as db:
                return db.execute("SELECT count(*) FROM claims").fetchone()[0]
        except sqlite3.OperationalError:
            return 0

    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = count()
        wait_for(lambda: count() > before or process.poll() is not None, "a page")
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    assert subprocess.run(command, capture_output=True, timeout=5 * PATIENCE, check=False).returncode in (0, 1)
    with sqlite3.connect(target) as db:
        exported = db.execute("SELECT port,opened_usec,released_usec,pid,remote_port FROM claims ORDER BY 3,2,1,4,5").fetchall()
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        wanted = db.execute("SELECT port,opened_usec,released_usec,pid,remote_port FROM claims"
                            " WHERE released_usec IS NOT NULL ORDER BY 3,2,1,4,5").fetchall()
    assert len(wanted) == SEGMENTS * ROWS and exported == wanted


@pytest.mark.long
def test_constant_memory_and_order(history, directory):
    daemon = history
    peak = {}
    for limit in ("", "--app=no-such-app"):
        command = [str(CLIENT), "--socket", daemon.socket, "export", *filter(None, [limit])]
        with open(directory / "out", "wb") as out:
            result = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=out, stderr=subprocess.PIPE, text=True,
                                    timeout=5 * PATIENCE, check=False)
        assert result.returncode == (1 if limit else 0), result.stderr
        peak[limit] = int(result.stderr.splitlines()[-1])
    assert peak[""] < peak["--app=no-such-app"] + 8192, peak  # KiB
    with open(directory / "out", encoding="utf-8") as out:
        assert json.loads(out.readline())["total"]["claims"] == 0
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
    rows, _ = lines_of(daemon.client("export").stdout)
    assert [r["released_usec"] for r in rows] == sorted(r["released_usec"] for r in rows) and len(rows) == SEGMENTS * ROWS


# What a command's largest process took, in KiB.
MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.long
def test_a_reader_that_is_too_slow_misses_nothing(history, directory):
    """The daemon cuts who takes nothing; the client asks again from its cursor."""
    daemon = history
    process = subprocess.Popen([CLIENT, "--socket", daemon.socket, "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(12)  # longer than the daemon waits for a reader (10 s): nothing else shows that it cut us
    out, said = process.communicate(timeout=5 * PATIENCE)
    assert b"closed the connection" in said
    rows, ends = lines_of(out.decode())
    assert process.returncode == 0 and len(ends) == 1 and len(rows) == ends[0]["total"]["claims"]
    assert by_release(rows) == by_release(released(daemon))


@pytest.mark.long
def test_progress_is_for_a_terminal(history, directory):
    daemon = history
    master, slave = pty.openpty()
    with open(directory / "out", "wb") as out:
        process = subprocess.Popen([CLIENT, "--socket", daemon.socket, "export", "-S", "2000-01-01"], stdout=out, stderr=slave)
    os.close(slave)
    data = b""
    try:
        while chunk := os.read(master, 65536):
            data += chunk
    except OSError:
        pass  # EIO: the other end is closed
    os.close(master)
    assert process.wait(PATIENCE) == 0
    assert b"claims, up to " in data and data.endswith(b"\r\033[K")
    assert b"\r" not in daemon.client("export").stderr.encode()


def test_a_cursor_of_the_future(daemon, actor, directory):
    """It would be behind claims that are not released yet: refused, not answered with an empty answer that is called complete."""
    round_of(daemon, actor, 3)
    place = directory / "cursor"
    ahead = f"r1.{time.time_ns() // 1000 + 3600_000_000}.0"
    place.write_text(ahead + "\n")
    for arguments in (("--cursor", ahead), ("--cursor-file", place)):
        result = daemon.client("export", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert "the cursor is later than the clock there: it is another daemon's, or the clock was set back" in result.stderr
    assert place.read_text() == ahead + "\n"
    result = daemon.client("export", "--cursor", "nonsense")
    assert (result.returncode, result.stderr) == (2, "portledger: that is no cursor of an export\n")
    # nor is one given to who asks up to a moment that is still to come
    begun = time.time_ns() // 1000
    reply = daemon.call("org.portledger.ledger.Released", {"until_usec": begun + 3600_000_000})
    assert reply["last"] and len(reply["claims"]) == 3
    assert begun <= int(reply["cursor"].split(".")[1]) <= time.time_ns() // 1000
    assert reply["coverage"]["until_usec"] <= time.time_ns() // 1000


def test_forms_are_said_by_format(daemon):
    for wrong in (["--json=short"], ["--csv"], ["-F", "port"], ["-j"], ["--format=xml"]):
        result = daemon.client("export", *wrong)
        assert result.returncode == 2 and "--format" in result.stderr, wrong
    assert daemon.client("export", "--json=off").returncode == 2
    # what is refused is not offered
    for verb, offered in (("export", ()), ("report", ()), ("annotate", ("--json", " -j ")),
                          ("audit", ("--json", " -j ", "--csv", "--field="))):
        text = daemon.client(verb, "--help").stdout
        assert [option for option in ("--json", " -j ", "--csv", "--field=") if option in text] == list(offered), verb
    blind = daemon.client("export", "-U", "2001-01-01")
    assert blind.returncode == 1 and json.loads(blind.stdout)["coverage"]["stretches"] == []
