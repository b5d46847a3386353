# SPDX-License-Identifier: MIT
"""A machine that booted a systemd with portledger installed: what the tests ask it, however it is reached."""
import json
import pathlib

UNIT, SOCKET = "portledger.service", "portledger.socket"


class Machine:
    def run(self, *command, user=None, check=True, input=None):
        """A command inside, to its end: its subprocess.CompletedProcess, of text. Without `input` it has none."""
        raise NotImplementedError

    @staticmethod
    def as_user(user, command):
        """The same command by a user, None: by root."""
        switch = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        return [*switch, *map(str, command)]

    def text(self, *command, **options):
        return self.run(*command, **options).stdout.strip()

    def unit_run(self, unit, *command):
        """A command inside as a unit of its own, to its end: what it prints."""
        return self.text("systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={unit}", *command)

    def write(self, path, content):
        self.run("mkdir", "-p", pathlib.Path(path).parent)
        self.run("tee", path, input=content)

    def show(self, name, unit=UNIT):
        """A property of a unit."""
        return self.text("systemctl", "show", "-P", name, unit)

    def main_pid(self):
        return int(self.show("MainPID"))

    def processes(self):
        """Our three: {comm: pid inside}, without one that ends meanwhile."""
        main = self.main_pid()
        children = self.text("cat", f"/proc/{main}/task/{main}/children").split()
        names = {int(pid): self.text("cat", f"/proc/{pid}/comm", check=False) for pid in [main, *children]}
        return {name: pid for pid, name in names.items() if name}

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
