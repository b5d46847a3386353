# SPDX-License-Identifier: MIT
"""The journal of a real journald: fields, the catalog, hostile names, and a journald that is restarted, stopped or hangs."""
import contextlib
import os
import re
import shlex
import sys

import pytest

from conftest import ROOT, UNIT, wait_for

TABLE = (ROOT / "common/event.h").read_text(encoding="utf-8")
EVENTS = dict(re.findall(r'^\tX\(\w+, "([a-z-]+)", [A-Z]+, "(\w{32})"\)', TABLE, re.M))
EVIL = "e\x1b[2J\n\\<0>"
SAFE = "e\\x1b[2J\\x0a\\\\<0>"
# listens on a port of the kernel's choice, says which, and stays as long as it is asked to
LISTENER = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(600)"
JOURNALD = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket", "systemd-journald.service")


def events(box, name, since=None):
    return box.journal(f"MESSAGE_ID={EVENTS[name]}", since=since)


@pytest.fixture(name="listen")
def make_listeners(service):
    """A program of that name, in a unit of that name, that listens: its port, once the ledger has it."""
    with contextlib.ExitStack() as stack:

        def listen(unit, name):
            path = f"/var/tmp/{name}"
            service.run("cp", os.path.realpath(sys.executable), path)
            stack.callback(service.run, "systemctl", "stop", unit, check=False)
            service.run("systemd-run", f"--unit={unit}", "--collect", "-p", f"StandardOutput=file:/var/tmp/{unit}.port", "sh", "-c",
                        "exec " + shlex.join([path, "-c", LISTENER]))
            port = int(wait_for(lambda: service.run("cat", f"/var/tmp/{unit}.port", check=False).stdout, "the listener"))
            wait_for(lambda: port in [r["port"] for r in service.rows("now")[0]], "the claim")
            return port

        yield listen


def test_events_have_their_fields(service):
    began = events(service, "recording-began")[-1]
    assert began["_TRANSPORT"] == "journal" and began["_SYSTEMD_UNIT"] == UNIT and began["SYSLOG_IDENTIFIER"] == "portledgerd"
    assert began["_PID"] == str(service.main_pid())
    assert (began["PORTLEDGER_EVENT"], began["PORTLEDGER_RUNG"], began["PRIORITY"]) == ("recording-began", "events", "5")
    assert int(began["PORTLEDGER_INTERVAL_USEC"]) == 1_000_000
    # the first sweep of a new database, by the child that has no right left
    learnt = wait_for(lambda: events(service, "baseline"), "the first commit")[0]
    assert learnt["PORTLEDGER_PROCESS"] == "pl-ledger" and learnt["_TRANSPORT"] == "journal" and learnt["_CAP_EFFECTIVE"] == "0"
    cursor = service.cursor()
    service.run("systemctl", "stop", UNIT)
    assert [e["_TRANSPORT"] for e in events(service, "recording-stopped", since=cursor)] == ["journal"]
    summary, = events(service, "summary", since=cursor)
    assert summary["PRIORITY"] == "6" and int(summary["PORTLEDGER_SWEEPS"]) > 0


def test_the_catalog_explains_each(service):
    for name, id_ in EVENTS.items():
        entry = service.text("journalctl", "--dump-catalog", id_)
        assert re.search(r"^Subject: \w", entry, re.M) and "Documentation: man:portledgerd(8)" in entry, name
    text = service.text("journalctl", "-x", "-u", UNIT, f"MESSAGE_ID={EVENTS['recording-began']}", "-n", "1")
    assert "░░ Subject: Recording of ports has begun" in text
    assert "░░ From here on the ports 32768-65535 are watched, by events." in text


def test_a_new_listener_with_its_unit_once_ever(service, listen):
    cursor = service.cursor()
    port = listen("pl-test-once", "once")
    said = wait_for(lambda: events(service, "listener-new", since=cursor), "the news")
    row, = [r for r in service.rows("now")[0] if r["port"] == port]
    assert [(e["PORTLEDGER_EXE"], e["PORTLEDGER_UNIT"], e["PORTLEDGER_PORT"], e["PORTLEDGER_PROTOCOL"], e["PORTLEDGER_PID"])
            for e in said] == [("/var/tmp/once", "pl-test-once.service", str(port), "tcp", str(row["pid"]))]
    program, = events(service, "program-new", since=cursor)
    assert (program["PORTLEDGER_EXE"], program["PORTLEDGER_ROLE"]) == ("/var/tmp/once", "bound")
    # the daemon's sandbox has a mount namespace of its own; the program is in the machine's
    assert row["exe_note"] is None and "PORTLEDGER_EXE_NOTE" not in program
    cursor = service.cursor()
    service.run("systemctl", "restart", UNIT)
    assert port in [r["port"] for r in service.rows("now")[0]]
    assert not events(service, "program-new", since=cursor) and not events(service, "listener-new", since=cursor)


def test_hostile_names_arrive_safe(service, listen):
    cursor = service.cursor()
    port = listen("pl-test-evil", EVIL)
    listener, = wait_for(lambda: events(service, "listener-new", since=cursor), "the news")
    assert listener["PORTLEDGER_EXE"] == f"/var/tmp/{SAFE}" and listener["PORTLEDGER_COMM"] == SAFE
    assert f"{port}/tcp" in listener["MESSAGE"] and SAFE in listener["MESSAGE"]
    for mode in (("-o", "short"), ("-o", "verbose"), ("-o", "cat"), ("-o", "json"), ("-x", "--all"), ("-o", "export")):
        text = service.text("journalctl", "-u", UNIT, "--cursor", cursor, *mode)
        assert f"{port}/tcp" in text
        assert "blob data" not in text
        if mode != ("-o", "export"):  # which is binary by design
            assert not [c for c in text if ord(c) < 32 and c not in "\n\t" or 127 <= ord(c) < 160], mode


def test_a_journald_that_is_restarted(service, listen):
    restarts, main = service.show("NRestarts"), service.main_pid()
    service.run("systemctl", "restart", "systemd-journald")
    cursor = service.cursor()
    port = listen("pl-test-restarted", "restarted")
    assert [e["PORTLEDGER_PORT"] for e in wait_for(lambda: events(service, "listener-new", since=cursor), "the news")] == [str(port)]
    assert (service.show("NRestarts"), service.main_pid()) == (restarts, main)


def test_a_journald_that_is_stopped(service, listen):
    """Its sockets are gone, and standard error has no reader: recording goes on, and what was lost is counted."""
    restarts, processes = service.show("NRestarts"), service.processes()
    service.run("systemctl", "stop", *JOURNALD)
    try:
        port = listen("pl-test-stopped", "stopped")
        assert port in [r["port"] for r in service.rows("now")[0]]
        assert service.processes() == processes
    finally:
        service.run("systemctl", "start", *JOURNALD)
    cursor = service.cursor()
    listen("pl-test-started", "started")
    wait_for(lambda: events(service, "listener-new", since=cursor), "the news")
    lost = events(service, "lines-lost", since=cursor)
    assert [(e["PORTLEDGER_PROCESS"], e["PORTLEDGER_LOST"]) for e in lost] == [("pl-ledger", "2")]
    assert service.processes() == processes and service.show("NRestarts") == restarts


def test_a_journald_that_hangs(service, listen):
    processes = service.processes()
    journald = service.show("MainPID", "systemd-journald.service")
    service.run("kill", "-STOP", journald)
    try:
        port = listen("pl-test-hangs", "hangs")
        for _ in range(20):
            service.run("systemctl", "kill", "--kill-whom=main", "-s", "HUP", UNIT)
            assert port in [r["port"] for r in service.rows("now")[0]]
        assert service.processes() == processes
    finally:
        service.run("kill", "-CONT", journald)
    assert wait_for(lambda: [e for e in events(service, "listener-new") if e["PORTLEDGER_PORT"] == str(port)], "the news")
    assert service.processes() == processes
    # what was asked of it last it may do a second later: not amid the next test
    service.run("systemctl", "restart", UNIT)
