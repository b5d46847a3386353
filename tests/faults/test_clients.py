# SPDX-License-Identifier: MIT
"""Clients, many and slow and malicious: none is answered with more than it may have, none keeps the others waiting, and of
the claims that are made meanwhile not one is lost."""
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import time

import pytest

from conftest import EVENTS, FULL, PATIENCE, STATUS, SYNC, all_there, descriptors, memory, status, sync, wait_for

pytestmark = pytest.mark.any_rung

LIMIT_CLIENTS, LIMIT_FRAME_BYTES, LIMIT_STALLED = 64, 64 * 1024, 10.0
MIB = 1024 * 1024


@contextlib.contextmanager
def connections(path):
    """Makes as many as are asked for; all are closed at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    made = []

    def connect():
        s = socket.socket(socket.AF_UNIX)
        made.append(s)
        s.connect(str(path))  # waits while too many wait already
        s.settimeout(PATIENCE)
        return s

    try:
        yield connect
    finally:
        for s in made:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def call(method, parameters=None, **members):
    return json.dumps({"method": method, "parameters": parameters or {}, **members}).encode() + b"\0"


def replies(s, count=None):
    """So many replies, or all until the other side closes."""
    data, found = b"", []
    while count is None or len(found) < count:
        chunk = s.recv(1 << 16)
        if not chunk:
            break
        data += chunk
        *frames, data = data.split(b"\0")
        found += map(json.loads, frames)
    return found


def is_closed(s):
    """By the other side; what it still sent is read."""
    s.setblocking(False)
    try:
        while s.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture(name="control")
def fixed_control(daemon):
    """The process that meets clients. It is the same one in the end, with as few descriptors as in the beginning."""
    sync(daemon)
    pid = daemon.child("pl-control")
    before = descriptors(pid)
    yield pid
    assert daemon.child("pl-control") == pid
    wait_for(lambda: descriptors(pid) <= before + 1, "descriptors to be closed")


def test_ten_thousand_connections(daemon, control):
    """64 are let in, and each of the others is told that there are too many, and closed."""
    with connections(daemon.socket) as connect:
        kept = [connect() for _ in range(LIMIT_CLIENTS)]
        for s in kept:
            s.sendall(call("org.varlink.service.GetInfo"))
            assert "error" not in replies(s, 1)[0]
        refused = 0
        for _ in range(10_000 if FULL else 1_000):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(daemon.socket)
                s.settimeout(PATIENCE)
                answers = replies(s)
                assert [a["error"] for a in answers] == ["org.portledger.ledger.TooManyClients"], answers
                refused += 1
        assert refused and descriptors(control) < LIMIT_CLIENTS + 40
        for s in kept:
            s.sendall(call(STATUS))
            assert "error" not in replies(s, 1)[0]
    wait_for(lambda: daemon.answers(), "room for the next one")


def test_one_user_does_not_take_all_places(daemon, control, directory):
    """16 connections of a user, at most; root comes in all the same."""
    directory.chmod(0o755)
    os.chmod(daemon.socket, 0o666)
    script = f"""
import socket
made, told = [], 0
for _ in range(100):
    s = socket.socket(socket.AF_UNIX)
    s.connect({daemon.socket!r})
    s.settimeout({PATIENCE})
    try:
        s.sendall(b'{{"method":"org.varlink.service.GetInfo"}}\\0')
    except BrokenPipeError:
        pass  # refused before it asked
    told += b"TooManyClients" in s.recv(65536)
    made.append(s)
print(told, flush=True)
input()
"""
    with subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert int(stranger.stdout.readline()) == 100 - 16
        with connections(daemon.socket) as connect:
            mine = [connect() for _ in range(LIMIT_CLIENTS - 16)]
            for s in mine:
                s.sendall(call("org.varlink.service.GetInfo"))
                assert "error" not in replies(s, 1)[0]
        stranger.communicate("\n", timeout=PATIENCE)


def test_half_a_call_for_ever(daemon, control):
    """A byte at a time, never a whole call: it waits, and nobody with it."""
    with connections(daemon.socket) as connect:
        slow = [connect() for _ in range(LIMIT_CLIENTS - 4)]
        text = call(STATUS)
        for i in range(len(text) - 1):
            for s in slow:
                s.sendall(text[i:i + 1])
            if i % 10 == 0:
                begin = time.monotonic()
                status(daemon)
                assert time.monotonic() - begin < PATIENCE / 4
        for s in slow:
            s.sendall(text[-1:])
        for s in slow:
            assert "parameters" in replies(s, 1)[0]


def silent(connect, count):
    """Clients that ask for more than their socket takes, and read nothing of it."""
    made = []
    for _ in range(count):
        s = connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.append(s)
    for s in made:
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            s.sendall(call("org.varlink.service.GetInterfaceDescription", {"interface": "org.portledger.ledger"}) * 200)
    return made


@pytest.mark.long
def test_silent_readers_are_cut(daemon, control):
    """Each is kept at most ten seconds, and costs at most a mebibyte meanwhile."""
    before, few = memory(control, "VmRSS"), descriptors(control)
    with connections(daemon.socket) as connect:
        readers = silent(connect, LIMIT_CLIENTS - 2)
        status(daemon)
        assert memory(control, "VmHWM") - before < LIMIT_CLIENTS * 1.5 * MIB
        end = time.monotonic() + LIMIT_STALLED + PATIENCE
        while time.monotonic() < end and descriptors(control) > few:
            time.sleep(0.2)
        # What they had sent is still unread, so they are not told of it in order.
        assert all(is_closed(s) for s in readers)
    status(daemon)


@pytest.mark.long
def test_a_thousand_connections_and_64_silent_readers_under_load(make_daemon, make_load, namespace):
    """... and of 5,000 claims a second not one is lost."""
    daemon = make_daemon(options=EVENTS).start()
    sync(daemon)
    seconds = 10 if FULL else 2
    load = make_load("--count", 5_000 * seconds, "--rate", 5_000)
    with connections(daemon.socket) as connect:
        silent(connect, LIMIT_CLIENTS)
        others = 0
        while load.process.poll() is None or others < 1_000:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(daemon.socket)
                s.settimeout(PATIENCE)
                with contextlib.suppress(BrokenPipeError):
                    s.sendall(call(STATUS)[:-5])
                others += 1
    truth = load.truth()
    wait_for(daemon.answers, "a place among its clients")
    result = all_there(daemon, truth)
    found = status(daemon)
    assert found["lost"] == 0 and found["found_only_by_sweep"] == 0 and found["gaps"] == 0, found
    print(f"{others} connections beside {LIMIT_CLIENTS} silent readers; made {result.made}, recorded {result.recorded}, lost 0")


DEEP = b'{"method":"' + SYNC.encode() + b'","parameters":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}\0"
BOMBS = {
    "deep": DEEP,
    "deep list": b"[" * 60_000 + b"\0",
    "huge": b'{"method":"' + b"a" * (LIMIT_FRAME_BYTES + 1) + b'"}\0',
    "endless": b" " * (256 * LIMIT_FRAME_BYTES),
    "huge number": b'{"method":"org.portledger.ledger.Claims","parameters":{"limit":' + b"9" * 5_000 + b"}}\0",
    "huge exponent": b'{"method":"org.portledger.ledger.Claims","parameters":{"limit":1e99999}}\0',
    "keys twice": b'{"method":"org.portledger.ledger.Sync","method":"org.portledger.ledger.Nope"}\0',
    "lone surrogate": b'{"method":"org.portledger.ledger.\\ud800"}\0',
    "escaped NUL": b'{"method":"org.portledger.ledger.Sync\\u0000x"}\0',
    "no UTF-8": b'{"method":"\xff\xfe\xc0\x80"}\0',
    "empty": b"\0" * 1_000,
    "no object": b"null\0true\x001\0\"x\"\0[]\0",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_bombs(daemon, control, bomb):
    """A typed error, or the end of the connection; never more, and the others have their answers."""
    before = memory(control, "VmRSS")
    with connections(daemon.socket) as connect:
        s = connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(BOMBS[bomb])
            s.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            for reply in replies(s):
                assert reply["error"].startswith(("org.varlink.service.", "org.portledger.ledger.")), reply
        status(daemon)
    assert memory(control, "VmHWM") - before < 8 * MIB


def test_ten_thousand_calls_at_once(daemon, control):
    """All are answered, in order, and others have theirs in between."""
    count = 10_000
    with connections(daemon.socket) as connect:
        s = connect()
        sent = 0
        text = b"".join(call(f"org.portledger.ledger.No{i}") for i in range(count))
        answered = []
        data = b""
        s.setblocking(False)
        while len(answered) < count:
            with contextlib.suppress(BlockingIOError):
                sent += s.send(text[sent:sent + 65536]) if sent < len(text) else 0
            with contextlib.suppress(BlockingIOError):
                data += s.recv(1 << 16)
            *frames, data = data.split(b"\0")
            answered += [json.loads(frame)["parameters"]["method"] for frame in frames]
            if len(frames) and len(answered) % 1_000 < len(frames):
                begin = time.monotonic()
                status(daemon)
                assert time.monotonic() - begin < PATIENCE / 4
        assert answered == [f"org.portledger.ledger.No{i}" for i in range(count)]


def test_gone_amid_an_answer(daemon, control):
    """Whoever hangs up is forgotten at once, not only when somebody else needs the place, or when nothing was taken for ten seconds."""
    few = descriptors(control)
    for i in range(200):
        with connections(daemon.socket) as connect:
            s = connect()
            s.sendall(call(STATUS) * 20)
            if i % 2:
                s.recv(10)
            if i % 3 == 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    # ... and these are gone for certain before the first answer.
    os.kill(control, signal.SIGSTOP)
    try:
        with connections(daemon.socket) as connect:
            for _ in range(20):
                connect().sendall(call(STATUS))
    finally:
        os.kill(control, signal.SIGCONT)
    status(daemon)
    wait_for(lambda: descriptors(control) <= few, "those who hung up to be forgotten", 5)


def test_gone_while_nothing_is_told(daemon, control):
    """Who follows, and hangs up while there is nothing to send: no error of a send shows it."""
    few = descriptors(control)
    with connections(daemon.socket) as connect:
        for _ in range(8):
            s = connect()
            s.sendall(call("org.portledger.ledger.Follow", more=True))
            assert "error" not in replies(s, 1)[0]
        assert descriptors(control) > few
    wait_for(lambda: descriptors(control) <= few, "those who follow to be forgotten")


def test_quick_followers(daemon, control):
    """Who follows and hangs up, one after the other, where four places are left: the place of one who went is the next one's at once."""
    follow = call("org.portledger.ledger.Follow", more=True)
    with connections(daemon.socket) as connect:
        kept = [connect() for _ in range(LIMIT_CLIENTS - 4)]
        for s in kept:
            s.sendall(call("org.varlink.service.GetInfo"))
            assert "error" not in replies(s, 1)[0]
        for heard in (True, False):
            for _ in range(200):
                s = connect()
                s.sendall(follow)
                if heard:
                    answer = replies(s, 1)[0]
                    assert "error" not in answer, answer
                s.close()
        s = connect()
        s.sendall(call("org.varlink.service.GetInfo"))
        assert "error" not in replies(s, 1)[0]
    assert descriptors(control) < LIMIT_CLIENTS + 40


def test_no_descriptor_is_left(make_daemon, make_load):
    """Control turns clients away; the claims are recorded, and it serves again when it may."""
    daemon = make_daemon(options=EVENTS).start()
    sync(daemon)
    control = daemon.child("pl-control")
    highest = max(map(int, os.listdir(f"/proc/{control}/fd")))
    resource.prlimit(control, resource.RLIMIT_NOFILE, (highest + 1, 4096))
    try:
        turned_away = 0
        load = make_load("--count", 1_000)
        with connections(daemon.socket) as connect:
            for _ in range(20):
                s = connect()
                try:
                    s.sendall(call("org.varlink.service.GetInfo"))
                    turned_away += replies(s, 1) == []
                except (BrokenPipeError, ConnectionResetError):
                    turned_away += 1
                if turned_away:
                    break
        assert turned_away
        truth = load.truth()
    finally:
        resource.prlimit(control, resource.RLIMIT_NOFILE, (4096, 4096))
    wait_for(daemon.answers, "control to serve again")
    all_there(daemon, truth)
    assert "no descriptor is left for a client" in daemon.log.read_text()
    assert daemon.child("pl-control") == control


