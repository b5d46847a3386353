# SPDX-License-Identifier: MIT
"""Names are attackers' bytes: in no output mode do they move a cursor or forge a row, and the raw name comes back."""
import csv
import io
import itertools
import json
import os
import pty
import random
import re
import sqlite3
import subprocess

import pytest

from conftest import CLIENT, PATIENCE

pytestmark = pytest.mark.any_rung

NAMES = [
    b"ev\x1b[31mil", b"new\nline", b"a) R 1 1 1", b"\xff\xfe\x80", "a\u202etxt.exe".encode(), b'a,b"c\'d', b"=cmd()", b"back\\slash",
    b"\x07\x08\x7f", "c1\u009b31m".encode(), b"tab\there", b"%s%n", b"<script>", b"$(id)`id`", b"\xc3", b"\\x1b",
]
MODES = ([], ["--json=short"], ["--json=pretty"], ["--csv"], ["--color=always"], ["--no-legend"])
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def restore(stored):
    """The inverse of the stored form, as portledger-ledger(7) has it."""
    out, i, data = bytearray(), 0, stored.encode()
    while i < len(data):
        if data[i:i + 2] == b"\\\\":
            out += b"\\"
            i += 2
        elif data[i:i + 2] == b"\\x":
            out.append(int(data[i + 2:i + 4], 16))
            i += 4
        else:
            out.append(data[i])
            i += 1
    return bytes(out)


@pytest.fixture(name="claims")
def make_claims(daemon, actor):
    """Each name has one claim; {port: raw name}."""
    wanted = {}
    for name in NAMES:
        raw, port = actor.do(f"named_child('{name.hex()}')")
        wanted[port] = bytes.fromhex(raw)
        assert wanted[port] == name[:15]
    return wanted


OF_ALL = [("now",), ("history",), ("audit", "-S", "-1h"), ("audit", "-S", "-1h", "--diff", "-2h"), ("status",)]


def everything(claims):
    """Each command in each mode."""
    of_one = [command for port in claims for command in ((str(port),), ("who", str(port), "--at", "now"))]
    return list(itertools.product(MODES, OF_ALL + of_one))


def some(claims):
    """What shows all names in each mode; what shows one in a mode each, other ones in each run."""
    modes = random.sample(MODES, len(MODES))
    of_one = [(mode, command) for mode, port in zip(itertools.cycle(modes), claims)
              for command in ((str(port),), ("who", str(port), "--at", "now"))]
    return list(itertools.product(MODES, OF_ALL)) + of_one


def test_raw_names_come_back(daemon, claims):
    rows, _ = daemon.rows("now")
    assert {c["port"]: restore(c["comm"]) for c in rows} == claims
    result = daemon.client("now", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {int(c["port"]): restore(c["comm"]) for c in rows} == claims
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        assert {p: restore(c) for p, c in db.execute("SELECT port, comm FROM claims")} == claims


@pytest.mark.parametrize("locale, commands", [
    ("C.UTF-8", some), pytest.param("C.UTF-8", everything, marks=pytest.mark.long), pytest.param("C", everything, marks=pytest.mark.long)])
def test_no_mode_lets_a_control_byte_through(daemon, claims, locale, commands):
    for mode, command in commands(claims):
        result = daemon.client(*command, *mode, env={"LC_ALL": locale})
        assert result.returncode in (0, 1), (command, mode, result.stderr)
        text = result.stdout
        if mode == ["--color=always"]:
            text = re.sub("\x1b\\[[0-9;]*m", "", text)  # our own colours
            text = re.sub("\x1b\\]8;;[^\x1b]*\x1b\\\\", "", text)
        found = FORBIDDEN.search(text.replace("\r\n", "\n"))
        assert not found, (command, mode, repr(text[max(0, found.start() - 20):found.end() + 20]))


@pytest.mark.long
def test_as_many_rows_as_claims(daemon, claims):
    result = daemon.client("now", "--no-legend")
    assert sum(1 for line in result.stdout.splitlines() if re.search(r"\b\d{5}/udp\b", line)) == len(claims)
    result = daemon.client("now", "--csv")
    assert len(list(csv.reader(io.StringIO(result.stdout)))) == len(claims) + 1
    result = daemon.client("now", "--json=short")
    assert sum(1 for line in result.stdout.splitlines() if "port" in json.loads(line)) == len(claims)
    comms = daemon.client("now", "-F", "comm").stdout.splitlines()
    assert {restore(c) for c in comms} == set(claims.values())


def test_pseudo_terminal(daemon, claims):
    for command in (["now", "--no-pager"], ["audit", "-S", "1h ago", "--no-pager"], ["history", "--no-pager"]):
        master, slave = pty.openpty()
        process = subprocess.Popen([CLIENT, "--socket", daemon.socket, *command], stdin=slave, stdout=slave, stderr=slave,
                                   env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"})
        os.close(slave)
        data = b""
        try:
            while chunk := os.read(master, 65536):
                data += chunk
        except OSError:
            pass  # EIO: the other end is closed
        os.close(master)
        assert process.wait(PATIENCE) == 0
        text = re.sub("\x1b\\[[0-9;]*m", "", data.decode()).replace("\r\n", "\n")
        found = FORBIDDEN.search(text)
        assert not found, (command, repr(text[max(0, found.start() - 20):found.end() + 20]))
        if command[0] == "now":
            assert len(re.findall(r"\b\d{5}/udp\b", text)) == len(claims)
