# SPDX-License-Identifier: MIT
"""Faults, one by one, under claims whose truth is known. The fixtures are those of the system tests."""
import contextlib
import ctypes
import importlib.util
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("system", ROOT / "tests/system/conftest.py")
system = importlib.util.module_from_spec(_spec)
sys.modules["system"] = system
_spec.loader.exec_module(system)

from system import DAEMON, PATIENCE, SUPPORT, actor, all_ended, daemon, directory, make_actor, make_daemon, namespace, rung, wait_for  # noqa: E402,F401

import oracle  # noqa: E402 (tests/support)

CLONE_NEWNS = 0x00020000
# File systems that a test mounts are this process's and its children's alone, and gone with it, however it ends.
if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
    raise OSError(ctypes.get_errno(), "no mount namespace of our own")
subprocess.run(["mount", "--make-rprivate", "/"], check=True)

FULL = os.environ.get("PORTLEDGER_FULL") == "yes"
CHURN = SUPPORT / "churn"
EVENTS = ("--rung", "events")
SYNC, STATUS = "org.portledger.ledger.Sync", "org.portledger.ledger.Status"


def status(of):
    return of.call(STATUS)


def sync(of):
    return of.call(SYNC)


def reasons(of):
    """Why its answers are worth less than they look."""
    return "; ".join(status(of)["degraded"])


def gaps(of):
    with sqlite3.connect(f"file:{of.database}?mode=ro", uri=True) as db:
        return [reason for reason, in db.execute("SELECT reason FROM gap ORDER BY id")]


def integrity(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute("PRAGMA integrity_check").fetchall()


def memory(pid, name):
    """VmRSS or VmHWM of a process, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(f"{name}:")) * 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def start_without_database(of):
    """Its children are there, and status says why there is no more."""
    of.spawn()

    def answers():
        with contextlib.suppress(OSError):
            return "cannot be opened" in reasons(of)
        return of.process.poll() is not None

    wait_for(answers, "the daemon to say that it has no database")
    assert of.process.poll() is None, of.log.read_text()


def run_daemon(of, *options):
    """One that is to end by itself."""
    return subprocess.run(of.namespace.enter(DAEMON, "--config", of.config, "--state", of.state, "--socket", of.socket,
                                             *of.options, *options), capture_output=True, text=True, timeout=PATIENCE,
                          check=False)


class Load:
    """Claims of all kinds, made by tests/support/churn, which says what it made."""

    def __init__(self, namespace, directory, *options):
        self.told = tempfile.TemporaryFile("w+", encoding="utf-8")  # not a pipe: it would wait for who reads it, who may wait for it
        self.process = subprocess.Popen(namespace.enter(CHURN, "--exe", directory, *options), stdout=self.told)

    def truth(self, patience=6 * PATIENCE):
        """When it is over."""
        self.process.wait(patience)
        self.told.seek(0)
        truth = oracle.Truth(self.told.read())
        assert truth.run["failed"] == 0, truth.run
        return truth

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.told.close()


@pytest.fixture
def make_load(namespace, directory):
    made = []

    def make(*options, **where):
        made.append(Load(where.get("namespace", namespace), directory, *options))
        return made[-1]

    yield make
    for load in made:
        load.close()


def all_there(of, *truths):
    """made = recorded, with every member right, and no gap but those of `but`."""
    all_ended(of, *truths)
    result = oracle.compare(of.database, list(truths), source="events", attribution="event")
    assert result.is_exact(), str(result)
    return result


@contextlib.contextmanager
def injected(pid, *inject):
    """A running process whose system calls are made to fail, by strace, until the block ends."""
    calls = ",".join(sorted({i.split(":")[0] for i in inject}))
    tracer = subprocess.Popen(["strace", "-qq", "-f", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={calls}",
                               *(word for i in inject for word in ("-e", f"inject={i}"))], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: tracer.poll() is not None or traced_by(pid) == tracer.pid, "strace to hold it")
        assert tracer.poll() is None, tracer.stderr.read()
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go
        tracer.communicate(timeout=PATIENCE)
        wait_for(lambda: traced_by(pid) in (0, None), "strace to let go")


def traced_by(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("TracerPid:"))
    except OSError:
        return None


@pytest.fixture
def make_disk(directory):
    """The state directory as a file system of its own, of that size, before the daemon is there."""
    made = []

    def make(size, where="state"):
        state = directory / where
        state.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=750", "portledger-test", state], check=True)
        made.append(state)
        return state

    yield make
    for state in made:
        subprocess.run(["umount", "-l", state], check=True)


def remount(state, options):
    subprocess.run(["mount", "-o", f"remount,{options}", state], check=True)


@contextlib.contextmanager
def filled(state):
    """Every byte of it is taken, until the block ends; by calling what it gives, also what became free meanwhile."""
    filler = state / "filler"

    def fill():
        with open(filler, "ab", buffering=0) as f:
            for size in (1 << 20, 65536, 4096, 512):
                with contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(size))

    fill()
    try:
        yield fill
    finally:
        filler.unlink()
