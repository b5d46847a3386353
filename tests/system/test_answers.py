# SPDX-License-Identifier: MIT
"""What the answers promise: they hold what was claimed when the question was asked, they name who it was and not who
has the pid now, and they say where nobody watched."""
import concurrent.futures
import csv
import io
import json
import os
import sqlite3
import subprocess
import time

import pytest

from conftest import SUPPORT, wait_for


@pytest.fixture
def rung():
    """What is asked is the same on every rung; what may be missing is more to tell on this one."""
    return "destroy"


def usec():
    return time.time_ns() // 1000


def at(moment):
    return f"@{moment / 1e6:.6f}"


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


@pytest.mark.parametrize("count", [30, pytest.param(100, marks=pytest.mark.long)])
def test_answers_hold_what_is_claimed_when_asked(daemon, actor, count):
    """No sleep, no timer (the interval is an hour): many claims, each asked for right after it was made."""
    for i in range(count):
        port = actor.do(f"bound('u{i}', 'udp')")
        answer = daemon.call("org.portledger.ledger.Explain", {"port": port, "protocol": "udp"})
        assert [c["pid"] for c in answer["now"]] == [actor.pid]


def test_questions_at_once_are_all_exact(daemon, make_actor):
    actors = [make_actor() for _ in range(8)]

    def ask(actor):
        for i in range(20):
            port = actor.do(f"bound('u{i}', 'udp')")
            now = daemon.call("org.portledger.ledger.Explain", {"port": port})["now"]
            assert [c["pid"] for c in now] == [actor.pid]
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, actors))


def test_reused_pid_is_not_credited(daemon, make_actor):
    actor = make_actor()
    port = actor.do("bound('u', 'udp')")
    sync(daemon)
    held = usec()
    sync(daemon)
    gone, comm = actor.pid, "python3"
    actor.close()
    wait_for(lambda: not os.path.exists(f"/proc/{gone}"), "the pid to be free")
    sync(daemon)
    sync(daemon)
    reuser = subprocess.Popen([SUPPORT / "set-tid", str(gone), "sleep", "60"])
    try:
        wait_for(lambda: os.path.exists(f"/proc/{gone}/exe") and os.readlink(f"/proc/{gone}/exe").endswith("sleep"),
                 "the pid to be used again")
        claims, receipt = daemon.rows("who", port, "--at", at(held))
        assert [(c["pid"], c["comm"], c["closed_usec"] is not None) for c in claims] == [(gone, comm, True)]
        assert receipt["stretches"]
        # The same pid, now another process: its own claims are its own, and the old one stays whose it was.
        assert daemon.rows("now")[0] == []
    finally:
        os.kill(gone, 9)
        reuser.wait()


def test_pid_reused_by_a_claimant(daemon, make_actor):
    """The pid comes back with another program that has a claim itself; each is named for its own time."""
    actor = make_actor()
    first = actor.do("bound('u', 'udp')")
    sync(daemon)
    held = usec()
    gone = actor.pid
    actor.close()
    wait_for(lambda: not os.path.exists(f"/proc/{gone}"), "the pid to be free")
    sync(daemon)
    again = make_actor(prefix=(SUPPORT / "set-tid", gone))
    assert again.pid == gone
    again.do("set_name('7468652d6f74686572')")
    second = again.do("bound('u', 'udp')")
    claims, _ = daemon.rows("now")
    assert [(c["port"], c["pid"], c["comm"]) for c in claims] == [(second, gone, "the-other")]
    claims, _ = daemon.rows("who", first, "--at", at(held))
    assert [(c["pid"], c["comm"]) for c in claims] == [(gone, "python3")]


def test_not_watching_is_not_nothing(daemon, actor):
    before = usec() - 3600 * 1_000_000
    sync(daemon)
    sync(daemon)
    watched = usec()
    sync(daemon)
    for arguments, status, text in (
            (("who", 60530, "--at", at(before)), 1, "not watching"),
            (("who", 60530, "--at", at(before), "--strict"), 6, "not watching"),
            (("who", 60530, "--at", at(watched)), 1, "watched by"),
            (("who", 60530, "--at", at(watched), "--strict"), 6, "watched by")):
        result = daemon.client(*arguments)
        assert result.returncode == status, (arguments, result)
        coverage = [line for line in result.stdout.splitlines() if line.startswith("Coverage:")]
        assert len(coverage) == 1 and text in coverage[0], (arguments, result.stdout)
    _, receipt = daemon.rows("who", 60530, "--at", at(before))
    assert receipt["stretches"] == [] and not receipt["complete"]
    _, receipt = daemon.rows("who", 60530, "--at", at(watched))
    assert len(receipt["stretches"]) == 1


def test_a_time_to_the_minute_is_the_whole_minute(daemon, actor):
    port = actor.do("bound('u', 'udp')")
    claims, _ = daemon.rows("now")
    opened = claims[0]["opened_usec"]
    minute = time.strftime("%Y-%m-%d %H:%M", time.gmtime(opened // 1_000_000))
    result, _ = daemon.rows("who", port, "--at", minute)
    assert len(result) == 1
    assert daemon.client("who", port, "--at", "25:61").returncode == 2


def test_same_question_same_bytes(daemon, make_actor):
    actors = [make_actor() for _ in range(3)]
    for a in actors:
        for i in range(5):
            a.do(f"bound('u{i}', 'udp')")
    sync(daemon)
    for a in actors:
        a.close()
    for _ in range(3):
        sync(daemon)
    until = usec()
    sync(daemon)
    for question in (("history",), ("audit",)):
        answers = set()
        for _ in range(3):
            result = daemon.client(*question, "-S", "1 hour ago" if False else at(until - 60_000_000), "-U", at(until),
                                   "--json=short")
            assert result.returncode == 0
            answers.add(result.stdout)
        assert len(answers) == 1


def test_python_socat_client_csv_and_view_agree(daemon, make_actor):
    actor = make_actor()
    at_port = actor.do("listener('l')")
    actor.do(f"client('c', {at_port})")
    actor.do("accept('l', 'a')")
    actor.do("bound('u', 'udp', '6')")
    actor.do("fork()")
    by_python = daemon.call("org.portledger.ledger.Claims", {"open": True})["claims"]
    call = json.dumps({"method": "org.portledger.ledger.Claims", "parameters": {"open": True}})
    by_socat = json.loads(subprocess.run(
        f"printf '%s\\0' '{call}' | socat -t 5 - UNIX-CONNECT:{daemon.socket} | tr '\\0' '\\n' | jq -c .parameters.claims",
        shell=True, capture_output=True, text=True, check=True).stdout)
    by_client, _ = daemon.rows("now")
    result = daemon.client("now", "--csv")
    by_csv = list(csv.DictReader(io.StringIO(result.stdout)))
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        by_view = [dict(row) for row in db.execute("SELECT * FROM claims WHERE released_usec IS NULL ORDER BY opened_usec, port")]

    def key(c):
        return (int(c["port"]), c["protocol"], c["role"])

    assert len(by_python) == 4
    by_python, by_socat, by_client, by_csv, by_view = (
        sorted(rows, key=key) for rows in (by_python, by_socat, by_client, by_csv, by_view))
    assert by_python == by_socat
    for wire, shown, line, row in zip(by_python, by_client, by_csv, by_view, strict=True):
        assert shown["user"] == "root" and wire["user"] is None and row["user"] is None
        assert list(shown) == list(row) == list(line) == list(wire)
        row["holders"] = json.loads(row["holders"])
        assert {**shown, "user": None} == wire == row
        for name, value in shown.items():
            text = line[name]
            if value is None:
                assert text == ""
            elif name == "holders":
                assert json.loads(text) == value
            else:
                assert text == str(value)
        assert len(shown["holders"]) == 1


def test_sqlite3_reads_before_and_after_a_clean_stop(daemon, actor):
    actor.do("bound('u', 'udp')")
    sync(daemon)
    actor.close()
    for _ in range(3):
        sync(daemon)

    def ask(view):
        return subprocess.run(["sqlite3", "-readonly", daemon.database, f"SELECT count(*) FROM {view}"],
                              capture_output=True, text=True, check=True).stdout.strip()

    views = ("claims", "claims_hour", "claims_day")
    assert [ask(v) for v in views] == ["1", "1", "1"]
    daemon.stop()
    assert [ask(v) for v in views] == ["1", "1", "1"]


def test_audit(daemon, make_actor):
    one, two = make_actor(), make_actor()
    one.do("set_name('6f6e65')")
    two.do("set_name('74776f')")
    for i in range(4):
        one.do(f"bound('u{i}', 'udp')")
    at_port = two.do("listener('l')")
    two.do(f"client('c', {at_port})")
    two.do("accept('l', 'a')")
    rows, receipt = daemon.rows("audit", "-S", at(usec() - 60_000_000))
    found = {r["comm"]: r for r in rows if "comm" in r}
    assert (found["one"]["claims"], found["one"]["ports"], found["one"]["remotes"]) == (4, 4, 0)
    assert (found["two"]["claims"], found["two"]["ports"], found["two"]["remotes"]) == (3, 2, 1)
    rows = [r for r in rows if "comm" in r]
    for r in rows:
        assert r["new"] and r["first_usec"] <= r["last_usec"] and r["failures"] is None, r
    assert receipt["stretches"]


def test_filters(daemon, make_actor):
    actor = make_actor()
    udp = actor.do("bound('u', 'udp')")
    listener = actor.do("listener('l')")
    client = actor.do(f"client('c', {listener})")
    for arguments, ports in (
            (("--proto", "udp"), {udp}), (("--role", "connected"), {client}), (("--pid", actor.pid), {udp, listener, client}),
            (("--pid", 1), set()), (("--app", "python3"), {udp, listener, client}), (("--app", "curl"), set()),
            (("--user", "root"), {udp, listener, client}), (("--user", "nobody"), set()), (("--addr", "127.0.0.1"), {udp, listener, client}),
            (("--peer", "127.0.0.1"), {client, listener}), (("--peer", f"127.0.0.1:{listener}"), {client}),
            (("--range", f"{udp}-{udp}"), {udp}), (("--netns", daemon.namespace.inode()), {udp, listener, client})):
        claims, _ = daemon.rows("now", *arguments)
        assert {c["port"] for c in claims} == ports, arguments
    assert daemon.client("now", "--proto", "sctp").returncode == 2
    assert daemon.client("now", "--user", "no-such-user").returncode == 2


def test_only_the_first_of_many_pages_looks(daemon, actor):
    """A sweep for each page would make a long answer about now a load on the machine."""
    actor.do("[bound(f'u{i}', 'udp') for i in range(900)]")
    before = daemon.call("org.portledger.ledger.Status")["sweeps"]
    claims, receipt = daemon.rows("now")
    assert daemon.call("org.portledger.ledger.Status")["sweeps"] == before + 2
    assert len(claims) == 900
    (stretch,) = receipt["stretches"]
    assert stretch["from_usec"] == stretch["until_usec"] and receipt["gaps"] == []


def test_history_in_pages(daemon, make_actor):
    """More rows than a page holds, sealed or not: each once, in order."""
    actor = make_actor()
    count = 700
    for i in range(count):
        actor.do(f"bound('u{i}', 'udp')")
    sync(daemon)
    actor.close()
    for _ in range(3):
        sync(daemon)
    claims, _ = daemon.rows("history", "-n", 100000, "-S", at(usec() - 60_000_000))
    assert len(claims) == count and len({c["port"] for c in claims}) == count
    newest, _ = daemon.rows("history", "-n", 10, "-S", at(usec() - 60_000_000))
    assert len(newest) == 10
    replies = daemon.call("org.portledger.ledger.Claims", {"since_usec": usec() - 60_000_000}, "more")
    assert len(replies) > 1 and sum(len(r["parameters"]["claims"]) for r in replies) == count
    assert replies[-1]["parameters"]["coverage"]["stretches"]


def test_follow(make_daemon, actor):
    daemon = make_daemon(interval="100ms").start()
    first = actor.do("bound('a', 'udp')")
    import socket as sockets
    with sockets.socket(sockets.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(daemon.socket)
        s.sendall(b'{"method":"org.portledger.ledger.Follow","more":true}\0')
        data, events = b"", []

        def until(event, port):
            nonlocal data
            while not any(e == event and any(c["port"] == port for c in claims) for e, claims in events):
                while b"\0" not in data:
                    data += s.recv(65536)
                frame, data = data.split(b"\0", 1)
                reply = json.loads(frame)
                assert reply["continues"] and reply["parameters"]["lost"] == 0
                events.append((reply["parameters"]["event"], reply["parameters"]["claims"]))

        until("open", first)
        second = actor.do("bound('b', 'udp')")
        until("opened", second)
        actor.do("close('a')")
        until("released", first)
    assert [c["port"] for e, claims in events for c in claims if e == "open"] == [first]
