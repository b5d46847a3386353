# SPDX-License-Identifier: MIT
"""The destroy rung: what no sweep sees is told by the kernel when it goes. Every port, protocol and end is there, no
process is guessed, and nobody's accepted connection becomes a client's."""
import collections
import json
import signal
import subprocess
import sys
import time

import pytest

from conftest import PATIENCE, traced, wait_for

MAKER = r"""
import json, os, socket, struct, sys, time
def usec():
    return time.time_ns() // 1000
def log(**what):
    made.append(what)
made = []
RESET = struct.pack("ii", 1, 0)
def over(end):
    try:
        while end.recv(65536):
            pass
    except ConnectionResetError:
        pass
def waits(port):
    with open("/proc/net/tcp") as table:
        return all(state == "06" for _, local, _, state, *_ in map(str.split, table) if local.endswith(f":{port:04X}"))
def tcp(listener, hold=0.001, until=lambda port: True):
    client, before = socket.socket(), usec()
    client.connect(listener.getsockname())
    opened, (child, peer) = usec(), listener.accept()
    time.sleep(hold)
    closing = usec()
    client.close()
    child.recv(1)  # its end has come here: this one is the second
    child.close()
    while not until(peer[1]):
        pass
    log(protocol="tcp", port=peer[1], before=before, opened=opened, closing=closing, closed=usec())
def udp(hold=0.001):
    before, s = usec(), socket.socket(type=socket.SOCK_DGRAM)
    s.sendto(b"x", ("127.0.0.1", 9))
    opened, port = usec(), s.getsockname()[1]
    time.sleep(hold)
    closing = usec()
    s.close()
    log(protocol="udp", port=port, before=before, opened=opened, closing=closing, closed=usec())
def listener(port=0):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen(64)
    return s
"""


@pytest.fixture
def rung():
    return "destroy"


SLACK = 1000  # microseconds: two clocks are not read at one moment
LATE = 20_000  # the kernel tells in its own time, later where the processors are busy


def usec():
    return time.time_ns() // 1000


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


def make(namespace, script):
    """Runs the maker to its end; what it made, by its own log."""
    result = subprocess.run(namespace.enter(sys.executable, "-c", MAKER + script + "\nprint(json.dumps(made))"),
                            stdout=subprocess.PIPE, check=True, timeout=60)
    return json.loads(result.stdout)


def history(daemon):
    sync(daemon)
    return daemon.rows("history", "--range", "1-65535", "-n", "200000")[0]


def all_told(daemon, count, role=None):
    """The kernel tells in its own time, a moment after a socket is gone: looks until so many claims are closed. Leaves those
    with this role out."""
    def look():
        found = [c for c in history(daemon) if c["closed_usec"] is not None and (role is None or c["role"] != role)]
        return found if len(found) >= count else None
    claims = wait_for(look, f"{count} closed claims")
    assert len(claims) == count, claims
    return claims


def check_times(claim, made):
    assert claim["opened_usec"] >= made["before"] - SLACK, (claim, made)
    assert claim["opened_after_usec"] is not None and claim["opened_after_usec"] <= made["opened"] + SLACK, (claim, made)
    assert made["closing"] - SLACK <= claim["closed_usec"], (claim, made)
    if claim["closed_after_usec"] is not None:
        assert claim["closed_after_usec"] <= made["closed"] + LATE, (claim, made)


def is_exact(claim, made):
    return claim["closed_after_usec"] is None and claim["closed_usec"] <= made["closed"] + LATE


def check_unknown(claim):
    assert claim["attribution"] == "none"
    assert claim["pid"] is claim["comm"] is claim["exe"] is claim["uid"] is claim["unit"] is None


def by_port(claims):
    found = collections.defaultdict(list)
    for claim in claims:
        found[claim["protocol"], claim["port"]].append(claim)
    return found


def test_thousand_of_each_between_sweeps(make_daemon, namespace):
    """One second between sweeps; each claim lives a millisecond."""
    daemon = make_daemon(interval="1s", options=("--rung", "destroy")).start()
    made = make(namespace, """
at = listener()
log(server=at.getsockname()[1])
for i in range(1000):
    tcp(at)
    udp()
""")
    server = made.pop(0)["server"]
    claims = all_told(daemon, 3001)
    children = [c for c in claims if (c["protocol"], c["port"]) == ("tcp", server)]
    assert sorted(c["role"] for c in children) == ["accepted"] * 1000 + ["listening"]
    # Each port, as often as it was used, in the order of its ends.
    exact = unknown = 0
    told, expected = by_port(claims), by_port(made)
    for key, theirs in expected.items():
        mine = sorted(told[key], key=lambda c: c["closed_usec"])
        assert len(mine) == len(theirs), key
        for claim, truth in zip(mine, theirs):
            check_times(claim, truth)
            exact += is_exact(claim, truth)
            unknown += claim["role"] is None
            assert claim["role"] in (None, {"tcp": "connected", "udp": "bound"}[claim["protocol"]])
            assert claim["remote_port"] == (server if claim["protocol"] == "tcp" else None)
            if claim["source"] == "destroy":
                check_unknown(claim)
            else:
                assert claim["pid"] is None or claim["comm"].startswith("python3")
    # On an idle host 98 of 100 are exact: bounds are left where a sweep was running, or the processors were busy.
    assert exact >= 100, exact
    # ... and there the load takes a second or two: where it takes longer, more sweeps see more of it.
    assert sum(c["source"] == "destroy" for c in claims) >= 1500
    # Which side opened a connection is not known where a busy host was late with its own end of it.
    assert unknown <= 20, unknown
    receipt = daemon.rows("history", "-n", "1")[1]
    assert [s["source"] for s in receipt["stretches"]] == ["destroy"]
    assert receipt["lost"] is None and not receipt["complete"] and receipt["gaps"] == []


def ends_of_what_sweeps_know(daemon, actor, count):
    """Of each: its claim, and until when it was there at most."""
    begun = usec()
    udp = actor.do("bound('u', 'udp')")
    at = actor.do("listener('l')")
    tcp = actor.do(f"client('c', {at})")
    actor.do("accept('l', 'a')")
    sync(daemon)
    before = usec()
    actor.do("close('u', 'l')")
    at_once = usec()
    actor.do("close('c')")
    actor.do("over('a')")
    actor.do("close('a')")
    wait_for(lambda: actor.do(f"closing({at}) + closing({tcp})") == 0, "the kernel to be done with them")
    done = usec()
    claims = [c for c in all_told(daemon, count) if c["opened_usec"] >= begun]
    for c in claims:
        assert c["pid"] == actor.pid and c["source"] == "sweep" and c["attribution"] == "procfd"
        assert before - SLACK <= c["closed_usec"], c
    assert {(c["port"], c["role"]) for c in claims} == {(udp, "bound"), (at, "listening"), (tcp, "connected"),
                                                        (at, "accepted")}
    return [(c, at_once if c["role"] in ("bound", "listening") else done) for c in claims]


def test_what_sweeps_know_ends_exactly(daemon, actor):
    """... with its process, and what it became after the last sweep."""
    for attempt in range(3):
        ends = ends_of_what_sweeps_know(daemon, actor, 4 * (attempt + 1))
        assert all(c["closed_after_usec"] is None or c["closed_after_usec"] <= until + LATE for c, until in ends), ends
        if all(c["closed_after_usec"] is not None or c["closed_usec"] <= until + LATE for c, until in ends):
            return
        # a host took the processors before the kernel could say it, of which nothing tells
    pytest.fail("what is called exact is late")


def test_a_remainder_is_not_a_second_claim(daemon, namespace):
    """TIME_WAIT has another cookie than the socket that no sweep saw."""
    made = make(namespace, "at = listener()\nfor i in range(20):\n    tcp(at, until=waits)")
    claims = all_told(daemon, 41)
    for truth in made:
        (claim,) = [c for c in claims if c["port"] == truth["port"]]
        assert claim["role"] == "connected" and claim["released_usec"] is None  # for a minute
        check_times(claim, truth)
    for _ in range(3):
        sync(daemon)
    assert len(all_told(daemon, 41)) == 41


ENDS = {
    "client first": ("c.close(); over(s); s.close()", "connected", "accepted"),
    "server first": ("s.close(); over(c); c.close()", "connected", "accepted"),
    "client aborts": ("c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET); c.close(); over(s); s.close()", "connected",
                      "accepted"),
    "server aborts": ("s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET); s.close(); over(c); c.close()", "connected",
                      "accepted"),
    "data unread by the server": ("c.send(b'x' * 100); s.recv(1, socket.MSG_PEEK); s.close(); over(c); c.close()", "connected",
                                  "accepted"),
    "data unread by the client": ("s.send(b'x' * 100); c.recv(1, socket.MSG_PEEK); c.close(); over(s); s.close()", "connected",
                                  "accepted"),
    "data both ways": ("c.send(b'x' * 100); s.recv(100); s.send(b'y' * 9); c.recv(9); c.close(); over(s); s.close()", "connected",
                       "accepted"),
    "half closed": ("c.shutdown(1); s.recv(1); s.send(b'z' * 100000); c.recv(100000, socket.MSG_WAITALL);"
                    " s.close(); over(c); c.close()", "connected", "accepted"),
    "both shut down": ("c.shutdown(1); s.shutdown(1); over(c); over(s); c.close(); s.close()", "connected", "accepted"),
}
PAIR = """
at = listener()
c = socket.create_connection(at.getsockname())
s, peer = at.accept()
%s
log(client=peer[1], server=at.getsockname()[1])
"""


def told_pair(daemon, namespace, way, listener_known, count):
    """A connection that ends like this: what is told of its client, and the roles of what had the server's port."""
    wait = """
for i in range(200):
    print(at.getsockname()[1], flush=True)
    sys.stdin.readline()
    break
""" if listener_known else ""
    process = subprocess.Popen(
        namespace.enter(sys.executable, "-c", MAKER + PAIR.replace("c = socket", wait + "c = socket", 1) % ENDS[way][0] +
                        "\nprint(json.dumps(made))"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if listener_known:
        process.stdout.readline()
        sync(daemon)
    made = json.loads(process.communicate("\n", timeout=PATIENCE)[0])[0]
    claims = all_told(daemon, count)
    (mine,) = [c for c in claims if c["port"] == made["client"]]
    return mine, sorted((c["role"] for c in claims if c["port"] == made["server"]), key=str)


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("listener_known", (True, False), ids=("known listener", "short listener"))
def test_no_accepted_child_is_a_client(daemon, namespace, way, listener_known):
    """However a connection ends: who took it is never told to have opened it, also where the listener itself was too
    short for a sweep. Then a role that does not show is unknown, not guessed."""
    _, client, server = ENDS[way]
    for attempt in range(3):
        mine, theirs = told_pair(daemon, namespace, way, listener_known, 3 * (attempt + 1))
        if listener_known:
            assert theirs == [server, "listening"]
        else:
            assert "connected" not in theirs and set(theirs) <= {None, "accepted"}, theirs
        if mine["role"] == client:
            return
        # a sweep between the ends of the two: the one of a listener on its port may be owed yet
        assert mine["role"] is None
    pytest.fail("no client is told as one")


def test_what_never_connected(daemon, namespace):
    made = make(namespace, """
s = socket.socket()
s.bind(("127.0.0.1", 0))
log(kind="bound", port=s.getsockname()[1])
s.close()
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
log(kind="listened", port=s.getsockname()[1])
s.close()
s = socket.socket()
s.bind(("127.0.0.1", 0))
log(kind="refused", port=s.getsockname()[1])
try:
    s.connect(("127.0.0.1", 1))
except ConnectionRefusedError:
    pass
s.close()
s = socket.socket(type=socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 9))
log(kind="udp", port=s.getsockname()[1])
s.close()
""")
    claims = {c["port"]: c for c in all_told(daemon, 4)}
    bound, listened, refused, udp = (claims[m["port"]] for m in made)
    # A listener that went looks like a socket that was only bound: neither is guessed.
    assert bound["role"] is None and listened["role"] is None
    assert refused["role"] == "connected" and refused["remote_port"] is None
    assert udp["role"] == "connected" and (udp["remote_address"], udp["remote_port"]) == ("127.0.0.1", 9)
    for c in claims.values():
        check_unknown(c)
    # For people and for scripts alike.
    result = daemon.client("history", made[0]["port"])
    assert result.returncode == 0 and " - " in result.stdout.splitlines()[1], result.stdout
    assert daemon.client("history", "--role", "bound").returncode == 1
    assert daemon.client("history", made[0]["port"], "-F", "role").stdout.strip() in ("", "-")


HELD = """
import json, socket, struct, sys, time
RESET = struct.pack("ii", 1, 0)
def wait(*what):
    print(json.dumps(what), flush=True)
    sys.stdin.readline()
at = socket.create_server(("127.0.0.1", 0))
def pair():
    client = socket.create_connection(at.getsockname())
    return client, at.accept()[0]
def reset(server):
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    server.close()
    return time.time_ns() // 1000
brief, server = pair()
when = reset(server)
known, server = pair()
wait(known.getsockname()[1], at.getsockname()[1])
reset(server)
wait(when)
known.close()
brief.close()
wait(time.time_ns() // 1000)
"""


def test_reset_and_closed_much_later(daemon, namespace):
    """A connection ends, and its port is free, when it is reset; its socket goes when somebody closes it."""
    process = subprocess.Popen(namespace.enter(sys.executable, "-c", HELD), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)

    def told():
        return json.loads(process.stdout.readline())

    def go_on():
        process.stdin.write("\n")
        process.stdin.flush()

    known, server = told()
    sync(daemon)
    go_on()
    (when,) = told()
    time.sleep(0.5)  # so long before the next sweep that the kernel's clock shows it, which goes by 10 ms, and late on a busy host
    for _ in range(4):
        sync(daemon)
    go_on()
    (closed,) = told()
    claims = all_told(daemon, 4, role="listening")
    (first,) = [c for c in claims if c["port"] == known]
    assert first["source"] == "sweep" and first["pid"] is not None and first["role"] == "connected"
    (second,) = [c for c in claims if c["port"] not in (known, server)]
    check_unknown(second)
    assert second["role"] in ("connected", None) and second["remote_port"] == server
    assert second["opened_after_usec"] <= when <= second["opened_usec"]
    assert second["closed_after_usec"] <= when <= second["closed_usec"] < closed
    process.communicate("\n", timeout=PATIENCE)


def notifications_dropped(namespace):
    """By the kernel, of those about sockets, for whoever listens there."""
    table = subprocess.run(namespace.enter("cat", "/proc/net/netlink"), stdout=subprocess.PIPE, text=True, check=True).stdout
    return sum(int(f[8]) for f in map(str.split, table.splitlines()[1:]) if f[1] == "4")


@pytest.mark.long
def test_notifications_that_are_lost_are_a_gap(make_daemon, namespace):
    """Capture does not run while more sockets go than the kernel keeps for it."""
    daemon = make_daemon(options=("--rung", "destroy")).start()
    sync(daemon)
    daemon.process.send_signal(signal.SIGSTOP)
    made = 0
    try:
        # The kernel tells late where the processors are busy: how many it takes is seen, not assumed.
        while notifications_dropped(namespace) == 0 and made < 200_000:
            made += make(namespace, "for i in range(20000):\n    udp(0)\nmade = [len(made)]")[0]
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    claims = history(daemon)
    assert 1000 < len(claims) < made
    _, receipt = daemon.rows("history", "-n", "1")
    (gap,) = receipt["gaps"]
    assert gap["reason"] == "notifications-lost" and gap["lost"] is None
    assert gap["from_usec"] <= min(c["closed_usec"] for c in claims)
    # what the kernel did keep is read after that, which takes a while; it ended before
    assert max(c["closed_after_usec"] for c in claims) <= gap["until_usec"]
    # ... and no more than that: what follows is told again.
    make(namespace, "udp()")
    wait_for(lambda: len(history(daemon)) == len(claims) + 1, "one more claim")
    assert len(daemon.rows("history", "-n", "1")[1]["gaps"]) == 1


def test_a_stopped_daemon_does_not_call_its_times_exact(daemon, namespace):
    """It reads when it runs again what the kernel told meanwhile."""
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        (truth,) = make(namespace, "udp()")
        time.sleep(0.6)
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    (claim,) = all_told(daemon, 1)
    check_times(claim, truth)
    assert claim["closed_after_usec"] is not None
    assert claim["closed_usec"] - claim["closed_after_usec"] >= 500_000


def test_ports_that_are_not_watched_are_not_told(make_daemon, namespace):
    daemon = make_daemon(options=("--rung", "destroy"), config="Ranges=40000-40999 50000-50009\n").start()
    make(namespace, """
for port in (39999, 40000, 40999, 41000, 49999, 50000, 50009, 50010):
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", port))
    s.close()
""")
    assert sorted(c["port"] for c in all_told(daemon, 4)) == [40000, 40999, 50000, 50009]


def test_accepted_no_leaves_out_what_was_accepted(make_daemon, namespace):
    daemon = make_daemon(options=("--rung", "destroy"), config="Accepted=no\n").start()
    made = make(namespace, "at = listener()\ntcp(at)")
    claims = all_told(daemon, 2)
    assert sorted((c["role"] for c in claims), key=str) == [None, "connected"]
    assert [c["port"] for c in claims if c["role"] == "connected"] == [made[0]["port"]]


def test_sweep_alone_when_asked_for(make_daemon, namespace):
    daemon = make_daemon(options=("--rung", "sweep")).start()
    make(namespace, "udp()")
    sync(daemon)
    assert history(daemon) == []
    assert daemon.call("org.portledger.ledger.Status")["rung"] == "sweep"


# The fourth bind(2) of a start is the one that joins the multicast groups.
REFUSED = ("-e", "trace=bind,bpf", "-e", "inject=bind:error=ENOENT:when=4", "-e", "inject=bpf:error=EPERM")
SAID = "does not tell of sockets that it destroys"


def test_a_kernel_that_does_not_tell(make_daemon):
    """The default goes on one rung lower, and one more, and says so; a rung that was asked for fails the start."""
    daemon = make_daemon(rung=None)
    with traced(daemon, *REFUSED):
        assert daemon.call("org.portledger.ledger.Status")["rung"] == "sweep"
        assert SAID in daemon.log.read_text()
    forced = make_daemon(options=("--rung", "destroy"))
    with traced(forced, *REFUSED) as tracer:
        assert tracer.wait(PATIENCE) == 1
    assert forced.log.read_text().count(SAID) == 2 and not forced.answers()
