# SPDX-License-Identifier: MIT
"""Signals and interrupted calls, under claims whose truth is known; and what systemd did not pass."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import DAEMON, EVENTS, FULL, PATIENCE, all_there, gaps, injected, reasons, run_daemon, status, sync, wait_for

pytestmark = pytest.mark.any_rung


@pytest.mark.long
def test_sigterm_under_load(make_daemon, make_load):
    """It ends in order and soon, whatever is on its way; what comes until the next start is in the gap."""
    daemon = make_daemon(options=EVENTS).start()
    load = make_load("--count", 20_000, "--rate", 5000)
    wait_for(lambda: status(daemon)["recorded"] > 1000, "the load to be on its way")
    begin = time.monotonic()
    daemon.process.terminate()
    assert daemon.process.wait(PATIENCE) == 0
    took = time.monotonic() - begin
    log = daemon.log.read_text()
    assert "recording stopped\n" in log and "not all could be written" not in log
    load.truth()
    daemon.start()
    sync(daemon)
    assert gaps(daemon) == ["stopped"]
    assert took < PATIENCE / 2, took


@pytest.mark.long
def test_a_thousand_hangups_a_second(make_daemon, make_load):
    """The configuration is read once a second, and after the last of them; nothing else suffers."""
    daemon = make_daemon(options=EVENTS, interval="1h").start()
    sync(daemon)
    load = make_load("--count", 3000, "--rate", 1500)
    begin = time.monotonic()
    sent = 0
    while time.monotonic() - begin < 3:
        os.kill(daemon.process.pid, signal.SIGHUP)
        sent += 1
        time.sleep(0.001)
    daemon.config.write_text("[Capture]\nInterval=30min\n")
    os.kill(daemon.process.pid, signal.SIGHUP)
    wait_for(lambda: status(daemon)["interval_usec"] == 1_800_000_000, "the last one")
    took = time.monotonic() - begin
    count = daemon.log.read_text().count("configuration reloaded")
    assert sent > 100 and 2 <= count <= took + 2, (sent, count, took)
    truth = load.truth()
    all_there(daemon, truth)
    assert status(daemon)["lost"] == 0 and gaps(daemon) == []


@pytest.mark.parametrize("process, calls", (("portledgerd", "epoll_wait,read,sendto,recvfrom,sendmsg,recvmsg"),
                                            ("pl-ledger", "epoll_wait,read,pwrite64,fdatasync,recvfrom,sendto"),
                                            ("pl-control", "epoll_wait,recvfrom,sendto,accept4,pread64")))
def test_calls_that_are_interrupted(make_daemon, make_load, process, calls):
    """Every third is, by EINTR: nobody ends, and no answer and no claim is missing."""
    daemon = make_daemon(options=EVENTS).start()
    sync(daemon)
    pid = daemon.process.pid if process == "portledgerd" else daemon.child(process)
    # of a file on a disk no call is interrupted: these are left as they are
    interrupted = [call for call in calls.split(",") if call not in ("pwrite64", "pread64", "fdatasync")]
    with injected(pid, *(f"{call}:error=EINTR:when=3+3" for call in interrupted)):
        truth = make_load("--count", 500).truth()
        for _ in range(20):
            status(daemon)
        all_there(daemon, truth)
    assert (daemon.process.pid if process == "portledgerd" else daemon.child(process)) == pid
    assert status(daemon)["lost"] == 0 and gaps(daemon) == []


def test_signals_that_are_nobodys(make_daemon, make_load):
    """SIGPIPE to all; SIGTERM, SIGINT and SIGHUP to the children: the main process alone decides."""
    daemon = make_daemon(options=EVENTS).start()
    sync(daemon)
    children = daemon.children()
    load = make_load("--count", 500)
    for _ in range(50):
        os.kill(daemon.process.pid, signal.SIGPIPE)
        for pid in children:
            for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
    all_there(daemon, load.truth())
    assert daemon.children() == children


@pytest.mark.long
def test_stopped_for_half_a_minute(make_daemon, make_load):
    """All three, under a load that the ring has room for: it is all there when they go on. (test_complete.py has rings that are too small.)"""
    daemon = make_daemon(options=EVENTS).start()
    sync(daemon)
    pids = [daemon.process.pid, *daemon.children()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        truth = make_load("--count", 9000, "--rate", 300 if FULL else 3000).truth()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_for(daemon.answers, "the daemon to go on")
    all_there(daemon, truth)
    assert status(daemon)["lost"] == 0 and gaps(daemon) == [] and reasons(daemon) == ""


@pytest.mark.parametrize("kind", ("stream", "datagram", "tcp", "file", "closed", "many"))
def test_descriptors_that_systemd_did_not_pass(make_daemon, directory, kind):
    """LISTEN_FDS by anybody: what is no listening Unix stream socket fails the start; what has another name is not used."""
    daemon = make_daemon()
    made = []
    if kind == "tcp":
        s = socket.create_server(("127.0.0.1", 0))
        made.append(s)
    elif kind in ("stream", "datagram"):
        made.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM))
    elif kind == "file":
        made.append(open(directory / "some file", "wb"))
    count = 1000 if kind == "many" else 1
    script = f"""
import os, sys
if {len(made)}:
    os.dup2(int(sys.argv[1]), 3)
    os.set_inheritable(3, True)
else:
    os.closerange(3, 1100)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="{count}", LISTEN_FDNAMES="varlink")
os.execv(sys.argv[2], sys.argv[2:])
"""
    fds = [m.fileno() for m in made]
    command = ["/usr/bin/python3", "-c", script, str(fds[0] if fds else 0), DAEMON, "--config", daemon.config, "--state", daemon.state,
               "--socket", daemon.socket, *daemon.options]
    result = subprocess.run(daemon.namespace.enter(*command), capture_output=True, text=True, timeout=PATIENCE, check=False,
                            pass_fds=fds)
    for m in made:
        m.close()
    assert result.returncode == 1 and re.search("the socket that systemd passed cannot be used: |Bad file", result.stderr), result


@pytest.mark.parametrize("where", ("file", "drop-in", "directory"))
def test_a_configuration_that_everybody_may_write(make_daemon, where):
    """Refused at the start; refused by a daemon that runs, which goes on with what it has."""
    daemon = make_daemon()
    drop_ins = daemon.config.with_name(f"{daemon.config.name}.d")
    drop_ins.mkdir()
    drop_in = drop_ins / "a.conf"
    drop_in.write_text("[Capture]\nInterval=30min\n")
    spoiled = {"file": daemon.config, "drop-in": drop_in, "directory": drop_ins}[where]
    daemon.start()
    assert status(daemon)["interval_usec"] == 1_800_000_000
    drop_in.write_text("[Capture]\nInterval=20min\n")
    spoiled.chmod(spoiled.stat().st_mode | 0o002)
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "stays as it was" in daemon.log.read_text(), "the refusal")
    assert f"{spoiled}: everybody may write" in daemon.log.read_text()
    assert status(daemon)["interval_usec"] == 1_800_000_000
    daemon.stop()
    result = run_daemon(daemon)
    assert result.returncode == 78 and f"{spoiled}: everybody may write" in result.stderr, result
    spoiled.chmod(spoiled.stat().st_mode & ~0o002)
    daemon.start()
    assert status(daemon)["interval_usec"] == 1_200_000_000


@pytest.mark.parametrize("kind", ("directory", "link to a file", "dangling link", "too long"))
def test_something_else_at_the_sockets_path(make_daemon, directory, kind):
    """Neither removed nor followed: what is there may be somebody's."""
    daemon = make_daemon()
    path = directory / "control"
    (directory / "precious").write_text("mine")
    if kind == "directory":
        path.mkdir()
    elif kind == "link to a file":
        path.symlink_to(directory / "precious")
    elif kind == "dangling link":
        path.symlink_to(directory / "nowhere")
    else:
        daemon.socket = str(directory / ("x" * 120))
    result = run_daemon(daemon)
    assert result.returncode == 1 and "cannot listen at" in result.stderr, result
    assert (directory / "precious").read_text() == "mine" and not (directory / "nowhere").exists()
    assert kind == "too long" or path.is_symlink() or path.is_dir()
