# SPDX-License-Identifier: MIT
"""Nine nights: what people come with, from the script that made the claims to the answer they read. Each is in a namespace of its
own, every count is the script's, and "none" never looks like "not watching"."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import CLIENT, PATIENCE, SUPPORT, Namespace, Traced, sysctl, wait_for
from waiting import within

FAR = 20000  # where clients go: ports that nobody watches
SYNC = "org.portledger.ledger.Sync"


def usec():
    return time.time_ns() // 1000


def stamp(at):
    return f"@{at / 1e6:.6f}"


def sync(daemon, times=1):
    for _ in range(times):
        daemon.call(SYNC)


def copy_of_python(directory, name):
    """A program of its own, by its file."""
    path = directory / name
    shutil.copy(os.path.realpath(sys.executable), path)
    return str(path)


def without_receipt(result):
    return [line for line in map(json.loads, result.stdout.splitlines()) if "coverage" not in line]


@pytest.fixture
def rung():
    """Of these nights nothing is left to chance."""
    return "events"


@pytest.fixture(name="far")
def far_end(make_actor):
    actor = make_actor()
    for i in range(2):
        actor.do(f"listener('l{i}', at={FAR + i})")
    return actor


def failing(actor, line, words):
    """What the script wants is refused by the kernel, with these words."""
    with pytest.raises(AssertionError, match=words):
        actor.do(line)


# What five programs do at night; each line is one claim that it may make. A UDP socket of less than a millisecond, TCP that is bound
# and no more, connections, a server.
NIGHT = {
    "curl": (40, "client('c', 20000) and reset('c')"),
    "chronyd": (30, "make('u', 'udp') and send('u', '127.0.0.1', 9) and close('u')"),
    "binder": (20, "bound('b', 'tcp') and close('b')"),
    "dig": (25, "client('q', 53, 'udp', '6') and close('q')"),
    "upd": (1, "listener('s', at=60530) and close('s')"),
}


def run_night(daemon, make_actor, programs):
    began = usec()
    for name, (count, line) in NIGHT.items():
        actor = make_actor(program=programs[name])
        actor.do(f"[{line} for _ in range({count})] and None")
        actor.close()
    sync(daemon)
    return began, usec()


def test_s1_the_overnight_audit(make_daemon, make_actor, far, directory):
    """What opened ports overnight, how often, as what; and who was never seen before."""
    daemon = make_daemon().start()
    programs = {name: copy_of_python(directory, name) for name in NIGHT}
    nights = [run_night(daemon, make_actor, programs) for _ in range(2)]
    for night, (since, until) in enumerate(nights):
        question = ("audit", "-S", stamp(since), "-U", stamp(until))
        rows, receipt = daemon.rows(*question)
        rows = {row["exe"]: row for row in rows if "exe" in row}
        assert {os.path.basename(exe): row["claims"] for exe, row in rows.items()} == {n: c for n, (c, _) in NIGHT.items()}
        roles = {os.path.basename(exe): (r["connected"], r["listening"], r["bound"]) for exe, r in rows.items()}
        assert roles == {"curl": (40, 0, 0), "chronyd": (0, 0, 30), "binder": (0, 0, 20), "dig": (25, 0, 0), "upd": (0, 1, 0)}
        assert all(row["new"] == (night == 0) for row in rows.values())
        assert rows[programs["chronyd"]]["shortest_usec"] < 1000
        assert receipt["complete"] and receipt["lost"] == 0
        text = daemon.client(*question)
        assert text.returncode == 0 and "60530/tcp" in text.stdout and text.stdout.splitlines()[-1].startswith("Coverage: ")
        assert ("NEW" in text.stdout.upper().split()) == (night == 0)
        for mode in ((), ("-j",), ("--csv",)):
            assert daemon.client(*question, *mode).stdout == daemon.client(*question, *mode).stdout
    # what the second night had that the first had not: nothing
    (first, end), (since, _) = nights
    wait_for(lambda: usec() - since > end - first, "the second night to be as long as the first")
    result = daemon.client("audit", "-S", stamp(since), "-U", "now", "--diff", stamp(first))
    assert result.returncode == 1 and "5 programs in both" in result.stdout, result.stdout


def test_s2_who_had_60530_at_that_time(make_daemon, make_actor, far, directory):
    """The pids are dead and one is another program's by now; both holders are told, and where nobody was it is said so."""
    daemon = make_daemon().start()
    before = usec()
    first, second = (make_actor(program=copy_of_python(directory, name)) for name in ("curl", "upd"))
    moments = []
    for i, actor in enumerate((first, second)):
        actor.do("make('c', 'tcp')")
        actor.do("kept['c'].setsockopt(1, 2, 1)")  # SO_REUSEADDR: what is left of the first one is in its way
        actor.do("bind('c', '127.0.0.1', 60530)")
        actor.do(f"connect('c', '127.0.0.1', {FAR + i})")
        far.do(f"accept('l{i}', 'a{i}')")
        sync(daemon)
        moments.append(usec())
        actor.do("close('c')")
        far.do(f"close('a{i}')")
        sync(daemon)
    after = usec()
    pids = [first.pid, second.pid]
    first.close()
    second.close()
    reuser = subprocess.Popen([SUPPORT / "set-tid", str(pids[0]), "sleep", "60"])
    try:
        wait_for(lambda: os.path.exists(f"/proc/{pids[0]}/exe") and os.readlink(f"/proc/{pids[0]}/exe").endswith("sleep"),
                 "the pid to be another program's")
        rows, receipt = daemon.rows("who", 60530, "-S", stamp(before), "-U", stamp(after))
    finally:
        reuser.terminate()
        reuser.wait(PATIENCE)
    assert [(os.path.basename(r["exe"]), r["pid"], r["remote_port"]) for r in rows] == [
        ("curl", pids[0], FAR), ("upd", pids[1], FAR + 1)]
    assert [r["parent_pid"] for r in rows] == [os.getpid()] * 2 and receipt["complete"]
    # its TIME_WAIT: the port was not free when the socket was closed
    assert rows[0]["released_usec"] is None or rows[0]["released_usec"] > rows[0]["closed_usec"]
    # to the microsecond each is alone; and so is the one who had that peer
    for moment, pid in zip(moments, pids):
        rows, _ = daemon.rows("who", 60530, "--at", stamp(moment))
        assert pid in [r["pid"] for r in rows] and all(r["pid"] == pid or r["closed_usec"] < moment for r in rows)
    rows, _ = daemon.rows("who", 60530, "-S", stamp(before), "-U", stamp(after), "--peer", f"127.0.0.1:{FAR + 1}")
    assert [r["pid"] for r in rows] == [pids[1]]
    none = daemon.client("who", "60530/udp", "-S", stamp(before), "-U", stamp(after), "--strict")
    blind = daemon.client("who", "60530", "--at", stamp(before - 3600_000_000))
    strict = daemon.client("who", "60530", "--at", stamp(before - 3600_000_000), "--strict")
    assert (none.returncode, blind.returncode, strict.returncode) == (1, 1, 6)
    assert "No claim matched in what was watched." in none.stdout and "complete" in none.stdout
    assert "nobody was watching" in blind.stdout and "No claim matched" not in blind.stdout


def test_s3_what_is_port_60530(make_daemon, namespace, actor):
    sysctl(namespace, "net.ipv4.ip_local_reserved_ports", "50000-50010")
    daemon = make_daemon().start()
    for _ in range(14):
        actor.do("bound('u', 'udp', at=60530) and close('u')")
    actor.do("listener('l', at=60530)")
    sync(daemon)
    actor.do("close('l')")
    sync(daemon)
    said = {port: daemon.client(port).stdout for port in (60530, 61500, 40000, 32767, 8080, 50005)}
    told = {port: json.loads(daemon.client(port, "-j").stdout.splitlines()[0]) for port in said}
    assert {p: (t["class"], t["ephemeral"], t["reserved"], t["watched"]) for p, t in told.items()} == {
        60530: ("dynamic", True, False, True), 61500: ("dynamic", False, False, True), 40000: ("user", True, False, True),
        32767: ("user", False, False, False), 8080: ("user", False, False, False), 50005: ("dynamic", True, True, True)}
    assert told[60530]["claims_day"] == 15 and told[60530]["claims_now"] == 0 and len(told[60530]["listened"]) == 1
    assert told[61500]["claims_ever"] == 0
    assert "15 in the last day" in said[60530] and "python3" in said[60530]
    assert "not watching" in said[8080] and "not watching" not in said[61500]


def test_s4_who_stole_my_port(make_daemon, namespace, make_actor, far):
    """A service cannot have its port: a client has it, or what is left of a connection that no process has any more."""
    sysctl(namespace, "net.ipv4.ip_local_reserved_ports", "1080,50000")
    daemon = make_daemon(namespace=Traced(namespace), config="Failures=yes\n").start()
    began = usec()
    client, service = make_actor(), make_actor()
    client.do("set_name('73796e63')")  # sync
    service.do("set_name('6d79617070')")  # myapp
    # a server before, so that what happens next is a collision of it
    service.do("listener('s', at=44892)")
    sync(daemon)
    service.do("close('s')")
    for i, port in enumerate((44892, 44893)):
        client.do(f"make('c{i}', 'tcp')")
        client.do(f"bind('c{i}', '127.0.0.1', {port})")
        client.do(f"connect('c{i}', '127.0.0.1', {FAR})")
        far.do(f"accept('l0', 'a{i}')")
    client.do("close('c1')")  # its far end stays: FIN-WAIT-2, and no process has it
    service.do("make('b', 'tcp')")
    service.do("kept['b'].setsockopt(1, 2, 1)")
    for port in (44892, 44893):
        failing(service, f"bind('b', '0.0.0.0', {port})", "Address already in use")
    pids = client.pid, service.pid
    far.do("close('a0', 'a1')")  # the far end first: its own port is what waits
    client.do("over('c0')")
    client.do("close('c0')")
    client.close()
    service.do("close('b')")
    sync(daemon)
    rows, receipt = daemon.rows("failures", "--app", "myapp", "-S", stamp(began))
    assert [(r["call"], r["error"], r["port"], r["pid"], r["holder_comm"], r["holder_pid"], r["holder_role"], r["holder_remote_address"],
             r["holder_remote_port"]) for r in rows] == [
        ("bind", "in_use", port, pids[1], "sync", pids[0], "connected", "127.0.0.1", FAR) for port in (44892, 44893)]
    assert receipt["complete"] and receipt["stretches"][0]["failures"]
    text = daemon.client("failures", "-S", stamp(began))
    assert text.returncode == 0 and text.stdout.count(f"sync[{pids[0]}], connected since ") == 2
    assert text.stdout.count(f"127.0.0.1:{FAR}") == 2
    # what nobody failed at is none; and before the daemon was there, nobody watched
    none, blind = daemon.client("failures", 44894, "-S", stamp(began)), daemon.client("failures", "-U", stamp(began - 3600_000_000))
    assert (none.returncode, blind.returncode) == (1, 1)
    assert "in what was watched" in none.stdout and "not watched" in blind.stdout
    # the fix: present reservations are kept, nothing is applied
    successor = make_actor()
    successor.do("set_name('6d79617070')")
    wait_for(lambda: "error" not in told(successor, "listener('s', at=44892)"), "the port to be free")
    rows, _ = daemon.rows("listeners")
    assert [(r["port"], r["collisions"], r["collision_comm"], r["reserved"]) for r in rows if "port" in r] == [
        (44892, 1, "sync", False)]
    line = daemon.client("listeners", "--sysctl").stdout.splitlines()[-1]
    assert line == "net.ipv4.ip_local_reserved_ports = 1080,44892,50000"
    shown = subprocess.run(namespace.enter("sysctl", "-n", "net.ipv4.ip_local_reserved_ports"), capture_output=True, text=True, check=True)
    assert shown.stdout == "1080,50000\n"


def told(actor, line):
    try:
        return {"result": actor.do(line)}
    except AssertionError as error:
        actor.do("kept.clear()")
        return {"error": str(error)}


def test_s5_exhaustion_at_three(make_daemon, namespace, make_actor, far):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "40000 40009")
    daemon = make_daemon(namespace=Traced(namespace), config="Failures=yes\n").start()
    began = usec()
    worker = make_actor()
    worker.do("set_name('776f726b6572')")

    def rows_of(**parameters):
        rows = daemon.call("org.portledger.ledger.Pressure", parameters)["pressure"]
        return {r["remote_port"]: (r["used"], r["available"]) for r in rows if r["scope"] == "destination"}

    worker.do(f"[client(f'c{{i}}', {FAR}) for i in range(8)]")
    assert rows_of() == {FAR: (8, 10)}
    line = next(x for x in daemon.client("pressure").stdout.splitlines() if f":{FAR} " in x)
    assert "near" in line.split()
    worker.do(f"[client(f'c{{i}}', {FAR}) for i in range(8, 10)]")
    failing(worker, f"client('more', {FAR})", "Cannot assign requested address")
    text = within(1, lambda: daemon.client("pressure")).stdout
    line = next(x for x in text.splitlines() if f":{FAR} " in x).split()
    assert "full" in line and line[-2:] == ["worker", "10"]
    full = usec()
    worker.do(f"[client(f'd{{i}}', {FAR + 1}) for i in range(10)]")  # a second destination has its own ten
    failing(worker, f"client('more', {FAR + 1})", "Cannot assign requested address")
    assert rows_of() == {FAR: (10, 10), FAR + 1: (10, 10)}
    failures, receipt = daemon.rows("failures", "--app", "worker", "-S", stamp(began))
    assert [(f["call"], f["error"], f["remote_port"]) for f in failures] == [
        ("connect", "not_available", FAR), ("connect", "not_available", FAR + 1)] and receipt["complete"]
    # hours later: what was full is told of then, also when all are gone
    worker.close()
    sync(daemon)
    assert rows_of(since_usec=full, until_usec=full + 1) == {FAR: (10, 10)}
    result = daemon.client("pressure", "--at", stamp(full), "--window", "1s")
    assert result.returncode == 0 and "worker 10" in result.stdout


def test_s6_what_my_laptop_does_at_night(make_daemon, make_actor, far, directory):
    """What is new is said once in a program's life for each role, not for each claim."""
    daemon = make_daemon().start()
    old, new = (copy_of_python(directory, name) for name in ("old", "new"))
    make_actor(program=old).do("bound('u', 'udp') and close('u')")
    sync(daemon)
    evening = usec()
    actors = [make_actor(program=program) for program in (old, new, new)]
    for actor in actors:
        actor.do(f"[client('c', {FAR}) and close('c') for _ in range(5)] and None")
    for _ in range(3):
        actors[1].do("listener('l', at=61500) and close('l')")  # which no client has
        sync(daemon)
    rows, receipt = daemon.rows("apps", "--new", "-S", stamp(evening))
    assert [(r["name"], r["claims"]) for r in rows] == [(new, 13)] and receipt["complete"]
    rows, _ = daemon.rows("apps", "-S", stamp(evening))
    assert {r["name"]: r["claims"] for r in rows} == {old: 5, new: 13}
    said = [line for line in daemon.log.read_text().splitlines() if f"new program: {new}" in line or f", by {new}" in line]
    assert len(said) == 2 and "new listener: port 61500/tcp" in said[1]
    # the next night nothing is new
    night = usec()
    actors[2].do(f"client('c', {FAR}) and close('c')")
    sync(daemon)
    result = daemon.client("apps", "--new", "-S", stamp(night))
    assert result.returncode == 1 and "No program was seen for the first time" in result.stdout, result.stdout
    # where nobody watched, it is a gap, and not a quiet night
    daemon.kill()
    daemon.start()
    assert daemon.client("history", "-S", stamp(night), "--strict").returncode == 6
    assert [g["reason"] for g in daemon.rows("history", "-S", stamp(night))[1]["gaps"]]


@pytest.fixture(name="second")
def second_namespace():
    n = Namespace()
    yield n
    n.close()


def test_s7_a_host_of_containers(namespace, second, make_daemon, make_actor, directory):
    """The same port in two namespaces, one that lives for a moment, and a range that each has of its own."""
    sysctl(second, "net.ipv4.ip_local_port_range", "50000 50009")
    daemon = make_daemon(options=("--netns", "all")).start()
    host, container = make_actor(), make_actor(namespace=second)
    for actor in (host, container):
        actor.do("listener('l', at=50001)")
        actor.do(f"listener('far', at={FAR})")
        actor.do(f"[client(f'c{{i}}', {FAR}) for i in range(3)]")
    inodes = namespace.inode(), second.inode()
    for inode, pid in zip(inodes, (host.pid, container.pid)):
        rows, _ = daemon.rows("now", 50001, "--netns", inode, "--role", "listening")
        assert [(r["netns"], r["pid"]) for r in rows] == [(inode, pid)]
    rows = daemon.call("org.portledger.ledger.Pressure", {"limit": 256})["pressure"]
    whole = {r["netns"]: (r["low"], r["high"], r["used"]) for r in rows if r["scope"] == "namespace" and r["netns"] in inodes
             and r["protocol"] == "tcp"}
    assert whole == {inodes[0]: (32768, 60999, 4), inodes[1]: (50000, 50009, 4)}
    now = usec()
    picture = daemon.call("org.portledger.ledger.Occupancy", {
        "since_usec": now - 1_000_000, "until_usec": now + 1_000_000, "step_usec": 2_000_000})
    ranges = {s["netns"]: (s["range"], s["peak"]) for s in picture["series"] if s["netns"] in inodes}
    assert ranges == {inodes[0]: ({"low": 32768, "high": 60999}, 4), inodes[1]: ({"low": 50000, "high": 50009}, 4)}
    container.do("bound('o', 'udp', at=40000)")
    inside = [sorted(r["port"] for r in daemon.rows("now", "--netns", inode, "--range", "kernel")[0]) for inode in inodes]
    assert len(inside[0]) == len(inside[1]) == 4 and all(50000 <= port <= 50009 for port in inside[1])
    # how full the host's own range is has nothing of another one's ports
    assert daemon.call("org.portledger.ledger.Status")["used"]["tcp"] == 4
    assert [json.loads(daemon.client(40000, "--netns", inode, "-j").stdout.splitlines()[0])["ephemeral"] for inode in inodes] == [
        True, False]
    # one that is there for a moment, with a name that is gone with it
    name = f"portledger-test-{os.getpid()}"
    script = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 50001)); s.close()"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inode = os.stat(f"/run/netns/{name}").st_ino
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "netns", "exec", name, sys.executable, "-c", script], check=True)
        sync(daemon)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    result = daemon.client("who", 50001, "--netns", name, "-S", stamp(now), "-U", "now", "-j")
    assert [(r["netns"], r["netns_name"], r["protocol"]) for r in without_receipt(result)] == [(inode, name, "udp")]


def test_s8_can_i_trust_it(make_daemon, namespace, directory):
    """Killed in the middle of a burst, it says what it may have missed; and it measures itself."""
    daemon = make_daemon().start()
    kept = subprocess.run(namespace.enter(CLIENT, "--socket", daemon.socket, "doctor", "--self-test", "20", "-j"), capture_output=True,
                          text=True, timeout=PATIENCE, check=False)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    kinds = [line for line in map(json.loads, kept.stdout.splitlines()) if "made" in line]
    assert kinds and all(k["made"] == k["caught"] == k["attributed"] == 20 and k["wrong"] == 0 for k in kinds)
    began = usec()
    burst = subprocess.Popen(namespace.enter(sys.executable, "-u", "-c", "import socket\nfor i in range(3000):\n"
                                             " s = socket.socket(type=socket.SOCK_DGRAM)\n s.bind(('127.0.0.1', 0))\n"
                                             " print(s.getsockname()[1])\n s.close()"), stdout=subprocess.PIPE, text=True)
    made = [int(burst.stdout.readline()) for _ in range(500)]
    daemon.kill()
    daemon.start()
    made += [int(line) for line in burst.stdout]
    burst.stdout.close()
    assert burst.wait(PATIENCE) == 0 and len(made) == 3000
    rows, receipt = daemon.rows("history", "--pid", burst.pid, "-S", stamp(began))
    missing = sorted(made)
    for row in rows:
        missing.remove(row["port"])  # none is there that was not made
    assert receipt["complete"] == (not receipt["gaps"]) and (receipt["gaps"] or not missing), (len(missing), receipt)
    assert all(g["reason"] == "killed" for g in receipt["gaps"])
    status = daemon.call("org.portledger.ledger.Status")
    assert status["rung"] == "events" and status["lost"] == 0
    text = daemon.client("status").stdout
    assert "events" in text and "CPU" in text and "gap" in text
    # a rung that cannot know what it missed says so
    daemon.stop()
    other = directory / "lower"
    other.mkdir()
    lower = make_daemon(directory=other, rung="sweep").start()
    assert lower.client("history", "--strict").returncode == 6
    assert "shorter claims may be missing" in lower.client("history").stdout


def test_s9_scripting(daemon, actor, directory):
    exes = {}
    for i in range(300):
        actor.do(f"bound('u', 'udp', at={49200 + i}) and close('u')")
    sync(daemon)
    result = daemon.client("history", "-S", "-1h", "--json=short")
    assert result.returncode == 0 and result.stderr == ""
    *rows, last = map(json.loads, result.stdout.splitlines())
    for row in rows:
        exes[row["exe"]] = exes.get(row["exe"], 0) + (row["port"] >= 49152)
    assert list(exes.values()) == [300] and set(last) == {"coverage"}
    # the reply of the interface is what the client prints
    replies = daemon.call("org.portledger.ledger.Claims", {}, flag="more")
    claims = [c for reply in replies for c in reply["parameters"]["claims"]]
    assert [{**c, "user": None} for c in claims] == [{**row, "user": None} for row in rows]
    assert daemon.client("history", "-F", "exe").stdout.split() == list(exes)
    # whoever reads no further ends it, and it does not complain
    pipe = subprocess.Popen([CLIENT, "--socket", daemon.socket, "history", "-j"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert pipe.stdout.readline().startswith(b"{")
    pipe.stdout.close()
    assert pipe.wait(PATIENCE) in (0, -signal.SIGPIPE) and pipe.stderr.read() == b""
    pipe.stderr.close()
