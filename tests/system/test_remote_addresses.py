# SPDX-License-Identifier: MIT
"""What is kept of remote addresses, in a daemon that runs: whole, then networks, then nothing of them; as the client says it and
as the database has it. The claims are hours old, by a replay; the daemon that lets their addresses go is a real one."""
import json
import signal
import sqlite3
import time

import pytest

import stream
from conftest import wait_for

SECOND, HOUR = stream.SECOND, stream.HOUR
FOUR, SIX = bytes((198, 51, 100, 77)), bytes.fromhex("20010db8fedcba98765432100000ccdd")
WHOLE = {"198.51.100.77", "2001:db8:fedc:ba98:7654:3210:0:ccdd"}
CUT = {"198.51.100.0", "2001:db8:fedc::"}
SYNC = "org.portledger.ledger.Sync"


@pytest.fixture(name="began")
def old_claims(make_daemon, directory):
    """Two claims of five hours ago, of both families, that were long over when the daemon began; when they were open."""
    began = time.time_ns() // 1000 - 5 * HOUR
    r = stream.Recording(directory / "recording", began)
    r.process(1, "curl")
    r.sweep()
    r.move()
    r.present(1, 40001, remote=(FOUR, 443), opener=1)
    r.present(2, 40002, remote=(SIX, 443), opener=1, local=bytes(15) + b"\1")
    r.sweep()
    r.move()
    r.absent(1)
    r.absent(2)
    r.sweep()
    r.move()
    r.sweep()
    r.close()
    daemon = make_daemon(options=("--replay", r.file.name)).start()
    daemon.call(SYNC)
    daemon.stop()
    return began


def shown(daemon):
    """The addresses of the old claims, as the client has them."""
    return {row["remote_address"] for row in daemon.rows("history", "--pid", 1)[0]}


def addresses(daemon):
    """Address and port of the old claims: as the client has them, and the same as the database."""
    rows, _ = daemon.rows("history", "--pid", 1)
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        stored = db.execute("SELECT remote_address, remote_port FROM claims WHERE pid = 1 ORDER BY port").fetchall()
    assert [(r["remote_address"], r["remote_port"]) for r in sorted(rows, key=lambda r: r["port"])] == stored
    return stored


def reload(daemon, remotes):
    said = daemon.log.read_text().count("configuration reloaded")
    daemon.config.write_text(f"[Capture]\nInterval=1h\n[Store]\nRemoteAddresses={remotes}\nRemoteAddressesAfter=1h\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.log.read_text().count("configuration reloaded") > said, "the reload")


@pytest.mark.long
def test_they_go_by_age(began, make_daemon, make_actor):
    daemon = make_daemon(config="[Store]\nRemoteAddresses=full\n").start()
    far, client = make_actor(), make_actor()
    far.do("listener('l', at=20000)")
    young = client.do("client('c', 20000)")
    question = ("who", 40001, "-S", f"@{began // SECOND}", "-U", f"@{(began + HOUR) // SECOND}")
    assert {a for a, _ in addresses(daemon)} == WHOLE
    assert daemon.client(*question, "--peer", "198.51.100.77").returncode == 0

    reload(daemon, "truncated")
    wait_for(lambda: shown(daemon) == CUT, "the old addresses to be networks")
    assert {a for a, _ in addresses(daemon)} == CUT and {p for _, p in addresses(daemon)} == {443}
    # who had the port is known; with whom it spoke is no question any more, and the answer says so
    whole, asked = daemon.client(*question, "-j"), daemon.client(*question, "--peer", "198.51.100.77")
    assert json.loads(whole.stdout.splitlines()[0])["comm"] == "curl" and whole.returncode == 0
    assert asked.returncode == 1 and "remote-addresses" in daemon.client(*question, "--peer", "198.51.100.77", "-j").stdout
    assert "addresses" in asked.stdout.splitlines()[-1], asked.stdout
    assert daemon.client(*question, "--peer", "198.51.100.77", "--strict").returncode == 6
    assert "198.51.100.0" in daemon.client(*question).stdout

    reload(daemon, "none")
    wait_for(lambda: shown(daemon) == {None}, "nothing of them to be left")
    assert set(addresses(daemon)) == {(None, None)}
    # what is young has its address, and a laxer setting brings nothing back
    assert [r["remote_address"] for r in daemon.rows("history", young)[0]] == ["127.0.0.1"]
    reload(daemon, "full")
    daemon.call(SYNC)
    assert set(addresses(daemon)) == {(None, None)}
    # nor does a restart
    daemon.stop()
    daemon.start()
    assert set(addresses(daemon)) == {(None, None)}
