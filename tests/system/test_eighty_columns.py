# SPDX-License-Identifier: MIT
"""Every verb on a terminal of 80 columns: with hostile, long and wide names, with nothing recorded yet, and where it is used wrongly.
No line is longer, and nothing but colours comes through."""
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import unicodedata

import pytest

from conftest import CLIENT, PATIENCE, Traced
from test_hostile_names import FORBIDDEN

WIDTH = 80
NAMES = ("curl", "a-program-with-a-name-that-goes-on-for-ever-and-ever-1234567890", "evil\x1b]0;x\x07\u202egpj.exe", "名前が長いプログラム名前が長い",
         "<b>&amp;'\"", "😀" * 20, "new\nline")
VERBS = (("status",), ("44892",), ("explain", "60530/udp"), ("who", "44892"), ("who", "44892", "--at", "-1d"), ("now",), ("history",),
         ("audit", "-S", "-1h"), ("audit",), *(("audit", "-S", "-1h", "--by", by) for by in ("unit", "user", "port", "hour", "netns")),
         ("audit", "-S", "-1h", "--diff", "yesterday"), ("listeners",), ("pressure",), ("pressure", "--at", "-1h"), ("failures",), ("apps",),
         ("apps", "--new"), ("app", "curl"), ("app", "evil"), ("doctor",), ("doctor", "--self-test", "1"), ("help",), ("who", "--help"), ("annotate",))
WRONG = (("audti",), ("who",), ("99999",), ("history", "--sinc", "x"), ("who", "1", "--at", "tomorrow"), ("pressure", "--app", "x"))


def columns(line):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in line)


def on_a_terminal(daemon, *arguments):
    """Exit status, and the lines as they come to a terminal, without their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    socket = ["--socket", daemon.socket] if daemon and arguments[0] != "help" else []
    client = subprocess.Popen([CLIENT, *socket, "--no-pager", *arguments], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                              env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "TZ": "UTC"}, start_new_session=True)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:  # the terminal has nobody any more
        pass
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.decode().replace("\r\n", "\n"))
    return client.wait(PATIENCE), plain


def check(daemon, arguments, statuses):
    status, text = on_a_terminal(daemon, *arguments)
    wide = [line for line in text.split("\n") if columns(line) > WIDTH]
    assert status in statuses and not wide, (arguments, status, wide)
    assert text.strip() and not FORBIDDEN.search(text), (arguments, text)


@pytest.fixture(name="watched")
def make_watched(make_daemon, namespace):
    return make_daemon(namespace=Traced(namespace), config="Failures=yes\n").start()


def test_with_hostile_names(watched, make_actor, directory):
    actors = []
    for name in NAMES:
        shutil.copy(os.path.realpath(sys.executable), directory / name)
        actors.append(make_actor(program=str(directory / name)))
    actors[0].do("listener('far', at=20000)")
    actors[0].do("listener('far6', family='6', at=20001)")
    actors[2].do("listener('l', at=44892)")
    for actor in actors:
        actor.do("client('c', 20000), client('w', 20000), client('c6', 20001, family='6'), bound('u', 'udp', '6')")
        actor.do("close('w')")
    for actor in (actors[1], actors[3]):
        with pytest.raises(AssertionError, match="in use"):
            actor.do("listener('bad', at=44892)")
    for arguments in VERBS:
        check(watched, arguments, (0, 1, 6))


def test_with_nothing_yet(watched):
    for arguments in VERBS:
        check(watched, arguments, (0, 1, 6))


def test_the_receipt_of_values(watched):
    """It goes to standard error, which is a terminal as well."""
    for arguments in (("history", "-F", "port"), ("annotate",)):
        check(watched, arguments, (1,))


def test_used_wrongly(watched):
    for arguments in WRONG:
        check(watched, arguments, (2,))


def test_settings_of_a_long_path(directory):
    """Of where a setting comes from the end is kept: which drop-in, and its line. What is cut is in JSON."""
    path = directory / f"{'a-long-name-' * 4}.conf"
    drop_in = directory / f"{path.name}.d/50-a-drop-in.conf"
    drop_in.parent.mkdir()
    path.write_text("[Capture]\nRanges=" + " ".join(f"{port}-{port + 1}" for port in range(40000, 40100, 10)) + "\n")
    drop_in.write_text("[Store]\nMaxAge=7d\n")
    check(None, ("config", "--config", str(path)), (0,))
    lines = on_a_terminal(None, "config", "--config", str(path))[1].splitlines()
    assert [line.split()[:3] for line in lines if line.endswith("a-drop-in.conf:2")] == [["Store", "MaxAge", "7d"]]
    assert str(drop_in) in on_a_terminal(None, "config", "--config", str(path), "--json=short")[1]


@pytest.mark.parametrize("rung", ("sweep", "destroy"))
def test_the_state_of_the_lower_rungs(make_daemon, rung):
    """What cannot be counted there can be measured, and it is said how."""
    daemon = make_daemon(options=("--rung", rung)).start()
    check(daemon, ("status",), (0,))
    assert "doctor --self-test" in " ".join(on_a_terminal(daemon, "status")[1].split())
