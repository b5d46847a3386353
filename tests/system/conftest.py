# SPDX-License-Identifier: MIT
"""What the system tests share: a network namespace of their own, a daemon in it, its client, and processes that make
claims. Nothing sleeps and hopes: questions are exact, and every wait has an end."""
import ast
import concurrent.futures
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))  # each file runs alone, too

import oracle  # noqa: E402
from waiting import PATIENCE, wait_for  # noqa: E402

BUILD = pathlib.Path(os.environ.get("PORTLEDGER_BUILD", ROOT / "build-gcc"))
DAEMON = BUILD / "daemon/portledgerd"
CLIENT = BUILD / "client/portledger"
SUPPORT = BUILD / "tests/support"
# What the tests of a file that are alike on every rung (the mark any_rung) have; None: the best that works here.
ANY_RUNG = os.environ.get("PORTLEDGER_ANY_RUNG")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1
# Linux shows TCP sockets that are bound and no more to sweeps since 6.8; before, only events tell of them.
SWEEPS_SHOW_BOUND_ONLY = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 8)


def all_ended(daemon, *truths):
    """On a busy host the last packets of a connection wait for a processor, too, and so does the daemon, which may not be in time."""
    def look():
        if "error" in daemon.replies("org.portledger.ledger.Sync")[-1]:
            return False
        return all(row["closed_usec"] is not None for row in oracle.rows_of(daemon.database, truths))

    wait_for(look, "the last connections to be over")


class Namespace:
    """A network namespace with its loopback up, kept alive by a descriptor. A thread makes it and is there no more: no process is
    started for it, and tests make hundreds."""

    def __init__(self):
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            self.descriptor = thread.submit(self.make).result()

    @staticmethod
    def make():
        if LIBC.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace of our own")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self, *command):
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.descriptor}", *map(str, command)]

    def inode(self):
        return os.fstat(self.descriptor).st_ino

    def close(self):
        os.close(self.descriptor)


class Traced:
    """A network namespace, with tracefs where it belongs: not every machine has it there. For the daemon alone."""

    MOUNT = "[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\""

    def __init__(self, namespace):
        self.namespace = namespace

    def enter(self, *command):
        return self.namespace.enter("unshare", "-m", "sh", "-c", self.MOUNT, "sh", *command)


def sysctl(namespace, name, value):
    """Sets one of the namespace's own settings of the kernel."""
    subprocess.run(namespace.enter("sysctl", "-q", "-w", f"{name}={value}"), check=True)


class Daemon:
    """portledgerd in a namespace, with its state in a directory of its own. `rung` None: the best that works here."""

    def __init__(self, namespace, directory, interval="1h", options=(), config="", rung=None):
        self.namespace = namespace
        self.directory = pathlib.Path(directory)
        self.state = self.directory / "state"
        self.socket = str(self.directory / "control")
        self.config = self.directory / "portledger.conf"
        self.options = list(map(str, options))
        if "--netns" not in self.options:  # what others do at the same time is not to be counted
            self.options += ["--netns", "self"]
        if rung and "--rung" not in self.options:
            self.options += ["--rung", rung]
        self.config.write_text(f"[Capture]\nInterval={interval}\n{config}")
        self.process = None
        self.log = self.directory / "daemon.log"

    @property
    def database(self):
        return self.state / "portledger.db"

    def spawn(self):
        """It is on its way; what comes of it is the caller's to see."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.namespace.enter(DAEMON, "--config", self.config, "--state", self.state, "--socket", self.socket,
                                     *self.options),
                stderr=log, start_new_session=True)

    def start(self):
        self.spawn()
        wait_for(lambda: self.process.poll() is not None or self.answers(), "the daemon to answer")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def answers(self):
        """Somebody listens, and the ledger behind it is there too."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(PATIENCE)
                s.connect(self.socket)
                s.sendall(b'{"method":"org.portledger.ledger.Sync"}\0')
                return b'"commit"' in s.recv(65536)
        except OSError:
            return False

    def children(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path, encoding="ascii") as f:
            return [int(pid) for pid in f.read().split()]

    def child(self, name):
        """The pid of the process of ours whose comm is `name`."""
        for pid in self.children():
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read().strip() == name:
                    return pid
        raise AssertionError(f"no child {name}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(PATIENCE) == 0, self.log.read_text()

    def kill(self):
        """kill -9 of all three at once."""
        children = self.children()
        for pid in [self.process.pid, *children]:
            with contextlib.suppress(ProcessLookupError):  # a child ends by itself when its parent is gone
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        wait_for(lambda: not any(alive(pid) for pid in children), "the children to be gone")

    def replies(self, method, parameters=None, flag=None):
        """One Varlink call by plain Python."""
        call = {"method": method, "parameters": parameters or {}}
        if flag:
            call[flag] = True
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(self.socket)
            s.sendall(json.dumps(call).encode() + b"\0")
            replies, data = [], b""
            while True:
                while b"\0" not in data:
                    chunk = s.recv(65536)
                    if not chunk:
                        raise ConnectionError(f"closed after {replies} {data}")
                    data += chunk
                frame, data = data.split(b"\0", 1)
                reply = json.loads(frame)
                replies.append(reply)
                if not reply.get("continues"):
                    break
        return replies

    def call(self, method, parameters=None, flag=None):
        """One that succeeds. With flag 'more': the list of all replies."""
        replies = self.replies(method, parameters, flag)
        if flag == "more":
            return replies
        assert "error" not in replies[-1], replies
        return replies[-1]["parameters"]

    def client(self, *arguments, env=None, **options):
        return subprocess.run([CLIENT, "--socket", self.socket, *map(str, arguments)], capture_output=True,
                              text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
                              env={**os.environ, "TZ": "UTC", **(env or {})}, check=False, **options)

    def rows(self, *arguments):
        """The claims that a command of the client answers, as JSON, and its receipt."""
        result = self.client(*arguments, "--json=short")
        assert result.returncode in (0, 1), result.stderr
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        claims = [line for line in lines if "coverage" not in line]
        receipts = [line["coverage"] for line in lines if "coverage" in line]
        return claims, receipts[0] if receipts else None


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Actor:
    """A process that makes claims when told: a line of Python in, a line of Python out (tests/support/actor.py)."""

    def __init__(self, namespace, prefix=(), program=sys.executable):
        # by its text: who has dropped root may not be able to read it in a checkout of root's
        command = [program, "-I", "-S", "-u", "-c", (ROOT / "tests/support/actor.py").read_text(encoding="utf-8")]
        self.process = subprocess.Popen(namespace.enter(*prefix, *command), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.do("pid()")

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the actor died of: {line}"
        answer = ast.literal_eval(answer)
        assert "error" not in answer, f"{line}: {answer['error']}"
        return answer["result"]

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def traced(daemon, *options):
    """A daemon whose main process strace runs, with system calls that are made to fail."""
    command = ["strace", "-qq", "-o", "/dev/null", *options, DAEMON, "--config", daemon.config, "--state", daemon.state,
               "--socket", daemon.socket, *daemon.options]
    # The leak sanitizer, where there is one, is a tracer itself, and there can be only one.
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    with open(daemon.log, "ab") as log:
        tracer = subprocess.Popen(daemon.namespace.enter(*command), stderr=log, env=env)
    try:
        wait_for(lambda: daemon.answers() or tracer.poll() is not None, "the daemon to answer or to end")
        yield tracer
    finally:
        if tracer.poll() is None:
            with open(f"/proc/{tracer.pid}/task/{tracer.pid}/children", encoding="ascii") as children:
                for pid in children.read().split():
                    os.kill(int(pid), signal.SIGTERM)
        tracer.wait(PATIENCE)


@pytest.fixture
def directory():
    with tempfile.TemporaryDirectory(prefix="portledger-test.") as path:
        yield pathlib.Path(path)


@pytest.fixture
def namespace():
    n = Namespace()
    yield n
    n.close()


@pytest.fixture
def rung(request):
    """That all daemons of a file's tests are to have; None: the best that works here."""
    return ANY_RUNG if request.node.get_closest_marker("any_rung") else None


@pytest.fixture
def make_daemon(namespace, directory, rung):
    """Daemons that end with the test. By default they sweep only when asked, so that the test decides when."""
    made = []

    def make(**options):
        options.setdefault("rung", rung)
        d = Daemon(options.pop("namespace", namespace), options.pop("directory", directory), **options)
        made.append(d)
        return d

    yield make
    for d in made:
        if d.process and d.process.poll() is None:
            d.process.terminate()
            try:
                d.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                d.kill()
        log = d.log.read_text(errors="replace") if d.log.exists() else ""
        assert "Sanitizer: " not in log and "runtime error: " not in log, log


@pytest.fixture
def daemon(make_daemon):
    return make_daemon().start()


@pytest.fixture
def make_actor(namespace):
    made = []

    def make(**options):
        a = Actor(options.pop("namespace", namespace), **options)
        made.append(a)
        return a

    yield make
    for a in made:
        a.close()


@pytest.fixture
def actor(make_actor):
    return make_actor()
