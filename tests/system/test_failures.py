# SPDX-License-Identifier: MIT
"""Binds and connects that failed: who failed, who had the port, and whether anybody was watching. The history is replayed, so
that it is the same on every kernel; what the kernel tells is another test's matter."""
import csv
import io
import json
import sys
import time

import pytest

from conftest import ROOT
from test_eighty_columns import on_a_terminal

sys.path.append(str(ROOT / "tests/support"))
import stream  # noqa: E402

SECOND = stream.SECOND
NOW = int(time.time()) * SECOND
LISTENING, BOUND = 1, 2


def record(directory, **options):
    """Ten minutes ago: nginx listens on 40080, and two others want it; somebody finds no port to connect from."""
    r = stream.Recording(directory / "recording", NOW - 600 * SECOND, rung=2, generation=9, **options)
    r.process(1, "nginx", unit="nginx.service", uid=33)
    r.process(2, "node", unit="app.service")
    r.process(3, "curl", uid=0)
    r.sweep()
    r.move()
    r.event(7, 40080, opener=1, role=LISTENING, local=b"\0\0\0\0")
    r.move()
    r.failure(40080, process=2)
    r.failure(40080, process=3, local=b"\x7f\0\0\2")
    r.move()
    r.closed(7)
    r.failure(40080, process=2)
    r.failure(50000, process=2, protocol=1, error=2, local=b"\x0a\0\0\1")
    r.failure(0, process=3, call=2, error=2, local=b"\0\0\0\0", remote=(b"\xc0\0\2\1", 443))
    r.drained(100)
    r.move()
    r.sweep()
    return r


@pytest.fixture(name="watched")
def _watched(make_daemon, directory):
    r = record(directory, failures=1)
    r.close()
    return make_daemon(options=("--replay", r.file.name)).start()


SINCE, UNTIL = NOW - 600 * SECOND, NOW - 596 * SECOND
WINDOW = ("-S", f"@{SINCE // SECOND}", "-U", f"@{UNTIL // SECOND}")


def test_who_failed_and_who_had_the_port(watched):
    rows, receipt = watched.rows("failures", *WINDOW)
    held = [(r["comm"], r["call"], r["error"], r["port"], r["protocol"], r["holder_comm"], r["holder_pid"], r["holder_unit"],
             r["holder_role"]) for r in rows]
    nginx = ("nginx", 1, "nginx.service", "listening")
    nobody = (None, None, None, None)
    assert held == [
        ("node", "bind", "in_use", 40080, "tcp", *nginx), ("curl", "bind", "in_use", 40080, "tcp", *nginx),
        ("node", "bind", "in_use", 40080, "tcp", *nobody), ("node", "bind", "not_available", 50000, "udp", *nobody),
        ("curl", "connect", "not_available", None, "tcp", *nobody)]
    assert rows[1]["local_address"] == "127.0.0.2" and rows[1]["user"] == "root" and rows[0]["unit"] == "app.service"
    assert (rows[4]["remote_address"], rows[4]["remote_port"]) == ("192.0.2.1", 443)
    assert rows[0]["holder_opened_usec"] == rows[0]["usec"] - SECOND
    assert receipt["complete"] and receipt["lost"] == 0 and [s["failures"] for s in receipt["stretches"]] == [True]
    earlier = watched.call("org.portledger.ledger.Failures", {"since_usec": SINCE - SECOND, "until_usec": UNTIL})
    assert len(earlier["failures"]) == 5 and not earlier["coverage"]["complete"]


@pytest.mark.parametrize("arguments, count", [
    (("40080",), 3), (("40080/udp",), 0), (("50000",), 1), (("--app", "node"), 3), (("--app", "nginx"), 0),
    (("--user", "root"), 2), (("--unit", "app.service"), 3), (("--pid", "3"), 2), (("--proto", "udp"), 1),
    (("--addr", "127.0.0.2"), 1), (("--peer", "192.0.2.1:443"), 1), (("--range", "49152-65535"), 1), (("-n", "2"), 2)])
def test_filters(watched, arguments, count):
    result = watched.client("failures", *arguments, *WINDOW, "--json=short")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len([r for r in rows if "coverage" not in r]) == count, result.stderr
    assert result.returncode == (0 if count else 1)
    assert "coverage" in rows[-1]


def test_for_people(watched):
    text = watched.client("failures", "40080", *WINDOW).stdout
    assert "bind: in use" in text and "nginx[1], listening since" in text and "HELD BY" in text
    assert "watched by events" in text and "UDP connects" not in text
    none = watched.client("failures", "40081", *WINDOW)
    assert none.returncode == 1 and "No bind or connect failed, in what was watched" in none.stdout
    any_port = watched.client("failures", "--app", "curl", *WINDOW).stdout
    assert "connect: not available" in any_port and "any/tcp" in any_port


def test_as_columns(watched):
    table = list(csv.DictReader(io.StringIO(watched.client("failures", *WINDOW, "--csv").stdout)))
    assert [r["holder_comm"] for r in table] == ["nginx", "nginx", "", "", ""]
    assert watched.client("failures", *WINDOW, "-F", "port").stdout.split() == ["40080", "50000"]
    assert watched.client("failures", "-F", "ports").returncode == 2
    assert watched.client("failures", "--role", "bound").returncode == 2


def test_pages_and_the_newest(watched):
    whole = watched.call("org.portledger.ledger.Failures", {})["failures"]
    newest = watched.call("org.portledger.ledger.Failures", {"limit": 2})
    assert newest["failures"] == whole[-2:] and newest.get("cursor") is None
    (last,) = watched.call("org.portledger.ledger.Failures", {}, flag="more")
    assert last["parameters"]["failures"] == whole


def test_long_answers_come_in_pages(make_daemon, directory):
    r = record(directory, failures=1)
    for i in range(590):
        r.failure(41000 + i, process=2)
    r.drained(200)
    r.sweep()
    r.close()
    daemon = make_daemon(options=("--replay", r.file.name)).start()
    pages, cursor = [], None
    while True:
        page = daemon.call("org.portledger.ledger.Failures", {"filter": {"range": "41000-41999"}, "limit": 500, "cursor": cursor})
        pages.append(page["failures"])
        cursor = page.get("cursor")
        if not cursor:
            break
    assert [len(p) for p in pages] == [256, 244] and page["coverage"]
    assert [f["port"] for p in pages for f in p] == list(range(41090, 41590))
    replies = daemon.call("org.portledger.ledger.Failures", {"filter": {"range": "41000-41999"}}, flag="more")
    assert [f["port"] for p in replies for f in p["parameters"]["failures"]] == list(range(41000, 41590))
    assert [("coverage" in p["parameters"], p.get("continues", False)) for p in replies] == [(False, True)] * 2 + [(True, False)]


def test_too_many_are_counted(make_daemon, directory):
    r = record(directory, failures=1)
    for _ in range(700):
        r.failure(41000, process=2)
    r.drained(200, failures_dropped=1000)
    r.sweep()
    r.close()
    daemon = make_daemon(options=("--replay", r.file.name)).start()
    reply = daemon.call("org.portledger.ledger.Failures", {"since_usec": SINCE, "until_usec": UNTIL})
    recorded = daemon.call("org.portledger.ledger.Failures", {"limit": 100000}, flag="more")
    assert sum(len(p["parameters"]["failures"]) for p in recorded) == 600
    receipt = reply["coverage"]
    assert receipt["lost"] == 1105 and not receipt["complete"]
    assert [(g["reason"], g["lost"]) for g in receipt["gaps"]] == [("left-out", 1105)]
    result = daemon.client("failures", "41000", "-n", 1, *WINDOW)
    assert "1,105 left out" in result.stdout
    assert daemon.client("failures", "41000", *WINDOW, "--strict").returncode == 6
    # of the claims nothing is missing
    assert daemon.call("org.portledger.ledger.Status")["lost"] == 0


def test_not_watching_never_looks_like_none(make_daemon, directory):
    r = record(directory)
    r.close()
    daemon = make_daemon(options=("--replay", r.file.name)).start()
    # what was told all the same is shown; but that it is all cannot be said
    rows, receipt = daemon.rows("failures", *WINDOW)
    assert len(rows) == 5 and receipt["stretches"] == [] and receipt["lost"] is None and not receipt["complete"]
    text = daemon.client("failures", "40081", *WINDOW)
    assert text.returncode == 1 and "Failures=yes in portledger.conf watches them" in text.stdout
    assert "Coverage: failures not watched at that time" in text.stdout
    assert daemon.client("failures", "40081", *WINDOW, "--strict").returncode == 6
    assert "Failures=yes" in daemon.client("failures", "40081", *WINDOW, "--csv").stderr
    status = daemon.client("status").stdout
    assert "failures are not watched (Failures=)" in status and "UDP connects are known only from their end" in status
    doctor = daemon.client("doctor", "--json=short").stdout
    assert "set Failures=yes in portledger.conf; where it is, mount tracefs" in doctor
    # claims of that time are another matter
    assert "failed binds not watched" in daemon.client("who", 40080, *WINDOW).stdout


def test_the_audit_counts_failures(watched, make_daemon, directory, namespace):
    """Per program and in all; who only failed has a row; and a window in which nobody watched for them says null."""
    rows, _ = watched.rows("audit", *WINDOW)
    assert {r["comm"]: (r["claims"], r["failures"]) for r in rows} == {"nginx": (1, 0), "node": (0, 3), "curl": (0, 2)}
    assert [r["comm"] for r in rows][0] == "nginx"
    text = watched.client("audit", *WINDOW).stdout
    assert "; 5 failures" in text and "FAILED" in text.splitlines()[1] + text.splitlines()[2]
    ports, _ = watched.rows("audit", *WINDOW, "--by=port")
    assert {(r["port"], r["protocol"]): r["failures"] for r in ports} == {
        (40080, "tcp"): 3, (50000, "udp"): 1, (None, "tcp"): 1}
    assert [r["failures"] for r in watched.rows("audit", *WINDOW, "--app", "node")[0]] == [3]
    total = json.loads(watched.client("audit", *WINDOW, "--json=pretty").stdout)["total"]
    assert total["failures"] == 5
    blind = watched.client("audit", "-S", "2001-01-01", "-U", "2001-01-02", "--json=pretty")
    assert json.loads(blind.stdout)["total"]["failures"] is None
    assert "failure" not in watched.client("audit", *WINDOW, "--role", "listening").stdout


def test_to_where_the_connection_went_that_had_the_port(make_daemon, directory):
    """Of a client, IPv4 and IPv6; of a server there is nothing to say. On a narrow terminal in a line of its own."""
    r = stream.Recording(directory / "recording", NOW - 600 * SECOND, rung=2, generation=9, failures=1)
    r.process(1, "curl", unit="sync.service")
    r.process(2, "myapp", unit="myapp.service")
    r.sweep()
    r.move()
    six = bytes.fromhex("20010db8" + 11 * "00" + "09")
    r.event(7, 44892, opener=1, remote=(b"\xc0\0\2\1", 631))
    r.event(8, 44893, opener=1, local=six, remote=(six[:-1] + b"\1", 443))
    r.event(9, 44894, opener=1, role=LISTENING)
    r.move()
    r.failure(44892, process=2, local=b"\0\0\0\0")
    r.failure(44893, process=2, local=bytes(16))
    r.failure(44894, process=2)
    for cookie in (7, 8, 9):
        r.closed(cookie)
    r.drained(100)
    r.move()
    r.sweep()
    r.close()
    daemon = make_daemon(options=("--replay", r.file.name)).start()
    rows, _ = daemon.rows("failures", *WINDOW)
    assert [(r["port"], r["holder_role"], r["holder_remote_address"], r["holder_remote_port"]) for r in rows] == [
        (44892, "connected", "192.0.2.1", 631), (44893, "connected", "2001:db8::1", 443), (44894, "listening", None, None)]
    assert daemon.client("failures", "--peer", "192.0.2.1", *WINDOW).returncode == 1  # a filter is about who failed
    wide = daemon.client("failures", *WINDOW).stdout.splitlines()
    assert [line.split()[-1] for line in wide[:3]] == ["TO", "192.0.2.1:631", "[2001:db8::1]:443"]
    status, text = on_a_terminal(daemon, "failures", *WINDOW)
    narrow = " ".join(text.split())
    assert status == 0 and "myapp[2]: bind of 44892/tcp at 0.0.0.0, unit myapp.service, " in narrow
    assert "to 192.0.2.1:631" in narrow and "to [2001:db8::1]:443" in narrow
    table = list(csv.DictReader(io.StringIO(daemon.client("failures", *WINDOW, "--csv").stdout)))
    assert [r["holder_remote_address"] for r in table] == ["192.0.2.1", "2001:db8::1", ""]
