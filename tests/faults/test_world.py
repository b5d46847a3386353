# SPDX-License-Identifier: MIT
"""What the rest of the host does: processes and namespaces by the thousand, a /proc that hides, a clock that is set, sockets without end."""
import pathlib
import sqlite3
import subprocess
import time

import pytest

import conftest
from conftest import EVENTS, FULL, PATIENCE, all_there, descriptors, gaps, memory, reasons, status, sync, wait_for

pytestmark = pytest.mark.any_rung

MIB = 1024 * 1024
FAKETIME = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

FORKS = """
import os, socket, sys
ports = []
read, write = os.pipe()
for i in range(int(sys.argv[1])):
    if os.fork() == 0:
        s = socket.socket(type=socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        os.write(write, f"{os.getpid()} {s.getsockname()[1]}\\n".encode())
        os._exit(0)
os.close(write)
with open(read) as f:
    sys.stdout.write(f.read())
"""


@pytest.mark.long
def test_a_bounded_fork_bomb(make_daemon, make_load):
    """As many processes as come, each of one claim and gone: each is named, and nobody else's claims suffer."""
    daemon = make_daemon(options=EVENTS).start()
    sync(daemon)
    load = make_load("--count", 2000)
    count = 3000 if FULL else 800
    begin = time.time_ns() // 1000
    result = subprocess.run(daemon.namespace.enter("/usr/bin/python3", "-c", FORKS, str(count)), stdout=subprocess.PIPE, text=True,
                            check=True, timeout=3 * PATIENCE)
    made = {tuple(map(int, line.split())) for line in result.stdout.splitlines()}
    assert len(made) == count
    truth = load.truth()
    sync(daemon)
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        found = set(db.execute("SELECT pid, port FROM claims WHERE opened_usec >= ? AND attribution = 'event'", (begin,)))
    assert made <= found, len(made - found)
    rows = [row for row in conftest.oracle.claims_of(daemon.database, {truth.run["netns"]}) if (row["pid"], row["port"]) not in made]
    wait_for(lambda: all(row["closed_usec"] for row in rows) or sync(daemon), "the last connections to be over")
    assert status(daemon)["lost"] == 0 and gaps(daemon) == []


class Hidden:
    """A network namespace; the daemon in it has a /proc of its own that hides the processes of others."""

    def __init__(self, namespace, *prefix):
        self.namespace, self.prefix = namespace, prefix

    def enter(self, *command):
        mount = "mount -t proc -o hidepid=2 proc /proc && exec \"$@\""
        return self.namespace.enter("unshare", "-m", "--propagation", "private", "sh", "-c", mount, "sh", *self.prefix, *command)


def test_a_proc_that_hides(make_daemon, make_load, namespace):
    """Told by events, who made a claim is known all the same."""
    daemon = make_daemon(options=EVENTS, namespace=Hidden(namespace)).start()
    all_there(daemon, make_load("--count", 600, "--uids", "0,1,1000,65534").truth())
    assert reasons(daemon) == ""


def test_a_proc_that_hides_from_sweeps(make_daemon, make_actor, namespace, directory):
    """Without events and without the capabilities it says that it cannot name others; it names none wrongly."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    directory.chmod(0o777)
    daemon = make_daemon(rung="sweep", namespace=Hidden(namespace, *nobody))
    other, own = make_actor(), make_actor(prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    theirs, ours = other.do("bound('u', 'udp')"), own.do("bound('u', 'udp')")
    daemon.start()
    sync(daemon)
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        claims = {port: (pid, uid) for port, pid, uid in db.execute("SELECT port, pid, uid FROM claims")}
    assert claims == {theirs: (None, 0), ours: (own.pid, 65534)}, claims
    assert "processes of other users cannot be named" in reasons(daemon)


@pytest.mark.long
def test_namespaces_that_come_and_go(make_daemon, directory):
    """Each claim of each of them is there, with its namespace; and nothing of them stays open."""
    daemon = make_daemon(options=(*EVENTS, "--netns", "all")).start()
    sync(daemon)
    before = {pid: descriptors(pid) for pid in [daemon.process.pid, *daemon.children()]}
    truths, count = [], 500 if FULL else 60
    script = f"ip link set lo up && exec {conftest.CHURN} --exe {directory} --count 10 --parallel 1"
    for _ in range(count):
        result = subprocess.run(["unshare", "-n", "sh", "-c", script], stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE)
        truths.append(conftest.oracle.Truth(result.stdout))
    for _ in range(2):
        sync(daemon)
    rows = conftest.oracle.rows_of(daemon.database, truths)
    # an inode is another namespace's soon: each row is held against the run in whose time it was opened
    recorded = sum(conftest.oracle.Comparison([t], [r for r in rows if t.is_of(r)], source="events", attribution="event").recorded
                   for t in truths)
    assert recorded == 10 * count, recorded
    assert status(daemon)["lost"] == 0
    wait_for(lambda: all(descriptors(pid) <= n + 1 for pid, n in before.items()), "their descriptors to be closed")


def test_the_uid_of_a_user_namespace(make_daemon, namespace):
    """Root there is whoever made the namespace here."""
    daemon = make_daemon(options=EVENTS).start()
    script = "import os, socket; s = socket.socket(type=2); s.bind(('127.0.0.1', 0)); print(os.getuid(), s.getsockname()[1])"
    result = subprocess.run(namespace.enter("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Ur",
                                            "/usr/bin/python3", "-c", script), capture_output=True, text=True, timeout=PATIENCE, check=False)
    if result.returncode != 0 and "Operation not permitted" in result.stderr:
        pytest.skip("cannot run here: no user namespaces for unprivileged users")
    there, port = map(int, result.stdout.split())
    sync(daemon)
    (claim,), _ = daemon.rows("history", port)
    assert there == 0 and claim["uid"] == 65534, claim


class Clocked:
    """A network namespace; the daemon's wall clock, and no other, is what `set` says."""

    def __init__(self, namespace, directory):
        self.namespace, self.file = namespace, directory / "clock"
        self.set("+0")

    def set(self, text):
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.file)

    def enter(self, *command):
        return self.namespace.enter("env", f"LD_PRELOAD={FAKETIME}", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1",
                                    f"FAKETIME_TIMESTAMP_FILE={self.file}", *command)


@pytest.mark.skipif(FAKETIME is None, reason="cannot run here: no libfaketime")
@pytest.mark.skipif("clang" in str(conftest.system.BUILD), reason="cannot run here: the sanitizer wants to be loaded first")
def test_a_clock_that_is_set(make_daemon, make_actor, namespace, directory):
    """A day forward, two days back, and past what fits into 31 bits: each is a step, and what was is in the order in which it was."""
    clock = Clocked(namespace, directory)
    daemon = make_daemon(rung="destroy", namespace=clock).start()
    actor = make_actor()
    steps, ports = ("+1d", "-1d", "+15y", "+0"), []
    for i, step in enumerate(("+0", *steps)):
        clock.set(step)
        sync(daemon)
        ports.append(actor.do(f"bound('a{i}', 'udp')"))
        if i:
            actor.do(f"close('a{i - 1}')")
        sync(daemon)
    for _ in range(3):
        sync(daemon)
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        by = [by for by, in db.execute("SELECT by_usec FROM clock_step ORDER BY id")]
        rows = db.execute("SELECT port, opened_usec, closed_usec, released_usec FROM claims ORDER BY opened_usec").fetchall()
    days = [round(b / 86_400e6) for b in by]
    assert days[0] == 1 and days[1] == -2 and days[2] in range(5475, 5482) and days[3] == 1 - days[2] and len(days) == 4, days
    assert len(rows) == len(ports) and all(closed is None or closed >= opened for _, opened, closed, _ in rows), rows
    assert status(daemon)["degraded"] == [] and daemon.process.poll() is None


@pytest.mark.skipif(FAKETIME is None, reason="cannot run here: no libfaketime")
@pytest.mark.skipif("clang" in str(conftest.system.BUILD), reason="cannot run here: the sanitizer wants to be loaded first")
@pytest.mark.parametrize("how", ("stopped", "killed"))
def test_a_clock_that_is_set_while_nobody_runs(make_daemon, namespace, directory, how):
    """The time since boot, which nobody sets, tells it afterwards: once."""
    clock = Clocked(namespace, directory)
    daemon = make_daemon(rung="destroy", namespace=clock).start()
    sync(daemon)
    wait_for(lambda: status(daemon)["watching"], "a sweep")
    end = daemon.stop if how == "stopped" else daemon.kill
    for step in ("+1d", "+1d"):
        end()
        clock.set(step)
        daemon.start()
        sync(daemon)
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        days = [round(by / 86_400e6) for by, in db.execute("SELECT by_usec FROM clock_step")]
    assert days == [1], days


HOLD = """
import os, resource, socket, sys
count, each, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_NOFILE, (each + 50, each + 50))
children = []
read, write = os.pipe()
for i in range(count // each):
    if os.fork() == 0:
        held = []
        for n in range(each):
            k = i * each + n
            s = socket.socket(type=socket.SOCK_DGRAM)
            s.bind((f"127.0.{k // 25000}.1", 35000 + k % 25000))
            held.append(s)
        os.write(write, b"x")
        os.close(write)
        sys.stdin.read()
        os._exit(0)
done = 0
while done < count // each:
    done += len(os.read(read, 4096))
print("held", flush=True)
sys.stdin.read()
"""


def open_claims(daemon):
    """By an answer that waits for capture; a look at so many sockets may take longer than a question does."""
    try:
        sync(daemon)
    except AssertionError as e:
        assert "capture did not answer in time" in str(e)
        return -1
    return status(daemon)["open_claims"]


@pytest.mark.long
@pytest.mark.parametrize("rung", ("events", "destroy"))
def test_memory_of_many_sockets(make_daemon, namespace, rung):
    """What each process keeps of an open claim is bounded, and given back."""
    count = 100_000 if FULL else 20_000
    daemon = make_daemon(options=("--rung", rung)).start()
    sync(daemon)
    pids = {"capture": daemon.process.pid, "ledger": daemon.child("pl-ledger"), "control": daemon.child("pl-control")}
    rest = {name: memory(pid, "VmRSS") for name, pid in pids.items()}
    with subprocess.Popen(namespace.enter("/usr/bin/python3", "-c", HOLD, str(count), "800", "x"), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            wait_for(lambda: open_claims(daemon) >= count // 800 * 800, "all to be found")
            with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
                (found,), = db.execute("SELECT count(*) FROM claims WHERE port = 35001")
            assert found == (count - 2) // 25_000 + 1
            held = {name: memory(pid, "VmHWM") for name, pid in pids.items()}
        finally:
            holder.stdin.close()
    print(f"{count} sockets by {rung}: " + ", ".join(f"{name} {rest[name] / MIB:.0f} -> {held[name] / MIB:.0f} MiB" for name in pids))
    bytes_each = sum(held[name] - rest[name] for name in pids) / count
    assert bytes_each < 1536 + 16 * MIB / count, bytes_each
    wait_for(lambda: open_claims(daemon) == 0, "all to be gone")
    assert status(daemon)["lost"] in (0, None) and daemon.process.poll() is None
