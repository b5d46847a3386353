# SPDX-License-Identifier: MIT
"""What the service tests share: a box that booted a real systemd with portledger installed (tests/service/sdbox). One
for the whole session: each test leaves the service running as it found it (`service` sees to that)."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from machine import SOCKET, UNIT, Machine  # noqa: E402
from waiting import PATIENCE, wait_for  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
INSTALL = pathlib.Path(os.environ.get("PORTLEDGER_INSTALL", ROOT / "build-results/install"))
RESTORE = f"""
rm -r /etc/portledger/portledger.conf.d 2>/dev/null && changed=yes
rm -r /run/systemd/system/{UNIT}.d 2>/dev/null && changed=yes && systemctl daemon-reload
[ -z "$changed" ] && systemctl -q is-active {UNIT} && systemctl -q is-active {SOCKET} && exit
systemctl -q stop {SOCKET} {UNIT} && systemctl reset-failed && systemctl start {UNIT}
"""


class Box(Machine):
    """A machine in namespaces of this one."""

    def __init__(self, enable=True):
        assert (INSTALL / "usr/sbin/portledgerd").exists(), \
            f"nothing is installed in {INSTALL}: `check` does it in its step `install`, see docs/HACKING.md"
        result = subprocess.run([HERE / "sdbox", "up", HERE / "prepare"], stdout=subprocess.PIPE, text=True, check=True,
                                env={**os.environ, "PORTLEDGER_INSTALL": str(INSTALL),
                                     "PORTLEDGER_ENABLE": "yes" if enable else "no"})
        self.path = pathlib.Path(result.stdout.strip())

    @property
    def outside_pid(self):
        """Of systemd-nspawn, on the outside."""
        return int(pathlib.Path(f"{self.path}.d/pid").read_text(encoding="ascii"))

    @property
    def root(self):
        """Of its files, on the outside."""
        return pathlib.Path("/proc", pathlib.Path(f"{self.path}.d/leader").read_text(encoding="ascii").strip(), "root")

    def put(self, source, destination):
        """A file of this machine."""
        subprocess.run([HERE / "sdbox", "put", self.path, source, destination], check=True)

    def down(self):
        subprocess.run([HERE / "sdbox", "down", self.path], check=True)

    def run(self, *command, user=None, check=True, input=None):
        """It is in no unit: for a claim whose unit matters there is unit_run()."""
        command = self.as_user(user, command)
        result = subprocess.run([HERE / "sdbox", "run", self.path, *command], input=input or "", capture_output=True,
                                text=True, timeout=3 * PATIENCE, check=False)
        assert not check or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result


@pytest.fixture(scope="session")
def box():
    b = Box()
    yield b
    b.down()


@pytest.fixture
def service(box):
    """The box with its service running, configured as delivered, before and after."""
    assert box.is_active(), box.text("systemctl", "status", UNIT, check=False)
    yield box
    box.run("sh", "-c", RESTORE)
    wait_for(box.is_active, "the service to be active, and no more amid a reload")
