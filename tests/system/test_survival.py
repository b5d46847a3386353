# SPDX-License-Identifier: MIT
"""The daemon ends in every way; what an answer has shown stays, and each absence is one gap."""
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import pytest

from conftest import DAEMON, PATIENCE, wait_for

KILLS = 50


def usec():
    return time.time_ns() // 1000


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


def database(daemon):
    db = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    return db


class Load:
    """Claims that come and go all the time: at most 200 at once, until stopped."""

    def __init__(self, make_actor):
        self.actor = make_actor()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        i = 0
        while not self.stopping.is_set() and i < 200_000:
            self.actor.do(f"bound('u{i}', 'udp')")
            if i >= 200:
                self.actor.do(f"close('u{i - 200}')")
            i += 1

    def stop(self):
        self.stopping.set()
        self.thread.join(PATIENCE)


@pytest.mark.long
def test_kill_50_times_under_load(make_daemon, make_actor):
    # as a row of its own each of them is found again, however many there were in a second
    daemon = make_daemon(interval="100ms", config="[Store]\nCoalesceAbove=1000000\n")
    load = Load(make_actor)
    shown, lives = {}, []
    try:
        for _ in range(KILLS):
            daemon.start()
            started = usec()
            claims, _ = daemon.rows("now")
            for c in claims:
                shown[(c["port"], c["opened_usec"], c["pid"])] = c
            assert claims
            daemon.kill()
            lives.append((started, usec()))
            with sqlite3.connect(daemon.database) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        load.stop()
    daemon.start()
    sync(daemon)
    with database(daemon) as db:
        kept = {(r["port"], r["opened_usec"], r["pid"]) for r in
                db.execute("SELECT port, opened_usec, pid FROM claims")}
        lost = [k for k in shown if k not in kept]
        assert not lost, f"{len(lost)} of {len(shown)} claims that were shown are gone: {lost[:5]}"
        # Under this load, what the kernel tells of ends may overflow: that is another gap.
        gaps = db.execute("SELECT * FROM gap WHERE reason<>'notifications-lost' ORDER BY from_usec").fetchall()
    assert [g["reason"] for g in gaps] == ["killed"] * KILLS
    for gap, (started, killed) in zip(gaps, lives, strict=True):
        assert started <= gap["from_usec"] <= killed  # the question's own sweep was watched
        assert gap["from_usec"] <= gap["until_usec"]
    for gap, (started, _) in zip(gaps, lives[1:]):
        assert gap["until_usec"] <= started
    for earlier, later in zip(gaps, gaps[1:]):
        assert earlier["until_usec"] <= later["from_usec"]


def test_open_claims_are_adopted_or_closed(make_daemon, make_actor):
    daemon = make_daemon().start()
    stays, goes = make_actor(), make_actor()
    staying, going = stays.do("bound('u', 'udp')"), goes.do("bound('u', 'udp')")
    before, _ = daemon.rows("now")
    assert {c["port"] for c in before} == {staying, going}
    sync(daemon)
    daemon.kill()
    alive = usec()
    goes.close()
    daemon.start()
    now, _ = daemon.rows("now")
    assert [c["port"] for c in now] == [staying]
    assert now[0]["opened_usec"] == [c for c in before if c["port"] == staying][0]["opened_usec"]
    history, receipt = daemon.rows("history", going)
    assert len(history) == 1
    ended = history[0]
    assert ended["pid"] == goes.pid
    # The end was not seen: at its last known moment it was still there.
    assert ended["closed_usec"] == ended["closed_after_usec"] <= alive
    assert [g["reason"] for g in receipt["gaps"]] == ["killed"]


@pytest.mark.any_rung
def test_clean_stop_and_start(make_daemon, actor):
    daemon = make_daemon().start()
    port = actor.do("bound('u', 'udp')")
    sync(daemon)
    daemon.stop()
    daemon.start()
    now, _ = daemon.rows("now")
    assert [c["port"] for c in now] == [port]
    with database(daemon) as db:
        gaps = db.execute("SELECT * FROM gap").fetchall()
        assert [g["reason"] for g in gaps] == ["stopped"]
        assert daemon.call("org.portledger.ledger.Status")["gaps"] == 1
        coverage = db.execute("SELECT * FROM coverage ORDER BY from_usec").fetchall()
        assert len(coverage) == 2
        assert coverage[0]["until_usec"] == gaps[0]["from_usec"] and gaps[0]["until_usec"] == coverage[1]["from_usec"]


@pytest.mark.parametrize("options, said", ((("--rung", "best"), "--rung wants"), (("--rung", "sweep", "--rung", "none"), "--rung wants"),
                                           (("--netns", "other"), "--netns wants"), (("--ring-bytes", "5000"), "--ring-bytes wants"),
                                           (("--ring-bytes", "-4096"), "--ring-bytes wants"), (("--record", "a", "--replay", "b"), "exclude"),
                                           (("more",), "no option"), (("--unknown",), "unrecognized")))
def test_wrong_use(directory, options, said):
    """Refused before anything is opened."""
    result = subprocess.run([DAEMON, "--state", directory / "state", *options], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 2 and said in result.stderr and not (directory / "state").exists(), result


@pytest.mark.parametrize("rung, gaps", (("destroy", ["killed"]), (None, [])), ids=("destroy", "best"))
def test_a_child_that_dies_is_restarted(make_daemon, actor, rung, gaps):
    """Where events are recorded by the kernel, nobody misses a ledger."""
    daemon = make_daemon(rung=rung).start()
    port = actor.do("bound('u', 'udp')")
    sync(daemon)
    control = daemon.child("pl-control")
    os.kill(control, signal.SIGKILL)
    wait_for(daemon.answers, "control to be back")
    assert daemon.child("pl-control") != control
    with database(daemon) as db:
        assert db.execute("SELECT count(*) FROM gap").fetchone()[0] == 0
    ledger = daemon.child("pl-ledger")
    os.kill(ledger, signal.SIGKILL)
    wait_for(daemon.answers, "the ledger to be back")
    now, _ = daemon.rows("now")
    assert [c["port"] for c in now] == [port]
    with database(daemon) as db:
        assert [r["reason"] for r in db.execute("SELECT reason FROM gap")] == gaps
    assert daemon.process.poll() is None


@pytest.mark.parametrize("rung", ("destroy", None), ids=("destroy", "best"))
def test_who_holds_which_capability(make_daemon, rung):
    daemon = make_daemon(rung=rung).start()
    sync(daemon)
    for name in ("pl-ledger", "pl-control"):
        with open(f"/proc/{daemon.child(name)}/status", encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapInh"], 16) == 0, name
        assert status["NoNewPrivs"] == "1"
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    # CAP_DAC_READ_SEARCH (2) and CAP_SYS_PTRACE (19); with events attached none
    kept = (1 << 2) | (1 << 19) if rung == "destroy" else 0
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name], 16) & ~kept == 0, status


def test_control_reads_below_its_directory_only(daemon, actor, directory):
    """As root: what refuses it is Landlock. test-privilege has what it may not do; this has that control cannot."""
    port = actor.do("bound('u', 'udp')")
    sync(daemon)
    inside, outside = daemon.state / "copy.db", directory / "copy.db"
    with database(daemon) as db, sqlite3.connect(inside) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file is all that there is of it
    shutil.copy(inside, outside)

    def ask_from(path):
        daemon.database.unlink()
        daemon.database.symlink_to(path)
        return daemon.client("history", str(port))

    assert ask_from(inside).returncode == 0
    assert ask_from(outside).returncode == 5
    assert ask_from(inside).returncode == 0


@pytest.mark.any_rung
def test_second_daemon_is_refused(daemon):
    result = subprocess.run(daemon.namespace.enter(DAEMON, "--state", daemon.state, "--socket", f"{daemon.socket}2"),
                            capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 75
    assert f"pid {daemon.child('pl-ledger')}" in result.stderr
    sync(daemon)


@pytest.mark.any_rung
def test_newer_schema_is_refused_untouched(make_daemon):
    daemon = make_daemon().start()
    daemon.stop()
    with sqlite3.connect(daemon.database) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    before = {p.name: p.read_bytes() for p in daemon.state.iterdir() if p.name.startswith("portledger.db")}
    result = subprocess.run(daemon.namespace.enter(DAEMON, "--state", daemon.state, "--socket", daemon.socket),
                            capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 78, result.stderr
    assert "newer" in result.stderr
    assert {p.name: p.read_bytes() for p in daemon.state.iterdir() if p.name.startswith("portledger.db")} == before


def test_record_and_replay_agree(make_daemon, make_actor, directory):
    recording = directory / "recording"
    daemon = make_daemon(options=("--record", recording)).start()
    actor = make_actor()
    at = actor.do("listener('l')")
    actor.do(f"client('c', {at})")
    actor.do("accept('l', 'a')")
    for i in range(20):
        actor.do(f"bound('u{i}', 'udp')")
    sync(daemon)
    actor.close()
    for _ in range(3):
        sync(daemon)
    daemon.stop()
    query = "SELECT * FROM claims ORDER BY port, opened_usec, remote_port"
    with database(daemon) as db:
        original = [tuple(r) for r in db.execute(query)]
    assert len(original) >= 23
    again = make_daemon(directory=make_directory(directory, "again"), options=("--replay", recording)).start()
    sync(again)
    with database(again) as db:
        replayed = [tuple(r) for r in db.execute(query)]
    assert replayed == original


def make_directory(parent, name):
    path = parent / name
    path.mkdir()
    return path


def test_damaged_recordings_are_refused(make_daemon, directory):
    for name, data in (("empty", b""), ("text", b"hello world, this is no recording\n"), ("magic", b"PLSTRM\x03\n"),
                       ("noise", b"PLSTRM\x03\n" + bytes(range(256)))):
        path = directory / name
        path.write_bytes(data)
        daemon = make_daemon(directory=make_directory(directory, f"state-{name}"), options=("--replay", path))
        result = subprocess.run(daemon.namespace.enter(DAEMON, "--state", daemon.state, "--socket", daemon.socket,
                                                       "--replay", path), capture_output=True, text=True,
                                timeout=PATIENCE, check=False)
        assert result.returncode == 1 and "recording" in result.stderr, (name, result)


@pytest.mark.any_rung
def test_reload(make_daemon, actor):
    daemon = make_daemon(interval="1h").start()
    port = actor.do("bound('u', 'udp')")
    sync(daemon)
    daemon.config.write_text("[Capture]\nInterval=30min\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.call("org.portledger.ledger.Status")["interval_usec"] == 1_800_000_000, "the reload")
    daemon.config.write_text("[Capture]\nIntervall=1s\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "stays as it was" in daemon.log.read_text(), "the refusal")
    assert f"{daemon.config}:2:" in daemon.log.read_text()
    assert daemon.call("org.portledger.ledger.Status")["interval_usec"] == 1_800_000_000
    assert [c["port"] for c in daemon.rows("now")[0]] == [port]
    with database(daemon) as db:
        intervals = [r["interval_usec"] for r in db.execute("SELECT interval_usec FROM coverage ORDER BY id")]
    assert intervals == [3_600_000_000, 1_800_000_000]


@pytest.mark.any_rung
def test_bad_configuration_at_start(make_daemon):
    for text, line in (("[Capture]\nInterval=5ms\n", 2), ("[Capture]\nColour=red\n", 2), ("[Capture]\nInterval=" + "1" * 5000 + "\n", 2),
                       ("[Nonsense]\nA=b\n", 1)):
        daemon = make_daemon()
        daemon.config.write_text(text)
        result = subprocess.run(daemon.namespace.enter(DAEMON, "--config", daemon.config, "--state", daemon.state,
                                                       "--socket", daemon.socket), capture_output=True, text=True,
                                timeout=PATIENCE, check=False)
        assert result.returncode == 78 and f"{daemon.config}:{line}" in result.stderr, (text[:40], result)


@pytest.mark.any_rung
def test_stale_and_foreign_socket_paths(make_daemon, directory):
    daemon = make_daemon().start()
    daemon.kill()
    assert os.path.exists(daemon.socket)
    daemon.start()  # a stale socket is replaced
    daemon.stop()
    (directory / "control").write_text("mine")
    result = subprocess.run(daemon.namespace.enter(DAEMON, "--state", daemon.state, "--socket", daemon.socket),
                            capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1 and "something else" in result.stderr
    assert (directory / "control").read_text() == "mine"


@pytest.mark.any_rung
def test_the_socket_of_another_stays(make_daemon, directory):
    """Who ends removes his own socket, not one that has come to its path since."""
    daemon = make_daemon().start()
    os.unlink(daemon.socket)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(daemon.socket)
        daemon.stop()
        assert os.path.exists(daemon.socket)
    os.unlink(daemon.socket)
    daemon.start()
    daemon.stop()
    assert not os.path.exists(daemon.socket)


def test_hostile_clients_do_no_harm(daemon):
    def send(data, half=False):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(daemon.socket)
            try:
                s.sendall(data)
                if half:
                    return b""
                s.shutdown(socket.SHUT_WR)
                reply = b""
                while chunk := s.recv(65536):
                    reply += chunk
                return reply
            except (BrokenPipeError, ConnectionResetError):
                return b""

    for data in (b"", b"\0", b"{}\0", b"null\0", b"[" * 40000 + b"\0", b"x" * 70000, b'{"method":1}\0', b'{"method":"a"}\0',
                 b'{"method":"org.portledger.ledger.Sync","more":1}\0', b'{"method":"a.B","x":1}\0', b"\xff\xfe\0",
                 b'{"method":"org.portledger.ledger.Who","parameters":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}\0"):
        assert b"continues" not in send(data)
        send(data, half=True)
    errors = []
    for method, parameters in (("Who", {}), ("Who", {"port": 0, "from_usec": 1, "until_usec": 2}), ("Who", {"port": "x"}),
                               ("Who", {"port": 5, "from_usec": 2, "until_usec": 1}), ("Nope", {}), ("Claims", {"colour": 1}),
                               ("Audit", {}), ("Follow", {})):
        reply = json.loads(send(json.dumps({"method": f"org.portledger.ledger.{method}", "parameters": parameters}).encode()
                                + b"\0").rstrip(b"\0"))
        errors.append(reply["error"])
    assert all(e.startswith(("org.varlink.service.", "org.portledger.ledger.")) for e in errors)
    assert errors[4] == "org.varlink.service.MethodNotFound" and errors[7] == "org.varlink.service.ExpectedMore"
    sync(daemon)
