# SPDX-License-Identifier: MIT
"""The events rung between the kernel and the ledger: what sweeps add, who may be slow, stopped or killed meanwhile, and what
becomes of it when somebody takes the events away. That no claim escapes is test_complete.py's."""
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

import oracle
from conftest import PATIENCE, SUPPORT, all_ended, wait_for

SYNC = "org.portledger.ledger.Sync"
STATUS = "org.portledger.ledger.Status"
EXACT = {"source": "events", "attribution": "event"}


@pytest.fixture
def rung():
    return "events"


def history(daemon):
    daemon.call(SYNC)
    return daemon.rows("history", "--range", "1-65535", "-n", "100000")[0]


def only(rows, **wanted):
    found = [r for r in rows if all(r[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, rows)
    return found[0]


def gaps(daemon):
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        return [r[0] for r in db.execute("SELECT reason FROM gap")]


def churn(namespace, directory, count):
    """A load that runs by itself, and where it says what it made."""
    path = directory / "made"
    with open(path, "wb") as made:
        return subprocess.Popen(namespace.enter(SUPPORT / "churn", "--exe", directory, "--count", count), stdout=made), path


def compare(daemon, load, path):
    """All that the load has made, against the ledger."""
    assert load.wait(3 * PATIENCE) == 0
    truth = oracle.Truth(path.read_text(encoding="utf-8"))
    assert truth.run["failed"] == 0
    all_ended(daemon, truth)
    result = oracle.compare(daemon.database, [truth], **EXACT)
    assert result.is_exact() and result.made > 0, str(result)
    status = daemon.call(STATUS)
    assert status["lost"] == 0 and status["found_only_by_sweep"] == 0 and gaps(daemon) == [], (status, gaps(daemon))


def test_what_sweeps_add(daemon, actor):
    """Each once, exactly, with its opener; the sweeps have nothing to say of it but who accepted, and what lingers."""
    at = actor.do("listener('l')")
    tcp = actor.do(f"client('c', {at})")
    udp = actor.do("bound('u', 'udp')")
    bound = actor.do("bound('b', 'tcp')")
    actor.do("accept('l', 's')")
    for _ in range(3):
        daemon.call(SYNC)
    rows = daemon.rows("now")[0]
    assert {(r["port"], r["role"]) for r in rows} == {(at, "listening"), (tcp, "connected"), (udp, "bound"),
                                                      (bound, "bound"), (at, "accepted")}
    for r in rows:
        assert r["source"] == "events" and r["opened_after_usec"] is None and r["pid"] == actor.pid, r
        assert r["attribution"] == ("iter" if r["role"] == "accepted" else "event") and r["holders"] == [], r
    actor.do("close('c')")  # it lingers, whoever accepted it does not
    actor.do("over('s')")
    actor.do("close_all()")
    wait_for(lambda: actor.do(f"closing({at}) + closing({tcp})") == 0, "the kernel to be done with it")
    closed = history(daemon)
    assert len(closed) == 5 and all(r["closed_usec"] and r["closed_after_usec"] is None for r in closed), closed
    lingering = only(closed, role="connected")
    assert lingering["released_usec"] is None
    assert all(r["released_usec"] == r["closed_usec"] for r in closed if r is not lingering), closed
    receipt = daemon.rows("history", "-n", "1", "-S", "@%.6f" % (lingering["opened_usec"] / 1e6))[1]
    assert receipt["complete"] and receipt["lost"] == 0, receipt
    status = daemon.call(STATUS)
    assert status["found_only_by_sweep"] == status["unattributed"] == 0 and status["degraded"] == [], status


def test_older_than_the_daemon(make_daemon, actor):
    """Found by the first sweep, its opener by the iterator; its end is told exactly all the same."""
    port = actor.do("bound('u', 'udp')")
    at = actor.do("listener('l')")
    daemon = make_daemon().start()
    rows = history(daemon)
    for wanted in (port, at):
        row = only(rows, port=wanted)
        assert row["attribution"] == "iter" and row["pid"] == actor.pid and row["source"] == "sweep", row
        assert row["exe"] == os.path.realpath(sys.executable), row
    actor.do("close_all()")
    for row in history(daemon):
        assert row["closed_usec"] and row["closed_after_usec"] is None, row
    assert daemon.call(STATUS)["found_only_by_sweep"] == 0


def test_inherited(daemon, make_actor):
    """Who made it is the opener, whoever has it when it is looked for."""
    parent = make_actor()
    port = parent.do("listener('l')")
    daemon.call(SYNC)
    child = parent.do("fork()")
    parent.do("close('l')")
    row = only(history(daemon), port=port)
    assert row["pid"] == parent.pid != child and row["attribution"] == "event" and row["closed_usec"] is None
    parent.do(f"reap({child})")
    assert only(history(daemon), port=port)["closed_usec"]


@pytest.mark.long
def test_the_ledger_is_killed_under_load(make_daemon, namespace, directory):
    """What it has read and could not store is in the ring yet, and is told to the next one."""
    daemon = make_daemon(interval="500ms").start()
    load, made = churn(namespace, directory, 20_000)
    db = sqlite3.connect(daemon.database, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    wait_for(lambda: "cannot write the database" in daemon.log.read_text(), "a commit to be refused")
    time.sleep(1)  # two sweeps: it goes on reading
    os.kill(daemon.child("pl-ledger"), signal.SIGKILL)
    db.execute("ROLLBACK")
    db.close()
    wait_for(daemon.answers, "the ledger to be back")
    compare(daemon, load, made)


@pytest.mark.long
def test_a_ledger_that_does_not_read(make_daemon, namespace, directory):
    """While it is stopped the ring waits, and capture with it: nothing is lost."""
    daemon = make_daemon().start()
    ledger = daemon.child("pl-ledger")
    os.kill(ledger, signal.SIGSTOP)
    try:
        load, made = churn(namespace, directory, 5_000)
        wait_for(lambda: load.poll() is not None, "the load to end")
    finally:
        os.kill(ledger, signal.SIGCONT)
    wait_for(daemon.answers, "the ledger to go on")
    compare(daemon, load, made)


@pytest.fixture
def named():
    """A network namespace with a name, as ip(8) makes it."""
    name = f"portledger-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def test_a_namespace_keeps_its_name(make_daemon, named):
    """... when it is gone."""
    daemon = make_daemon(options=("--netns", "all")).start()
    script = "import socket; s = socket.socket(type=2); s.bind(('', 0)); print(s.getsockname()[1])"
    result = subprocess.run(["ip", "netns", "exec", named, sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    inode = os.stat(f"/run/netns/{named}").st_ino
    daemon.call(SYNC)
    subprocess.run(["ip", "netns", "del", named], check=True)
    row = only(history(daemon), port=int(result.stdout), netns=inode)
    assert row["netns_name"] == named and row["closed_usec"], row


def cgroup_links(pid):
    """The ids of the links by which its programs are attached to cgroups."""
    for info in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        text = info.read_text(encoding="ascii")
        if re.search(r"^link_type:\tcgroup$", text, re.M):
            yield re.search(r"^link_id:\t(\d+)$", text, re.M).group(1)


def test_events_that_are_taken_away(make_daemon, actor):
    """It goes on one rung lower, says so, and knows from when to when claims may be missing."""
    daemon = make_daemon().start()
    before = actor.do("bound('before', 'udp')")
    daemon.call(SYNC)
    link = next(cgroup_links(daemon.process.pid))
    subprocess.run(["bpftool", "link", "detach", "id", link], check=True)
    after = actor.do("bound('after', 'udp')")
    daemon.call(SYNC)
    status = daemon.call(STATUS)
    assert status["rung"] == "destroy", status
    assert any("events ended" in reason and "other users cannot be named; start portledgerd again" in reason
               for reason in status["degraded"]), status
    assert "events ended" in daemon.log.read_text()
    assert gaps(daemon) == ["events-ended"]
    rows = history(daemon)
    assert only(rows, port=before)["source"] == "events"
    assert only(rows, port=before)["closed_usec"] is None and only(rows, port=after)["closed_usec"] is None
    actor.do("close_all()")
    wait_for(lambda: all(r["closed_usec"] for r in history(daemon)), "the ends, as the kernel tells them")
    stretches = daemon.rows("history", "-n", "1")[1]["stretches"]
    assert [s["source"] for s in stretches] == ["events", "destroy"], stretches


def test_a_question_has_what_was_claimed_before_it(daemon, namespace):
    """Each of a hundred claims, asked for when it is gone again."""
    script = """
import socket, sys
for line in sys.stdin:
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    print(port, flush=True)
"""
    process = subprocess.Popen(namespace.enter(sys.executable, "-u", "-c", script), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    begin = time.time_ns() // 1000
    for i in range(100):
        process.stdin.write("\n")
        process.stdin.flush()
        port = int(process.stdout.readline())
        daemon.call(SYNC)
        with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
            count = db.execute("SELECT count(*) FROM claims WHERE port = ? AND opened_usec >= ? AND closed_usec NOT NULL",
                               (port, begin)).fetchone()[0]
        assert count >= 1, i
    process.stdin.close()
    process.wait(PATIENCE)


# Each one is there for a moment: the next one is the end of it.
PASSING = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(200):
    if libc.unshare(0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.bind(("0.0.0.0", 0))
        print(os.stat("/proc/self/ns/net").st_ino, s.getsockname()[1])
"""


def test_namespaces_that_come_and_go(make_daemon):
    """Two hundred of them, one after the other, whose inodes are used again: each claim is in its own."""
    daemon = make_daemon(options=("--netns", "all")).start()
    began = time.time_ns() // 1000
    process = subprocess.Popen([sys.executable, "-c", PASSING], stdout=subprocess.PIPE, text=True)
    made = [tuple(map(int, line.split())) for line in process.communicate(timeout=PATIENCE)[0].splitlines()]
    assert process.returncode == 0 and len(made) == 200
    daemon.call(SYNC)
    rows, receipt = daemon.rows("history", "--pid", process.pid, "-S", f"@{began / 1e6:.6f}")
    assert sorted((r["netns"], r["port"]) for r in rows) == sorted(made)
    assert all(r["closed_usec"] and r["attribution"] == "event" for r in rows) and receipt["lost"] == 0
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        # what others make meanwhile, all over the machine, may have had them sealed
        cookies = db.execute("SELECT count(DISTINCT n.cookie) FROM (SELECT meta,process FROM claim_hot UNION ALL"
                             " SELECT meta,process FROM claim_seg) c JOIN local l ON l.id = c.meta >> 12 & 1099511627775"
                             " JOIN netns n ON n.id = l.netns JOIN process p ON p.id = c.process WHERE p.pid = ?", (process.pid,)).fetchone()[0]
    assert cookies == 200
