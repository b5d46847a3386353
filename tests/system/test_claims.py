# SPDX-License-Identifier: MIT
"""Claims of every kind, in a namespace of the test's own, where counts are exact: every one is recorded once, with the
right port, role, endpoints, process, uid and bounds, and none is invented."""
import os
import subprocess
import time

import pytest

from conftest import SWEEPS_SHOW_BOUND_ONLY, wait_for

LATE_USEC = 200_000  # after the kernel's end it is told, on a busy machine so much later


@pytest.fixture
def rung():
    """Who has a socket is read from /proc here."""
    return "destroy"


def usec():
    return time.time_ns() // 1000


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


def open_claims(daemon):
    claims, _ = daemon.rows("now", "--range", "1-65535")
    return claims


def attributed_claims(daemon):
    """Open claims, when somebody was found for each: where a walk over /proc has used up its budget, the next sweep's goes on with it."""
    def look():
        claims = open_claims(daemon)
        return all(c["attribution"] != "none" for c in claims) and claims
    return wait_for(look, "each claim to be attributed")


def one(claims, **want):
    found = [c for c in claims if all(c[k] == v for k, v in want.items())]
    assert len(found) == 1, f"{want}: {found or claims}"
    return found[0]


def sockets(namespace):
    """What the kernel itself has there, but for what only waits."""
    shown = subprocess.run(namespace.enter("ss", "-H", "-n", "-a", "-t", "-u", "-M"), stdout=subprocess.PIPE, text=True, check=True)
    return [line for line in shown.stdout.splitlines() if "TIME-WAIT" not in line]


def expected(actor, **more):
    return {"pid": actor.pid, "uid": 0, "user": "root", "comm": "python3", "attribution": "procfd", "source": "sweep",
            **more}


def make_every_kind(actor):
    """Makes one claim of each kind; returns what is expected of them: a list of dictionaries."""
    claims = []

    def claim(**want):
        claims.append(want)

    def pair(kind, family, name, address=None, peer=None):
        loopback = {"4": "127.0.0.1", "6": "::1"}[family]
        ip = {"4": "ipv4", "6": "ipv6"}[family]
        at = actor.do(f"listener('{name}-l', '{kind}', '{family}', {address!r})")
        client = actor.do(f"client('{name}-c', {at}, '{kind}', {(peer and '4' or family)!r}, {peer!r})")
        actor.do(f"accept('{name}-l', '{name}-a')")
        local = peer or loopback
        claim(port=at, protocol=kind, role="listening", family=ip, local_address=address or loopback,
              remote_address=None, remote_port=None)
        seen = "ipv4" if peer else ip
        claim(port=client, protocol=kind, role="connected", family=seen, local_address=local, remote_address=local,
              remote_port=at)
        claim(port=at, protocol=kind, role="accepted", family=seen, local_address=local, remote_address=local,
              remote_port=client)

    pair("tcp", "4", "tcp4")
    pair("tcp", "6", "tcp6")
    pair("tcp", "6", "dual", address="::", peer="127.0.0.1")
    pair("mptcp", "4", "mptcp4")
    for kind in ("udp", "udplite"):
        for family, ip, loopback in (("4", "ipv4", "127.0.0.1"), ("6", "ipv6", "::1")):
            name = f"{kind}{family}"
            at = actor.do(f"bound('{name}-b', '{kind}', '{family}')")
            claim(port=at, protocol=kind, role="bound", family=ip, local_address=loopback, remote_address=None)
            client = actor.do(f"client('{name}-c', {at}, '{kind}', '{family}')")
            claim(port=client, protocol=kind, role="connected", family=ip, local_address=loopback,
                  remote_address=loopback, remote_port=at)
            actor.do(f"make('{name}-s', '{kind}', '{family}')")
            sender = actor.do(f"send('{name}-s', '{loopback}', {at})")
            claim(port=sender, protocol=kind, role="bound", family=ip, remote_address=None)
    if SWEEPS_SHOW_BOUND_ONLY:
        at = actor.do("bound('only', 'tcp')")
        claim(port=at, protocol="tcp", role="bound", family="ipv4", local_address="127.0.0.1", remote_address=None)
    return claims


@pytest.mark.parametrize("rung", ("destroy", "sweep"))
def test_every_kind_once(make_daemon, actor, rung):
    daemon = make_daemon(options=("--rung", rung)).start()
    sync(daemon)
    before = usec()
    wanted = make_every_kind(actor)
    made = usec()
    claims = attributed_claims(daemon)
    assert len(claims) == len(wanted), [(c["port"], c["protocol"], c["role"]) for c in claims]
    for want in wanted:
        c = one(claims, **want)
        one([c], **expected(actor, parent_pid=os.getpid(), closed_usec=None, released_usec=None, holders=[]))
        assert c["exe"].split("/")[-1].startswith("python3")
        assert c["netns"] == daemon.namespace.inode()
        assert c["opened_after_usec"] <= made and before <= c["opened_usec"] <= usec()
        assert c["opened_after_usec"] <= c["opened_usec"]
    # The second sweep finds the same, and the same once.
    sync(daemon)
    assert [(c["port"], c["role"], c["opened_usec"]) for c in open_claims(daemon)] == \
        [(c["port"], c["role"], c["opened_usec"]) for c in claims]
    closing = usec()
    actor.do("close_all()")
    wait_for(lambda: sockets(daemon.namespace) == [], "the kernel to let go of them, of MPTCP's in a thread of its own")
    closed = usec()
    wait_for(lambda: all(c["closed_usec"] for c in open_claims(daemon)), "all to be closed")
    # What is left is TIME_WAIT: closed, not yet released.
    for c in open_claims(daemon):
        assert c["closed_usec"] is not None and c["protocol"] in ("tcp", "mptcp"), c
        assert c["pid"] == actor.pid
    claims, receipt = daemon.rows("history", "--range", "1-65535", "-S", f"@{before / 1e6:.6f}")
    assert len(claims) == len(wanted)
    for want in wanted:
        c = one(claims, **want)
        one([c], **expected(actor))
        # The kernel tells of these when they go, to the moment; of the others sweeps know bounds.
        if rung == "destroy" and c["protocol"] in ("tcp", "udp"):
            assert closing - 1000 <= c["closed_usec"] and (c["closed_after_usec"] or c["closed_usec"]) <= closed + LATE_USEC, c
        else:
            assert c["closed_after_usec"] <= closed + LATE_USEC and closing <= c["closed_usec"] <= usec(), c
        assert c["released_usec"] is None or c["released_usec"] >= c["closed_usec"]
    assert not receipt["complete"] and receipt["lost"] is None
    assert [s["source"] for s in receipt["stretches"]] == [rung]


def test_other_users(daemon, make_actor):
    actor = make_actor(prefix=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"))
    port = actor.do("listener('l')")
    c = one(attributed_claims(daemon), port=port)
    one([c], pid=actor.pid, uid=65534, user="nobody", role="listening")


def test_inherited_and_passed(daemon, make_actor, directory):
    opener, other = make_actor(), make_actor()
    port = opener.do("listener('l')")
    child = opener.do("fork()")
    path = str(directory / "rendezvous")
    other.process.stdin.write(f"take_from({path!r}, 'passed')\n")
    other.process.stdin.flush()
    wait_for(lambda: os.path.exists(path), "the rendezvous")
    opener.do(f"pass_to('l', {path!r})")
    other.process.stdout.readline()
    c = one(attributed_claims(daemon), port=port)
    assert c["pid"] == opener.pid
    assert {h["pid"] for h in c["holders"]} == {child, other.pid}
    assert all(h["from_usec"] and h["until_usec"] is None and h["comm"] == "python3" for h in c["holders"])
    opener.do(f"reap({child})")


def test_time_wait_keeps_its_opener(daemon, actor):
    at = actor.do("listener('l')")
    port = actor.do(f"client('c', {at})")
    actor.do("accept('l', 'a')")
    opened = one(attributed_claims(daemon), port=port)
    actor.do("close('c')")
    actor.do("close('a')")
    actor.close()
    wait_for(lambda: one(open_claims(daemon), port=port)["closed_usec"], "TIME_WAIT")
    c = one(open_claims(daemon), port=port)
    one([c], pid=actor.pid, opened_usec=opened["opened_usec"], role="connected", attribution="procfd", released_usec=None)


def test_thread_with_its_own_table(daemon, actor):
    port = actor.do("thread_with_own_table()")
    one(attributed_claims(daemon), **expected(actor, port=port, role="listening"))


def test_zombie_leader(daemon, actor):
    actor.do("listener('l')")
    port = actor.do("leave_leader('l')")
    one(attributed_claims(daemon), port=port, pid=actor.pid, role="listening", uid=0, attribution="procfd")


def test_accepted_can_be_left_out(make_daemon, actor):
    daemon = make_daemon(config="Accepted=no\n").start()
    at = actor.do("listener('l')")
    client = actor.do(f"client('c', {at})")
    actor.do("accept('l', 'a')")
    claims = open_claims(daemon)
    assert sorted((c["port"], c["role"]) for c in claims) == sorted([(at, "listening"), (client, "connected")])


@pytest.mark.parametrize("ranges,inside,outside", [
    ("60000-60010", [60000, 60010], [59999, 60011]),
    ("iana", [49152, 65535], [49151]),
    ("60000-60001 60005-60006", [60000, 60001, 60005, 60006], [60002, 60004, 60007]),
])
def test_ranges(make_daemon, actor, ranges, inside, outside):
    daemon = make_daemon(config=f"Ranges={ranges}\n").start()
    for port in inside + outside:
        actor.do(f"bound('t{port}', 'tcp', '4', {port})")
        actor.do(f"bound('u{port}', 'udp', '4', {port})")
        actor.do(f"listen('t{port}')")
    claims = open_claims(daemon)
    assert sorted((c["port"], c["protocol"]) for c in claims) == \
        sorted((p, k) for p in inside for k in ("tcp", "udp"))


def test_kernel_range_is_read_again(make_daemon, actor, namespace):
    daemon = make_daemon(config="Ranges=kernel\n").start()
    actor.do("bound('a', 'udp', '4', 20001)")
    assert open_claims(daemon) == []
    actor.do("open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('20000 20010')")
    c = one(open_claims(daemon), port=20001)
    assert c["opened_usec"] and daemon.call("org.portledger.ledger.Status")["ephemeral"] == {"low": 20000, "high": 20010}


def test_udp_socket_with_two_tenures(daemon, actor):
    """A connected UDP socket that is disconnected gets another port: two claims of one cookie."""
    at = actor.do("bound('server', 'udp')")
    first = actor.do(f"client('c', {at}, 'udp')")
    one(open_claims(daemon), port=first)
    second = first
    while second == first:  # which the kernel may give again, and nobody looks meanwhile
        # connect(AF_UNSPEC) unbinds a socket that the kernel bound
        actor.do("system()[1].connect(kept['c'].fileno(), bytes(16), 16)")
        second = actor.do(f"connect('c', '127.0.0.1', {at})")
    claims = open_claims(daemon)
    assert {c["port"] for c in claims} == {at, second}
    history, _ = daemon.rows("history", first)
    assert len(history) == 1 and history[0]["closed_usec"] is not None


def test_later_holders_are_seen_with_the_next_new_socket(daemon, actor):
    """A server forks its workers after it listens: they are told when /proc is walked anyway."""
    port = actor.do("listener('l')")
    assert one(open_claims(daemon), port=port)["holders"] == []
    child = actor.do("fork()")
    actor.do("bound('u', 'udp')")
    c = one(open_claims(daemon), port=port)
    assert c["pid"] == actor.pid and [h["pid"] for h in c["holders"]] == [child]
    assert c["holders"][0]["from_usec"] > c["opened_usec"]
    actor.do(f"reap({child})")
    actor.do("bound('v', 'udp')")
    c = one(open_claims(daemon), port=port)
    assert c["pid"] == actor.pid and [h["until_usec"] is not None for h in c["holders"]] == [True]


def test_not_yet_accepted(daemon, actor):
    """A connection in the backlog belongs to nobody yet: it is placed by its cgroup, and gets its holder when accepted."""
    at = actor.do("listener('l')")
    client = actor.do(f"client('c', {at})")
    # the last packet of its three is the kernel's business
    wait_for(lambda: [c for c in open_claims(daemon) if (c["port"], c["remote_port"]) == (at, client)], "it to be a connection")
    waiting = one(open_claims(daemon), port=at, remote_port=client)
    one([waiting], role="accepted", pid=None, attribution="cgroup", closed_usec=None)
    assert waiting["cgroup"]
    actor.do("accept('l', 'a')")
    one(open_claims(daemon), port=at, remote_port=client, role="accepted", pid=actor.pid, attribution="procfd",
        opened_usec=waiting["opened_usec"])
