# SPDX-License-Identifier: MIT
"""Varlink on standard input and output: every byte arrives, in both directions, whoever ends first and however slow."""
import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest

from conftest import CLIENT, PATIENCE, wait_for

pytestmark = pytest.mark.any_rung

MESSAGE = b'{"method":"org.varlink.service.GetInfo"}\0'
CHUNK = bytes(range(256)) * 256
MANY = 512  # chunks: 32 MiB


def start(path, **options):
    return subprocess.Popen([CLIENT, "--socket", str(path)], stderr=subprocess.PIPE, env={
        **os.environ, "SYSTEMD_VARLINK_LISTEN": "-"}, **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options})


def end(process, code):
    """It ends by itself, so; what it said."""
    assert process.wait(PATIENCE) == code
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    with process.stderr:
        return process.stderr.read().decode()


@pytest.fixture(name="serve")
def make_server(directory):
    """serve(talk) -> a path where one client is talked to, by a thread; what fails there fails the test."""
    threads, failures = [], []

    def serve(talk):
        path = str(directory / f"control{len(threads)}")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def run():
            try:
                client, _ = listener.accept()
                with client:
                    client.settimeout(PATIENCE)
                    talk(client)
            except BaseException as failure:  # the test's to see
                failures.append(failure)

        threads.append((threading.Thread(target=run, daemon=True), listener))
        threads[-1][0].start()
        return path

    yield serve
    for thread, listener in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
        listener.close()
    assert not failures, failures


def read_all(client):
    data = b""
    while chunk := client.recv(1 << 20):
        data += chunk
    return data


def test_it_is_the_daemon_that_answers(daemon):
    """Calls in one piece, an end of file, and each answer, as a connection of one's own would have it."""
    calls = b"".join(json.dumps({"method": f"org.varlink.service.{method}", "parameters": parameters}).encode() + b"\0"
                     for method, parameters in [("GetInfo", {}), ("Nothing", {}),
                                                ("GetInterfaceDescription", {"interface": "org.portledger.ledger"})] * 100)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(daemon.socket)
        s.sendall(calls)
        s.shutdown(socket.SHUT_WR)
        direct = read_all(s)
    process = start(daemon.socket)
    out, err = process.communicate(calls, PATIENCE)
    assert (process.returncode, err) == (0, b"") and direct.count(b"\0") == 300 and out == direct


def test_the_end_of_input_is_passed_on_and_the_answer_still_comes(serve):
    def talk(client):
        assert read_all(client) == MESSAGE  # all that came, and its end
        client.sendall(CHUNK)

    process = start(serve(talk))
    assert process.communicate(MESSAGE, PATIENCE) == (CHUNK, b"") and process.returncode == 0


def test_a_daemon_that_hangs_up_first_is_3_after_its_last_byte(serve):
    def talk(client):
        assert client.recv(1 << 20) == MESSAGE
        client.sendall(CHUNK)

    path = serve(talk)
    process = start(path)
    process.stdin.write(MESSAGE)
    process.stdin.flush()  # and no end of file
    assert process.stdout.read() == CHUNK
    assert end(process, 3) == f"portledger: the daemon at {path} closed the connection\n"


def test_a_killed_daemon_is_3(make_daemon):
    daemon = make_daemon().start()
    process = start(daemon.socket)
    process.stdin.write(b'{"method":"org.portledger.ledger.Follow","more":true}\0')
    process.stdin.flush()
    assert b'"open"' in process.stdout.read1()
    daemon.kill()
    assert process.stdout.read() == b""
    assert "closed the connection" in end(process, 3)


def test_no_daemon_is_3_and_denied_is_4(directory):
    assert "no daemon answers at" in end(start(directory / "none"), 3)
    path = directory / "control"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
        os.chmod(directory, 0o755)
        os.chmod(path, 0o600)
        if os.geteuid() == 0:
            assert "permission denied" in end(start(path, user=65534, group=65534, extra_groups=[]), 4)


def pipe_is_full(pipe):
    count = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return count > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) - 4096


def test_a_slow_reader_is_waited_for_in_bounded_memory(serve):
    def talk(client):
        for _ in range(MANY):
            client.sendall(CHUNK)
        assert client.recv(1) == b""

    process = start(serve(talk), bufsize=0)
    wait_for(lambda: pipe_is_full(process.stdout), "the pipe to be full")
    count, expected = 0, CHUNK + CHUNK
    while count < MANY * len(CHUNK):
        data = process.stdout.read(5000)
        assert data and expected.startswith(data, count % len(CHUNK))
        count += len(data)
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
        peak = int(f.read().split("VmHWM:")[1].split()[0])
    process.stdin.close()
    assert process.stdout.read() == b"" and end(process, 0) == ""
    # the program and two buffers; a sanitizer keeps freed memory for itself
    sanitized = b"__asan_init" in CLIENT.read_bytes()
    assert sanitized or peak < 12 * 1024, peak


def test_a_slow_daemon_is_waited_for(serve):
    """It takes nothing until the writer is blocked: then every byte, and the end."""
    filled, received = threading.Event(), []

    def talk(client):
        assert filled.wait(PATIENCE)
        received.append(read_all(client))

    process = start(serve(talk), bufsize=0)

    def write():
        for _ in range(64):
            process.stdin.write(CHUNK)  # less than PIPE_BUF is left over by no write of a blocking pipe
        process.stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: pipe_is_full(process.stdin), "the pipe to be full")
    filled.set()
    writer.join(PATIENCE)
    assert process.stdout.read() == b"" and end(process, 0) == ""
    assert received == [CHUNK * 64]


def cpu_ticks(process):
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13]))


def rests(process):
    """It waits without turning: a poll that returns at once would use all of a third of a second."""
    before = cpu_ticks(process)
    time.sleep(0.3)
    return cpu_ticks(process) - before < os.sysconf("SC_CLK_TCK") // 20


def test_it_rests_while_it_waits(serve):
    """With an end that hung up, one that is full, or both."""
    begun, ended = threading.Event(), threading.Event()

    def quiet(client):
        assert read_all(client) == b""
        begun.set()
        assert ended.wait(PATIENCE)

    process = start(serve(quiet))
    process.stdin.close()
    assert begun.wait(PATIENCE)  # to start costs, too
    assert rests(process)
    ended.set()
    assert process.stdout.read() == b"" and end(process, 0) == ""

    def hangs_up(client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.sendall(CHUNK * 5)  # more than it and the pipe hold; some waits in the socket

    process = start(serve(hangs_up))
    wait_for(lambda: pipe_is_full(process.stdout), "the pipe to be full")
    process.stdin.close()
    assert rests(process)
    assert process.stdout.read() == CHUNK * 5
    end(process, 0)

    taken = threading.Event()

    def takes_nothing(client):
        assert taken.wait(PATIENCE)
        assert read_all(client) == CHUNK * 64

    process = start(serve(takes_nothing), bufsize=0)
    writer = threading.Thread(target=lambda: (process.stdin.write(CHUNK * 64), process.stdin.close()))
    writer.start()
    wait_for(lambda: pipe_is_full(process.stdin), "the pipe to be full")
    assert rests(process)
    taken.set()
    writer.join(PATIENCE)
    assert process.stdout.read() == b"" and end(process, 0) == ""


def test_both_directions_at_once(serve):
    def talk(client):
        while data := client.recv(65536):
            client.sendall(data)

    process = start(serve(talk))
    out, err = process.communicate(CHUNK * MANY, PATIENCE)
    assert out == CHUNK * MANY and (process.returncode, err) == (0, b"")


def test_a_reader_that_went_away_ends_it(serve):
    """Nothing is ever written, and the input stays open: that nobody reads has to be noticed by itself."""
    def talk(client):
        assert read_all(client) == MESSAGE

    process = start(serve(talk))
    process.stdin.write(MESSAGE)
    process.stdin.flush()
    process.stdout.close()
    assert end(process, 0) == ""


def test_the_last_words_of_one_who_left_arrive(serve):
    def talk(client):
        assert read_all(client) == CHUNK[:60000]

    read, write = os.pipe()
    os.write(write, CHUNK[:60000])  # all of it waits there when it starts
    gone, out = os.pipe()
    os.close(gone)
    os.close(write)
    process = start(serve(talk), stdin=read, stdout=out)
    os.close(read)
    os.close(out)
    assert end(process, 0) == ""


def test_a_socket_for_both_and_half_a_close(serve):
    def talk(client):
        assert read_all(client) == CHUNK * 8
        client.sendall(CHUNK * 8)

    ours, theirs = socket.socketpair()
    with ours:
        process = start(serve(talk), stdin=theirs, stdout=theirs)
        theirs.close()
        ours.settimeout(PATIENCE)
        ours.sendall(CHUNK * 8)
        ours.shutdown(socket.SHUT_WR)
        assert read_all(ours) == CHUNK * 8
    assert end(process, 0) == ""


def test_standard_descriptors_stay_as_they_are(serve):
    """Who started us shares them: a pipe left non-blocking would break him."""
    def talk(client):
        client.sendall(b"x")
        read_all(client)

    process = start(serve(talk))
    assert process.stdout.read(1) == b"x"
    for stream in (process.stdin, process.stdout):
        assert not fcntl.fcntl(stream, fcntl.F_GETFL) & os.O_NONBLOCK
    process.stdin.close()
    assert end(process, 0) == ""


@pytest.mark.parametrize("closing", ["<&-", ">&-"])
def test_nothing_to_serve_on(daemon, closing):
    result = subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", CLIENT, "--socket", daemon.socket], env={
        **os.environ, "SYSTEMD_VARLINK_LISTEN": "-"}, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 5 and "is closed" in result.stderr
