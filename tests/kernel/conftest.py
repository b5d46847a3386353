# SPDX-License-Identifier: MIT
"""What the kernel tests share: a guest that booted Debian's stock kernel and a real systemd with portledger installed, in qemu, which
emulates (accel=tcg: no test depends on /dev/kvm). It is slower than this machine by a factor of ten or more."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from machine import UNIT, Machine  # noqa: E402
from waiting import PATIENCE  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = pathlib.Path(os.environ.get("PORTLEDGER_KERNEL", ROOT / "build-kernel"))
BUILD = pathlib.Path(os.environ.get("PORTLEDGER_BUILD", ROOT / "build-gcc"))
RESULTS = pathlib.Path(os.environ.get("PORTLEDGER_RESULTS", ROOT / "build-results"))
os.environ.setdefault("PORTLEDGER_INSTALL", str(ROOT / "build-results/install"))
BOOT = 300  # seconds, after which a guest hangs; on a machine with nothing else to do it is there in 15


def wait_until(condition, what, patience=10 * PATIENCE):
    """As wait_for(), at a pace that leaves the guest time for its own."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.5)
    raise AssertionError(f"waited {patience} s in vain for {what}")


class GuestFailed(Exception):
    """It did not boot, it hangs, or it died."""


class Guest(Machine):
    """A machine with a kernel of its own. Nothing is left of it, and it leaves nothing."""

    def __init__(self, name="guest", options="", patience=BOOT):
        RESULTS.mkdir(exist_ok=True)
        self.console = RESULTS / f"kernel-{name}.log"
        self.directory = tempfile.TemporaryDirectory(prefix="portledger-guest.")
        self.agent, theirs = socket.socketpair()
        self.data = b""
        with theirs, open(self.console, "wb") as console:
            self.process = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", HERE / "boot", self.directory.name, KERNEL, str(theirs.fileno()), options],
                pass_fds=[theirs.fileno()], stdout=console, stderr=console, stdin=subprocess.DEVNULL)
        try:
            self.answer(patience)
            state = self.run("systemctl", "is-system-running", "--wait", check=False, timeout=patience).stdout.strip()
            assert state == "running", self.text("systemctl", "--failed", "--full")
        except BaseException:
            self.down()
            raise

    def down(self):
        self.process.kill()
        self.process.wait()
        self.agent.close()
        self.directory.cleanup()

    def answer(self, patience):
        """What the agent says, within so many seconds."""
        self.agent.settimeout(patience)
        try:
            while b"\n" not in self.data:
                more = self.agent.recv(65536)
                if not more:
                    raise GuestFailed(f"the guest died\n{self.said()}")
                self.data += more
        except TimeoutError:
            raise GuestFailed(f"the guest did not answer in {patience} s\n{self.said()}") from None
        line, self.data = self.data.split(b"\n", 1)
        return json.loads(line)

    def said(self):
        """The end of what is on its console."""
        return self.console.read_text(errors="replace")[-3000:]

    def run(self, *command, user=None, check=True, input=None, timeout=10 * PATIENCE):
        command = self.as_user(user, command)
        self.agent.sendall(json.dumps({"argv": command, "input": input or "", "timeout": timeout}).encode() + b"\n")
        answer = self.answer(timeout + PATIENCE)
        result = subprocess.CompletedProcess(command, answer["status"], answer["stdout"], answer["stderr"])
        assert not check or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result


@pytest.fixture(scope="session")
def guest():
    g = Guest()
    yield g
    g.down()


def status(guest):
    return json.loads(guest.text("portledger", "status", "--json=short"))


def restarted(guest):
    """Nothing is taken over from the daemon before."""
    guest.run("systemctl", "stop", "portledger.socket", UNIT)
    guest.run("systemctl", "start", UNIT)


@contextlib.contextmanager
def changed(guest, drop_in):
    guest.drop_in("changed", drop_in)
    restarted(guest)
    try:
        yield
    finally:
        guest.remove_drop_ins()
        restarted(guest)
