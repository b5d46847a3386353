# SPDX-License-Identifier: MIT
"""What each of the three processes may do, as the kernel has it; who may ask, and with which modes. What each forbidden call comes
to is in test-syscalls, what each right comes to in test-privilege."""
import contextlib
import os
import pathlib
import re
import signal
import stat
import subprocess

import pytest

from conftest import CLIENT, DAEMON, PATIENCE, Actor, Daemon, alive, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: only root can be another user")
GROUP = 54321
USER = 54322
# CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE
PROC_READER = 1 << 2 | 1 << 19


def status(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def check_rights(daemon, capture):
    """`capture`: the capabilities that it may have. Filters: those that it was started with, and its own; a child that was started
    again has capture's too."""
    before = int(status("self")["Seccomp_filters"])
    for pid, may, filters in [(daemon.process.pid, capture, {1}), (daemon.child("pl-ledger"), 0, {1, 2}),
                              (daemon.child("pl-control"), 0, {1, 2})]:
        s = status(pid)
        assert s["Seccomp"] == "2" and int(s["Seccomp_filters"]) - before in filters, s
        assert s["NoNewPrivs"] == "1"
        for name in ("CapEff", "CapPrm"):
            assert int(s[name], 16) == may, s
        for name in ("CapInh", "CapAmb", "CapBnd"):
            assert int(s[name], 16) == 0, s


@pytest.mark.parametrize("rung", ["sweep", "destroy", None])
def test_rights_of_the_three(make_daemon, rung):
    """Also of children that were started again."""
    daemon = make_daemon(rung=rung).start()
    events = daemon.call("org.portledger.ledger.Status")["rung"] == "events"
    check_rights(daemon, 0 if events else PROC_READER)
    for child in ("pl-ledger", "pl-control"):
        pid = daemon.child(child)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid) and daemon.answers(), "the child to be there again")
        check_rights(daemon, 0 if events else PROC_READER)


def calls_refused(trace):
    """Of all that was called after the process had given up its rights: what the kernel does not know, or the filter."""
    dropped, refused = False, []
    for line in pathlib.Path(trace).read_text(encoding="utf-8", errors="replace").splitlines():
        dropped = dropped or line.startswith("seccomp(SECCOMP_SET_MODE_FILTER")
        if dropped and ("ENOSYS" in line or "SIGSYS" in line):
            refused.append(line)
    return dropped, refused


@pytest.mark.parametrize("rung", ["sweep", "destroy", None])
def test_nothing_that_is_needed_is_refused(make_daemon, actor, directory, rung):
    """All that the three call in a life with claims, questions, a reload, children that die and an orderly end."""
    daemon = make_daemon(rung=rung, interval="100ms")
    sanitizer = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}  # is a tracer itself
    # as a grandchild, so that the daemon is the process that was started
    command = ["strace", "-DDD", "-ff", "-qq", "-e", "signal=none", "-o", directory / "trace", DAEMON, "--config", daemon.config,
               "--state", daemon.state, "--socket", daemon.socket, *daemon.options]
    with open(daemon.log, "ab") as log:
        daemon.process = subprocess.Popen(daemon.namespace.enter(*command), stderr=log, env={**os.environ, **sanitizer})
    wait_for(lambda: daemon.process.poll() is not None or daemon.answers(), "the daemon to answer")
    port = actor.do("listener('l')")
    actor.do(f"client('c', {port})")
    for verb in (["status"], ["now"], ["history"], ["audit"], [str(port)], ["listeners"], ["pressure"], ["apps"], ["failures"]):
        assert daemon.client(*verb).returncode in (0, 1)
    actor.do("close('c')")
    daemon.process.send_signal(signal.SIGHUP)
    for child in ("pl-ledger", "pl-control"):
        pid = daemon.child(child)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid) and daemon.answers(), "the child to be there again")
    assert daemon.client("history").returncode == 0
    daemon.process.terminate()
    assert daemon.process.wait(PATIENCE) == 0, daemon.log.read_text()
    seen = [calls_refused(trace) for trace in directory.glob("trace.*")]
    assert sum(dropped for dropped, _ in seen) >= 5  # three, and two that came again
    assert not [line for _, refused in seen for line in refused]


def test_descriptors_that_were_closed(make_daemon):
    """Whoever starts it with standard descriptors closed: none of the three has something else in their place."""
    daemon = make_daemon()
    command = [DAEMON, "--config", daemon.config, "--state", daemon.state, "--socket", daemon.socket, *daemon.options]
    daemon.process = subprocess.Popen(daemon.namespace.enter("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command))
    wait_for(lambda: daemon.process.poll() is not None or daemon.answers(), "the daemon to answer")
    for pid in (daemon.process.pid, *daemon.children()):
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/"] * 3
        with open(f"/proc/{pid}/fdinfo/0", encoding="ascii") as f:
            flags = int(re.search(r"flags:\s*(\d+)", f.read())[1], 8)
        assert flags & os.O_PATH  # neither to be read nor to look into


class Named:
    """A network namespace, kept alive by a process, in which there is a group portledger, or is none, whatever this machine has."""

    def __init__(self, directory, group):
        entries = directory / "group"
        with open("/etc/group", encoding="utf-8") as f:
            lines = [line for line in f if not line.startswith("portledger:")]
        entries.write_text("".join(lines) + (f"portledger:x:{GROUP}:\n" if group else ""), encoding="utf-8")
        entries.chmod(0o644)
        self.keeper = subprocess.Popen(
            ["unshare", "-n", "-m", "sh", "-c", f"mount --bind {entries} /etc/group && ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.keeper.stdout.readline() == b"up\n"

    def enter(self, *command):
        return ["nsenter", "-t", str(self.keeper.pid), "-n", "-m", *map(str, command)]

    def close(self):
        self.keeper.stdin.close()
        self.keeper.wait(PATIENCE)


def mode_of(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid, oct(stat.S_IMODE(st.st_mode))


ASKERS = {
    "root": (),
    "member": (f"--reuid={USER}", f"--regid={USER}", f"--groups={GROUP}"),
    "by its own group": (f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups"),
    "stranger": (f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    "member of others": (f"--reuid={USER}", f"--regid={USER}", "--groups=4,27,65534"),
    "root's group": (f"--reuid={USER}", "--regid=0", "--groups=0"),
}


@pytest.mark.parametrize("group", [True, False])
def test_modes_and_who_may_ask(directory, group):
    """uid, group and mode, each against each: who may not gets code 4 and what to do, and not one row."""
    directory.chmod(0o755)
    with contextlib.ExitStack() as stack:
        namespace = Named(directory, group)
        stack.callback(namespace.close)
        daemon = Daemon(namespace, directory, rung="sweep").start()
        stack.callback(daemon.stop)
        actor = Actor(namespace)
        stack.callback(actor.close)
        port = actor.do("listener('l')")
        daemon.call("org.portledger.ledger.Sync")
        for mode in [None, 0o660, 0o600, 0o666]:
            if mode is None:
                assert mode_of(daemon.socket) == ((0, GROUP, "0o660") if group else (0, 0, "0o600"))
                assert mode_of(daemon.state) == (0, 0, "0o750")
                files = sorted(daemon.state.iterdir())
                assert {"heartbeat", "lock", "portledger.db", "portledger.db-shm", "portledger.db-wal"} <= {f.name for f in files}
                assert [f.name for f in files if mode_of(f) != (0, 0, "0o640")] == []
            else:
                os.chmod(daemon.socket, mode)
            now = os.lstat(daemon.socket)
            for name, options in ASKERS.items():
                members = {"member": {USER, GROUP}, "by its own group": {GROUP}, "root's group": {0}}.get(name, set())
                may = name == "root" or now.st_mode & 0o006 or (now.st_mode & 0o060 and now.st_gid in members)
                result = subprocess.run(namespace.enter("setpriv", *(options or ["--reuid=0"]), CLIENT, "--socket", daemon.socket,
                                                        "now", "-j"), capture_output=True, text=True, timeout=PATIENCE, check=False)
                assert (f'"port":{port}' in result.stdout.replace(" ", "")) == bool(may), (name, oct(now.st_mode), result)
                if may:
                    assert result.returncode == 0
                    continue
                assert result.returncode == 4 and result.stdout == "" and "permission denied" in result.stderr, (name, result)
                wanted = r"usermod -aG portledger \w+" if now.st_mode & 0o060 and group else r"no group to join"
                assert re.search(wanted, result.stderr), (name, oct(now.st_mode), result.stderr)
                # and not past the socket either: the files are root's and his group's here
                for file in files if 0 not in members else []:
                    read = subprocess.run(namespace.enter("setpriv", *options, "cat", file), capture_output=True, check=False)
                    assert read.returncode != 0 and read.stdout == b"", (name, file)
