# SPDX-License-Identifier: MIT
"""What the service tests share: a box that booted a real systemd with portledger installed (tests/service/sdbox). One
for the whole session: each test leaves the service running as it found it (`service` sees to that)."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from waiting import PATIENCE, wait_for  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
INSTALL = pathlib.Path(os.environ.get("PORTLEDGER_INSTALL", ROOT / "build-results/install"))
UNIT, SOCKET = "portledger.service", "portledger.socket"
RESTORE = f"""
rm -r /etc/portledger/portledger.conf.d 2>/dev/null && changed=yes
rm -r /run/systemd/system/{UNIT}.d 2>/dev/null && changed=yes && systemctl daemon-reload
[ -z "$changed" ] && systemctl -q is-active {UNIT} && systemctl -q is-active {SOCKET} && exit
systemctl -q stop {SOCKET} {UNIT} && systemctl reset-failed && systemctl start {UNIT}
"""


class Box:
    """A machine that booted."""

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

    def down(self):
        subprocess.run([HERE / "sdbox", "down", self.path], check=True)

    def run(self, *command, user=None, check=True, **options):
        """A command inside, to its end. It is in no unit: for a claim whose unit matters there is unit_run()."""
        if user:
            command = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", *command]
        result = subprocess.run([HERE / "sdbox", "run", self.path, *map(str, command)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, timeout=3 * PATIENCE, check=False,
                                **{"stdin": subprocess.DEVNULL, **options})
        assert not check or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def text(self, *command, **options):
        return self.run(*command, **options).stdout.strip()

    def unit_run(self, unit, *command):
        """A command inside as a unit of its own, to its end: what it prints."""
        return self.text("systemd-run", "--quiet", "--wait", "--pipe", f"--unit={unit}", *command)

    def write(self, path, content):
        self.run("mkdir", "-p", pathlib.Path(path).parent)
        self.run("tee", path, stdin=None, input=content)

    def show(self, name, unit=UNIT):
        """A property of a unit."""
        return self.text("systemctl", "show", "-P", name, unit)

    def main_pid(self):
        return int(self.show("MainPID"))

    def processes(self):
        """Our three: {comm: pid inside}."""
        main = self.main_pid()
        children = self.text("cat", f"/proc/{main}/task/{main}/children").split()
        return {self.text("cat", f"/proc/{pid}/comm"): int(pid) for pid in [main, *children]}

    def journal(self, *matches, since=None, unit=UNIT):
        """Entries of the journal as dictionaries, oldest first; `since` is a cursor."""
        # not --after-cursor: together with matches, systemd 252 takes the first entry for the cursor's and leaves it out
        options = ["--cursor", since] if since else []
        self.run("journalctl", "--sync")
        lines = self.text("journalctl", "-o", "json", "-u", unit, *options, *matches)
        return [e for e in map(json.loads, lines.splitlines()) if e["__CURSOR"] != since]

    def cursor(self):
        """The end of the journal as it is now."""
        self.run("journalctl", "--sync")
        return json.loads(self.text("journalctl", "-o", "json", "-n", "1"))["__CURSOR"]

    def portledger(self, *arguments, **options):
        """The client, as it is installed."""
        return self.run("portledger", *arguments, **{"check": False, **options})

    def rows(self, *arguments, **options):
        """The claims that the client answers, as JSON, and its receipt."""
        result = self.portledger(*arguments, "--json=short", **options)
        assert result.returncode in (0, 1), result.stderr
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        receipts = [line["coverage"] for line in lines if "coverage" in line]
        return [line for line in lines if "coverage" not in line], receipts[0] if receipts else None

    def drop_in(self, name, content, unit=UNIT):
        """Settings of the unit until the next boot, or until remove_drop_ins()."""
        self.write(f"/run/systemd/system/{unit}.d/{name}.conf", content)
        self.run("systemctl", "daemon-reload")

    def remove_drop_ins(self, unit=UNIT):
        """Whether there were any."""
        if self.run("rm", "-r", f"/run/systemd/system/{unit}.d", check=False).returncode != 0:
            return False
        self.run("systemctl", "daemon-reload")
        return True

    def is_active(self, unit=UNIT):
        return self.show("ActiveState", unit) == "active"


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
