# SPDX-License-Identifier: MIT
"""What the real daemon says: events, once, with their fields, to a socket in the place of journald's; and that nothing which
becomes of its log does anything to it."""
import contextlib
import ctypes
import errno
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys

import pytest

from conftest import DAEMON, PATIENCE, ROOT, Daemon, sysctl, wait_for


@pytest.fixture
def rung():
    """Claims and gaps that are said are those of this one."""
    return "destroy"

EVIL = b"e\x1b[31m\n\x80<0>"  # a file's name, and so a process's comm
TABLE = (ROOT / "common/event.h").read_text(encoding="utf-8")
MESSAGE_IDS = dict(re.findall(r'^\tX\(\w+, "([a-z-]+)", [A-Z]+, "(\w{32})"\)', TABLE, re.M))


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


@pytest.fixture(name="make_program")
def make_programs(directory):
    """Python under another name: another program."""

    def make(name):
        path = f"{directory}/{os.fsdecode(name)}"
        shutil.copy(os.path.realpath(sys.executable), path)
        return path

    return make


def lines(daemon, *with_words):
    text = daemon.log.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if all(word in line for word in with_words)]


def known(daemon):
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        return db.execute("SELECT name, protocol, port FROM known").fetchall()


def test_once_ever(make_daemon, make_actor, make_program):
    old, new = make_program("old"), make_program("new")
    before = make_actor(program=old)
    listens_on = before.do("listener('l')")
    daemon = make_daemon().start()
    sync(daemon)
    # what was there is known, and one line says so
    assert len(lines(daemon, "<5>pl-ledger: found 1 programs and 1 listeners at the first sweep")) == 1
    assert not lines(daemon, "new program")
    actor = make_actor(program=new)
    port = actor.do("listener('l')")
    sync(daemon)
    assert lines(daemon, "pl-ledger: new ") == [
        f"<5>pl-ledger: new program: {new} (new, pid {actor.pid}) has port {port}/tcp (listening)",
        f"<5>pl-ledger: new listener: port {port}/tcp, by {new} (new, pid {actor.pid})"]
    # neither another process of it, nor the same port once more, nor a restart, a kill, and a restart of the ledger
    actor.close()
    actor = make_actor(program=new)
    actor.do(f"listener('l', at={port})")
    actor.do("bound('u', 'udp')")
    sync(daemon)
    daemon.stop()
    daemon.start()
    sync(daemon)
    daemon.kill()
    actor.close()
    actor = make_actor(program=new)
    actor.do(f"listener('l', at={port})")
    before.close()
    before = make_actor(program=old)
    before.do(f"listener('l', at={listens_on})")
    daemon.start()
    sync(daemon)
    os.kill(daemon.child("pl-ledger"), signal.SIGKILL)
    wait_for(daemon.answers, "the ledger to be back")
    sync(daemon)
    assert len(lines(daemon, "new program: ")) == len(lines(daemon, "new listener: ")) == 1
    assert len(lines(daemon, "found ")) == 1
    # but what is new is, whoever was there before
    other = before.do("listener('m')")
    sync(daemon)
    assert len(lines(daemon, f"new listener: port {other}/tcp, by {old}")) == 1
    assert len(known(daemon)) == 2 + 3


def test_what_is_opened_while_nobody_looks_is_said(make_daemon, make_actor, make_program):
    daemon = make_daemon().start()
    sync(daemon)
    assert lines(daemon, "found 0 programs and 0 listeners")
    daemon.stop()
    make_actor(program=make_program("meanwhile")).do("listener('l')")
    daemon.start()
    sync(daemon)
    assert len(lines(daemon, "new program: ", "meanwhile")) == len(lines(daemon, "new listener: ", "meanwhile")) == 1


def test_the_names_of_one_program(make_daemon, make_actor):
    """What a process calls itself makes no program of it."""
    daemon = make_daemon().start()
    sync(daemon)
    actor = make_actor()
    for i in range(20):
        actor.do(f"set_name('{0x6141 + i:04x}')")
        actor.do(f"bound('u{i}', 'udp')")
        sync(daemon)
    assert len({r["comm"] for r in daemon.rows("now")[0]}) == 20
    assert len(lines(daemon, "new program")) == 1


def test_nothing_is_said_of_a_replay(make_daemon, make_actor, directory):
    recording = directory / "recording"
    daemon = make_daemon(options=("--record", recording)).start()
    make_actor().do("listener('l')")
    sync(daemon)
    daemon.stop()
    assert lines(daemon, "new listener") and lines(daemon, " claims opened, ")
    (directory / "replayed").mkdir()
    replaying = make_daemon(directory=directory / "replayed", options=("--replay", recording)).start()
    sync(replaying)
    assert len(replaying.rows("history")[0]) == 1
    replaying.stop()
    assert not lines(replaying, "new ") and not lines(replaying, "found ") and not lines(replaying, " claims opened, ")
    assert known(replaying) == []


def test_a_gap_is_said_when_it_is_recorded(make_daemon):
    daemon = make_daemon().start()
    sync(daemon)
    daemon.kill()
    daemon.start()
    sync(daemon)
    assert len(lines(daemon, "<4>pl-ledger: a gap of ", "(killed): how many claims were missed cannot be known")) == 1


def test_a_summary_at_the_end(make_daemon, actor):
    daemon = make_daemon().start()
    sync(daemon)  # else they may be there before the first sweep
    actor.do("bound('u', 'udp')")
    actor.do("bound('v', 'udp')")
    sync(daemon)
    actor.do("close('u')")
    for _ in range(3):
        sync(daemon)
    daemon.stop()
    said = lines(daemon, "<6>pl-ledger: in ")
    assert len(said) == 1
    assert said[0].endswith(": 2 claims opened, 1 closed, 1 open now; 1 new programs, 0 new listeners; 0 gaps, 0 claims lost")


class Journal:
    """A socket in the place of journald's, in a directory that the daemon finds at /run/systemd/journal."""

    def __init__(self, directory):
        self.path = str(directory / "socket")
        self.socket = None
        self.entries = []
        self.start()

    def start(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(self.path)

    def stop(self):
        self.read()
        self.socket.close()
        os.unlink(self.path)

    def fill(self):
        """As a journald that reads no more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
            try:
                while True:
                    s.sendto(b"MESSAGE=noise\n", self.path)
            except BlockingIOError:
                pass

    def read(self):
        try:
            while True:
                data = self.socket.recv(1 << 18)
                if data != b"MESSAGE=noise\n":
                    self.entries.append(self.parse(data))
        except BlockingIOError:
            return

    @staticmethod
    def parse(data):
        """An entry as a dictionary; all our values have their length before them."""
        fields = {}
        while data:
            name, data = data.split(b"\n", 1)
            size = struct.unpack("<Q", data[:8])[0]
            assert data[8 + size:9 + size] == b"\n" and re.fullmatch(rb"[A-Z][A-Z0-9_]*", name), (name, data)
            assert name not in fields
            fields[name] = data[8:8 + size]
            data = data[9 + size:]
        return {name.decode(): value.decode() for name, value in fields.items()}

    def events(self, name):
        self.read()
        return [e for e in self.entries if e.get("PORTLEDGER_EVENT") == name]

    def close(self):
        self.socket.close()


class Journalled(Daemon):
    """The daemon as under systemd: standard error is a stream to the journal, and $JOURNAL_STREAM says so."""

    def __init__(self, namespace, directory, disk=None, **options):
        super().__init__(namespace, directory, **{"rung": "destroy", **options})
        self.disk = disk  # the size of the file system that the state is on; None: as it comes
        (directory / "journal").mkdir()
        self.journal = Journal(directory / "journal")
        self.stream = None

    def start(self):
        self.stream, theirs = socket.socketpair()
        st = os.fstat(theirs.fileno())
        script = f'mount -t tmpfs run /run && mkdir -p /run/systemd/journal && ' \
                 f'mount --bind "{self.directory}/journal" /run/systemd/journal'
        if self.disk:
            script += f' && mkdir "{self.state}" && mount -t tmpfs -o mode=755,size={self.disk} state "{self.state}"'
        self.process = subprocess.Popen(
            self.namespace.enter("unshare", "-m", "--propagation", "private", "sh", "-c", f'{script} && exec "$@"', "sh", DAEMON, "--config",
                                 self.config, "--state", self.state, "--socket", self.socket, *self.options),
            stderr=theirs, start_new_session=True, env={**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
        theirs.close()
        wait_for(lambda: self.process.poll() is not None or self.answers(), "the daemon to answer")
        assert self.process.poll() is None, self.said()
        return self

    def said(self):
        """What came to standard error until now."""
        self.stream.setblocking(False)
        text = b""
        try:
            while chunk := self.stream.recv(1 << 16):
                text += chunk
        except BlockingIOError:
            pass
        return text.decode()

    def reload(self):
        before = len(self.journal.events("config-reloaded"))
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self.journal.events("config-reloaded")) > before, "the reload")


@pytest.fixture(name="make_journalled")
def make_journalled_daemons(namespace, directory):
    made = []

    def make(**options):
        made.append(Journalled(namespace, directory, **options))
        return made[-1].start()

    yield make
    for daemon in made:
        if daemon.process.poll() is None:
            daemon.process.terminate()
            daemon.process.wait(PATIENCE)
        daemon.journal.close()
        daemon.stream.close()


@pytest.fixture(name="journalled")
def make_one_journalled(make_journalled):
    return make_journalled()


def test_events_have_their_fields(journalled, make_actor, make_program):
    journal = journalled.journal
    evil = make_program(EVIL)
    sync(journalled)
    actor = make_actor(program=evil)
    port = actor.do("listener('l')")
    sync(journalled)
    assert journalled.said() == ""
    safe = "e\\x1b[31m\\x0a\\x80<0>"
    listener, = journal.events("listener-new")
    assert listener["MESSAGE"] == \
        f"new listener: port {port}/tcp, by {os.path.dirname(evil)}/{safe} ({safe}, pid {actor.pid})"
    row, = [r for r in journalled.rows("now")[0] if r["port"] == port]
    columns = ("exe", "comm", "pid", "uid", "cgroup", "parent_pid", "parent_comm", "port", "protocol", "role", "local_address",
               "attribution", "opened_usec")
    assert {c: listener["PORTLEDGER_" + c.upper()] for c in columns} == {c: str(row[c]) for c in columns}
    assert listener["PORTLEDGER_COMM"] == safe and row["comm"] == safe
    assert "PORTLEDGER_UNIT" not in listener and row["unit"] is None
    assert listener["PRIORITY"] == "5" and listener["SYSLOG_IDENTIFIER"] == "portledgerd"
    assert [e["PORTLEDGER_EXE"] for e in journal.events("program-new")] == [row["exe"]]
    began, = journal.events("recording-began")
    assert (began["PORTLEDGER_RUNG"], began["PORTLEDGER_INTERVAL_USEC"]) == ("destroy", "3600000000")
    assert began["PORTLEDGER_RANGES"] == "32768-65535"
    journalled.reload()
    journalled.config.write_text("[Capture]\nColour=red\n")
    journalled.process.send_signal(signal.SIGHUP)
    refused, = wait_for(lambda: journal.events("config-refused"), "the refusal")
    assert f"{journalled.config}:2:" in refused["MESSAGE"] and refused["PRIORITY"] == "3"
    actor.do("open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('32000 61000')")
    sync(journalled)
    changed, = journal.events("ephemeral-changed")
    assert (changed["PORTLEDGER_LOW"], changed["PORTLEDGER_HIGH"]) == ("32000", "61000")
    journalled.stop()
    summary, = journal.events("summary")
    assert summary["PORTLEDGER_OPENED"] == summary["PORTLEDGER_OPEN_CLAIMS"] == summary["PORTLEDGER_NEW_LISTENERS"] == "1"
    assert int(summary["PORTLEDGER_FROM_USEC"]) < row["opened_usec"] < int(summary["PORTLEDGER_UNTIL_USEC"])
    assert int(summary["PORTLEDGER_SWEEP_CPU_USEC"]) > 0 and int(summary["PORTLEDGER_LEDGER_CPU_USEC"]) > 0
    assert int(summary["PORTLEDGER_DATABASE_BYTES"]) >= os.stat(journalled.database).st_size
    assert [e["PORTLEDGER_STATUS"] for e in journal.events("recording-stopped")] == ["0"]
    # each event by the id that the catalog explains, and what is printed can drive no terminal
    events = [e for e in journal.entries if "PORTLEDGER_EVENT" in e]
    assert events and all(e["MESSAGE_ID"] == MESSAGE_IDS[e["PORTLEDGER_EVENT"]] for e in events)
    assert all(value.isprintable() for e in journal.entries for value in e.values())
    assert journalled.said() == ""


def test_children_keep_the_journal_and_nothing_else(journalled, make_actor):
    """Every descriptor of theirs is what it was: the log's own is beside, and never another's number."""
    journal = journalled.journal
    for name, child in (("ledger", "pl-ledger"), ("control", "pl-control"), ("ledger", "pl-ledger")):
        pid = journalled.child(child)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: [e for e in journal.events("child-died") if e["PORTLEDGER_PID"] == str(pid)], "the news")
        wait_for(journalled.answers, f"{name} to be back")
        died = [e for e in journal.events("child-died") if e["PORTLEDGER_PID"] == str(pid)]
        assert [(e["PORTLEDGER_CHILD"], e["PORTLEDGER_SIGNAL"]) for e in died] == [(name, "9")]
        # what the new children say comes as an entry, and the stream between them is whole
        port = make_actor().do("listener('l')")
        sync(journalled)
        assert [e["PORTLEDGER_PROCESS"] for e in journal.events("listener-new")
                if e["PORTLEDGER_PORT"] == str(port)] == ["pl-ledger"]
        assert port in [r["port"] for r in journalled.rows("now")[0]]
    for name in ("pl-ledger", "pl-control"):
        assert len(datagram_sockets(journalled.child(name))) == 1, name
    assert [e["PORTLEDGER_REASON"] for e in journal.events("gap-recorded")] == ["killed", "killed"]
    assert journalled.said() == ""


def datagram_sockets(pid):
    """How many a process has open; /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path."""
    rows = pathlib.Path(f"/proc/{pid}/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    inodes = {row.split()[6] for row in rows if row.split()[4] == "0002"}
    links = []
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a client that has just gone
            links.append(os.readlink(path))
    return [link for link in links if link.removeprefix("socket:[").removesuffix("]") in inodes]


def test_control_reaches_the_journal_from_within_its_landlock(journalled):
    sync(journalled)
    control = journalled.child("pl-control")
    used = {int(fd) for fd in os.listdir(f"/proc/{control}/fd")}
    lowest_free = min(set(range(len(used) + 1)) - used)
    resource.prlimit(control, resource.RLIMIT_NOFILE, (lowest_free, lowest_free))
    # it may have had one yet for who asked last: then the first finds room
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(journalled.socket)
        second.connect(journalled.socket)

        def said():
            journalled.journal.read()
            return [e["MESSAGE"] for e in journalled.journal.entries if e["PORTLEDGER_PROCESS"] == "pl-control"]

        assert wait_for(said, "the warning") == ["no descriptor is left for a client: accepting none for a while"]
    assert journalled.said() == ""


@pytest.mark.long
def test_a_journal_that_does_not_read(journalled, actor):
    """Neither journald nor the stream takes anything: nothing waits, and the lines are counted."""
    journal = journalled.journal
    sync(journalled)
    journal.read()
    journal.fill()
    assert fill_stream(journalled) > 0
    actor.do("listener('l')")
    status = sync(journalled)  # the news of the listener has nowhere to go
    for i in range(20):
        journalled.config.write_text(f"[Capture]\nInterval={1000 + i}s\n")
        journalled.process.send_signal(signal.SIGHUP)
        wait_for(lambda: journalled.call("org.portledger.ledger.Status")["interval_usec"] == (1000 + i) * 1_000_000, "it")
    assert sync(journalled)["commit"] > status["commit"]
    journal.read()
    journalled.said()
    assert not journal.events("config-reloaded") and not journal.events("listener-new")
    journalled.reload()
    lost = wait_for(lambda: [e for e in journal.events("lines-lost") if e["PORTLEDGER_PROCESS"] == "portledgerd"], "the count")
    assert [e["PORTLEDGER_LOST"] for e in lost] == ["20"]
    actor.do("listener('m')")
    sync(journalled)
    assert [e["PORTLEDGER_LOST"] for e in journal.events("lines-lost") if e["PORTLEDGER_PROCESS"] == "pl-ledger"] == ["2"]


def fill_stream(daemon):
    """Writes into the daemon's standard error, through its /proc, until it takes no more. How many bytes."""
    pidfd = os.pidfd_open(daemon.process.pid)
    theirs = pidfd_getfd(pidfd, 2)
    os.close(pidfd)
    sent = 0
    with socket.socket(fileno=theirs) as s:
        try:
            while True:
                sent += s.send(b"x" * 100 + b"\n", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return sent


def pidfd_getfd(pidfd, fd):
    """pidfd_getfd(2), which Python has not."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(438, pidfd, fd, 0)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def test_a_journal_that_goes_and_comes_back(journalled, actor):
    journal = journalled.journal
    sync(journalled)
    journal.stop()
    port = actor.do("listener('l')")
    sync(journalled)
    assert f"<5>pl-ledger: new listener: port {port}/tcp, by " in journalled.said()
    journal.start()
    port = actor.do("listener('m')")
    sync(journalled)
    assert [e["PORTLEDGER_PORT"] for e in journal.events("listener-new")] == [str(port)]
    assert journalled.said() == "" and not journal.events("lines-lost")
    # both are gone: standard error gives EPIPE, and no signal
    journal.stop()
    journalled.stream.close()
    actor.do("listener('n')")
    sync(journalled)
    journal.start()
    journalled.reload()
    actor.do("listener('o')")
    sync(journalled)
    assert [e["PORTLEDGER_LOST"] for e in journal.events("lines-lost")] == ["1"]


def test_a_disk_that_is_full_and_then_is_not(make_journalled, actor):
    daemon = make_journalled(disk="2m")
    state = pathlib.Path(f"/proc/{daemon.process.pid}/root{daemon.state}")  # it is in the daemon's mount namespace only
    sync(daemon)
    with open(state / "filler", "wb", buffering=0) as filler:
        with pytest.raises(OSError, match="No space left"):
            while True:
                filler.write(bytes(4096))
    i = 0
    while not daemon.journal.events("database-refuses"):
        port = actor.do(f"listener('l{i}')")  # until what the WAL has room for is used up
        i += 1
        sync(daemon)
        assert i < 1000
    refuses, = daemon.journal.events("database-refuses")
    assert refuses["PORTLEDGER_ERRNO"] == str(errno.ENOSPC) and refuses["PRIORITY"] == "3"
    # what is new cannot be remembered: it is not said either
    assert str(port) not in [e["PORTLEDGER_PORT"] for e in daemon.journal.events("listener-new")]
    os.unlink(state / "filler")
    sync(daemon)
    assert len(daemon.journal.events("database-accepts")) == 1
    said = [e["PORTLEDGER_PORT"] for e in daemon.journal.events("listener-new") + daemon.journal.events("listener-varies")]
    assert len(said) == len(set(said)) == min(i, 17)


def test_a_start_that_is_refused(journalled, directory):
    sync(journalled)
    (directory / "second").mkdir()
    second = Journalled(journalled.namespace, directory / "second")
    second.state = journalled.state
    with pytest.raises(AssertionError):
        second.start()
    locked, = second.journal.events("database-locked")
    assert locked["PORTLEDGER_PID"] == str(journalled.child("pl-ledger")) and second.process.returncode == 75
    second.journal.close()
    second.stream.close()


def test_a_child_that_is_given_up(journalled):
    for _ in range(6):
        os.kill(journalled.child("pl-control"), signal.SIGKILL)
        wait_for(lambda: journalled.process.poll() is not None or journalled.answers(), "control, or the end")
    assert journalled.process.wait(PATIENCE) == 1
    assert [e["PORTLEDGER_CHILD"] for e in journalled.journal.events("child-given-up")] == ["control"]
    assert len(journalled.journal.events("child-died")) == 6


def test_ports_that_run_short_are_said_once(journalled, namespace, make_actor):
    """80 % of what a destination's ten ports are; again only after it was over; and another destination for itself."""
    journal = journalled.journal
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40009")
    sync(journalled)
    wait_for(lambda: journal.events("ephemeral-changed"), "the range")
    far, worker = make_actor(), make_actor()
    worker.do("set_name('776f726b6572')")
    for port in (20000, 20001):
        far.do(f"listener('l{port}', at={port})")
        worker.do(f"[client(f'c{port}-{{i}}', {port}) for i in range(7)]")
    sync(journalled)

    def told(name):
        return [(e["PORTLEDGER_REMOTE_ADDRESS"], e["PORTLEDGER_REMOTE_PORT"], e["PORTLEDGER_USED"], e["PORTLEDGER_AVAILABLE"])
                for e in journal.events(name)]

    worker.do("client('c20000-7', 20000)")
    sync(journalled)
    short, = wait_for(lambda: journal.events("ports-short"), "the warning")
    assert told("ports-short") == [("127.0.0.1", "20000", "8", "10")]
    assert short["PRIORITY"] == "4" and short["PORTLEDGER_COMM"] == "worker" and "mostly by " in short["MESSAGE"]
    assert short["PORTLEDGER_NETNS"] == str(os.stat(f"/proc/{worker.pid}/ns/net").st_ino)
    # the same that the answer has
    row, = [r for r in journalled.call("org.portledger.ledger.Pressure")["pressure"] if r["remote_port"] == 20000]
    assert (row["used"], row["available"]) == (8, 10)
    for i in range(7):  # the far end first: its own ports are what waits
        far.do(f"accept('l20000', 'a{i}')")
    far.do("close(*[f'a{i}' for i in range(7)])")
    worker.do("over(*[f'c20000-{i}' for i in range(7)])")
    worker.do("close(*[f'c20000-{i}' for i in range(7)])")
    wait_for(lambda: worker.do("closing(20000)") == 0, "their ports to be free")
    sync(journalled)
    sync(journalled)
    eased, = wait_for(lambda: journal.events("ports-eased"), "that it is over")
    assert (eased["PORTLEDGER_USED"], eased["PORTLEDGER_PEAK"], eased["PORTLEDGER_REMOTE_PORT"]) == ("1", "8", "20000")
    worker.do("[client(f'd{i}', 20000) for i in range(8)]")
    worker.do("client('c20001-7', 20001)")
    sync(journalled)
    wait_for(lambda: len(journal.events("ports-short")) == 3, "both warnings")
    assert sorted(told("ports-short")[1:]) == [("127.0.0.1", "20000", "9", "10"), ("127.0.0.1", "20001", "8", "10")]
