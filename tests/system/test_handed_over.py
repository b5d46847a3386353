# SPDX-License-Identifier: MIT
"""What a service manager keeps for the daemon and hands to the next one, beside what others have it keep. This one is of Python."""
import array
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest

from conftest import DAEMON, ROOT, wait_for

SYNC = "org.portledger.ledger.Sync"
EVENTS = ("--rung", "events")

# The descriptors of sys.argv[2] become 3 and on, with the names of sys.argv[1], of what is then run in this process.
HAND_OVER = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 500) for fd in sys.argv[2].split(",") if fd]
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
    os.close(fd)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """Hears what the daemon notifies it of, and keeps its descriptors by their names."""

    def __init__(self, directory):
        self.path = str(directory / "notify")
        self.kept = {}
        self.said = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.thread = threading.Thread(target=self.hear)
        self.thread.start()

    def hear(self):
        while True:
            text, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(4))
            if text == b"end":
                return
            said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
            self.said.append(said)
            if "FDSTORE" in said:
                self.kept[said["FDNAME"]] = array.array("i", ancillary[0][2])[0]
            elif "FDSTOREREMOVE" in said and said["FDNAME"] in self.kept:
                os.close(self.kept.pop(said["FDNAME"]))

    def start(self, daemon, *options):
        names, fds = ":".join(self.kept), list(self.kept.values())
        command = [sys.executable, "-c", HAND_OVER, names, ",".join(map(str, fds)), DAEMON, "--config", daemon.config, "--state",
                   daemon.state, "--socket", daemon.socket, "--netns", "self", *EVENTS, *options]
        with open(daemon.log, "ab") as log:
            daemon.process = subprocess.Popen(daemon.namespace.enter(*command), stderr=log, start_new_session=True, pass_fds=fds,
                                              env={**os.environ, "NOTIFY_SOCKET": self.path})
        wait_for(lambda: daemon.process.poll() is not None or daemon.answers(), "the daemon to answer")
        assert daemon.process.poll() is None, daemon.log.read_text()

    def close(self):
        if self.thread.is_alive():
            self.socket.sendto(b"end", self.path)
        self.thread.join()
        self.socket.close()
        for fd in self.kept.values():
            os.close(fd)


@pytest.fixture(name="manager")
def make_manager(directory):
    manager = Manager(directory)
    yield manager
    manager.close()


@pytest.mark.parametrize("others", ((), ("somebodys", "portledger-of-another")), ids=("alone", "among others"))
def test_a_ring_that_is_replaced_is_read_to_its_end(make_daemon, make_actor, manager, others):
    """Whatever else is handed over: what was claimed while the daemon stood still is there after the upgrade, and there is no gap."""
    daemon, actor = make_daemon(), make_actor()
    manager.start(daemon)
    daemon.call(SYNC)
    wait_for(lambda: any("READY" in said for said in manager.said), "all that is to be kept to be heard")
    ring = {name.rsplit("-", 1)[0] for name in manager.kept}
    assert len(ring) == 1 and any(name.endswith("-ring") for name in manager.kept), manager.kept
    os.kill(daemon.process.pid, signal.SIGSTOP)
    ports = {actor.do(f"bound('u{i}', 'udp')") for i in range(20)}
    actor.do("close_all()")
    daemon.kill()
    for name in others:
        manager.kept[name] = os.open("/dev/null", os.O_RDONLY)
    manager.start(daemon, "--ring-bytes", str(1 << 20))
    daemon.call(SYNC)
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        assert {port for port, in db.execute("SELECT port FROM claims WHERE source='events'")} >= ports
        assert db.execute("SELECT reason FROM gap").fetchall() == []
    # neither of what is read nor of what is somebody's anything is kept
    wait_for(lambda: not ring & {name.rsplit("-", 1)[0] for name in manager.kept}, "the old ring to be let go")
    wait_for(lambda: len({name.rsplit("-", 1)[0] for name in manager.kept}) == 1, "what is of no use to be forgotten")
    daemon.stop()


def test_a_start_that_migrates_may_take_longer(make_daemon, manager):
    """A service that systemd ends while it migrates would begin again each time. A start without a migration has no more time."""
    daemon = make_daemon()
    os.makedirs(daemon.state, 0o750)
    with sqlite3.connect(daemon.database) as db:
        db.executescript((ROOT / "tests/support/schema-9.sql").read_text(encoding="utf-8"))
        db.execute(f"PRAGMA application_id={0x504C4447}")
        db.execute("PRAGMA user_version=9")
    db.close()
    manager.start(daemon)
    wait_for(lambda: any("READY" in said for said in manager.said), "the daemon to be ready")
    extended = [said for said in manager.said if "EXTEND_TIMEOUT_USEC" in said]
    assert extended == [{"EXTEND_TIMEOUT_USEC": "600000000", "STATUS": "migrating the database"}]
    assert manager.said.index(extended[0]) < next(i for i, said in enumerate(manager.said) if "READY" in said)
    assert "the database is of an earlier version" in daemon.log.read_text()
    daemon.stop()
    manager.said.clear()
    manager.start(daemon)
    wait_for(lambda: any("READY" in said for said in manager.said), "the daemon to be ready")
    assert not any("EXTEND_TIMEOUT_USEC" in said for said in manager.said)
    daemon.stop()
