# SPDX-License-Identifier: MIT
"""The audit of scripted claims: every figure is the script's, and the same question gives the same bytes."""
import shutil
import sys
import time

import pytest

from conftest import PATIENCE, wait_for


@pytest.fixture
def rung():
    """What may be missing, and who is not known, is a part of an audit on this one."""
    return "destroy"


PATIENCE_USEC = int(PATIENCE * 1e6)


def now():
    return time.time_ns() // 1000


def stamp(usec):
    return f"@{usec / 1e6:.6f}"


@pytest.fixture(name="programs")
def make_programs(directory):
    """Files of their own, so that each is a program: by name."""
    made = {}
    for name in ("alpha", "beta", "gamma"):
        made[name] = directory / name
        shutil.copy(sys.executable, made[name])
    return made


@pytest.fixture(name="script")
def run_script(daemon, make_actor, programs):
    """What three programs did, in a window; the daemon saw each step."""
    alpha, beta, gamma = (make_actor(program=str(programs[n])) for n in ("alpha", "beta", "gamma"))
    old = alpha.do("bound('old', 'udp')")  # there before the window
    daemon.call("org.portledger.ledger.Sync")
    since = now()
    server = beta.do("listener('server')")
    clients = [alpha.do(f"client('c{i}', {server})") for i in range(5)]
    for i in range(5):
        beta.do(f"accept('server', 'a{i}')")
    datagrams = alpha.do("[bound(f'u{i}', 'udp', '6') for i in range(7)]")
    gamma.do("bound('t', 'tcp')")  # bound only
    daemon.call("org.portledger.ledger.Sync")
    gone = gamma.do("listener('gone')")
    daemon.call("org.portledger.ledger.Sync")
    gamma.do("close('gone')")
    for _ in range(3):  # a claim is released after two whole sweeps without it
        daemon.call("org.portledger.ledger.Sync")
    # a port of TCP, of UDP over IPv4 and of UDP over IPv6 can be the same number
    return {"since": since, "until": now(), "server": server, "gone": gone, "clients": clients, "old": old,
            "numbers": {*clients, *datagrams, old}, "datagrams": [*datagrams, old],
            "exe": {n: str(p) for n, p in programs.items()}, "alpha": alpha}


def rows_of(daemon, script, *arguments):
    question = ("audit", "-S", stamp(script["since"]), "-U", stamp(script["until"]), *arguments)
    rows, receipt = daemon.rows(*question)
    return rows, receipt


def test_counts_are_the_scripts(daemon, script):
    rows, receipt = rows_of(daemon, script)
    by = {r["exe"]: r for r in rows}
    names = ("claims", "ports", "remotes", "connected", "listening", "bound", "accepted", "failures")
    figures = {n: tuple(by[script["exe"][n]][k] for k in names) for n in ("alpha", "beta", "gamma")}
    # five clients, seven and one UDP sockets; a server and what it took, on one port; one bound only, one server
    assert figures == {"alpha": (13, len(script["numbers"]), 1, 5, 0, 8, 0, None), "beta": (6, 1, 1, 0, 1, 0, 5, None),
                       "gamma": (2, 2, 0, 0, 1, 1, 0, None)}
    assert len(rows) == 3 and [r["exe"] for r in rows] == [script["exe"][n] for n in ("alpha", "beta", "gamma")]
    assert receipt["complete"] is False and receipt["stretches"]
    # alpha was seen before the window; the others are new in it
    assert [r["new"] for r in rows] == [False, True, True]
    # all were opened in it but the old one
    assert [sum(s["claims"] for s in r["slots"]) for r in rows] == [12, 6, 2]
    assert all(s["until_usec"] - s["from_usec"] == 3_600_000_000 and s["from_usec"] % 3_600_000_000 == 0
               for r in rows for s in r["slots"])
    assert rows[2]["shortest_usec"] <= rows[2]["longest_usec"] <= script["until"] - script["since"]
    assert rows[0]["shortest_usec"] is None  # none was closed


def test_the_same_question_gives_the_same_bytes(daemon, script):
    question = ("audit", "-S", stamp(script["since"]), "-U", stamp(script["until"]))
    for mode in ((), ("--json=short",), ("--json=pretty",), ("--csv",), ("--by=port",), ("--by=netns",)):
        first = daemon.client(*question, *mode)
        assert first.returncode == 0, first.stderr
        script["alpha"].do("bound(f'later {len(kept)}', 'udp')")
        daemon.call("org.portledger.ledger.Sync")
        assert daemon.client(*question, *mode).stdout == first.stdout


def test_by(daemon, script, namespace):
    ports, _ = rows_of(daemon, script, "--by=port")
    by = {(r["port"], r["protocol"]): r["claims"] for r in ports}
    assert by[script["server"], "tcp"] == 6 and by[script["gone"], "tcp"] == 1
    assert by[script["old"], "udp"] == script["datagrams"].count(script["old"])
    assert len(by) == 5 + len(set(script["datagrams"])) + 1 + 2 and ports[0]["port"] == script["server"]
    assert all(r["exe"] is r["comm"] is r["unit"] is r["uid"] is None for r in ports)
    netns, _ = rows_of(daemon, script, "--by=netns")
    assert [(r["netns"], r["claims"]) for r in netns] == [(namespace.inode(), 21)]
    users, _ = rows_of(daemon, script, "--by=user")
    assert [(r["uid"], r["user"], r["claims"]) for r in users] == [(0, "root", 21)]
    hours, _ = rows_of(daemon, script, "--by=hour")
    assert sum(r["claims"] for r in hours) == 21
    assert [r["claims"] for r in hours if r["hour_usec"] is None] == [1]
    units, _ = rows_of(daemon, script, "--by=unit")
    assert sum(r["claims"] for r in units) == 21


def test_servers_that_came_and_went(daemon, script):
    text = daemon.client("audit", "-S", stamp(script["since"]), "-U", stamp(script["until"])).stdout
    assert "2 servers came or went:" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert ": came " in lines[f"{script['server']}/tcp"] and "went" not in lines[f"{script['server']}/tcp"]
    assert ", went " in lines[f"{script['gone']}/tcp"] and "beta" in lines[f"{script['server']}/tcp"]


def test_diff(daemon, script):
    """Against the time before: beta and gamma are new, alpha is in both; then nothing of it goes on."""
    since, until = script["since"], script["until"]
    question = ("audit", "-S", stamp(since), "-U", stamp(until), "--diff", stamp(2 * since - until))
    result = daemon.client(*question)
    # the daemon was not there that long, but a part of the time it was
    assert result.returncode in (0, 1), result.stderr
    rows, _ = daemon.rows("audit", "-S", stamp(since), "-U", stamp(until), "--diff", stamp(since - 1000))
    changes = {r["exe"]: r["change"] for r in rows}
    assert script["exe"]["alpha"] not in changes  # its old socket was open then
    blind = daemon.client("audit", "-S", stamp(since), "-U", stamp(until), "--diff", "yesterday")
    assert blind.returncode == 1 and "nobody was watching the other time" in blind.stdout
    assert daemon.client("audit", "-S", stamp(since), "-U", stamp(until), "--diff", "yesterday", "--strict").returncode == 6


def test_nothing_and_not_watching(daemon, script):
    nothing = daemon.client("audit", "-S", stamp(script["since"]), "-U", stamp(script["until"]), "--app", "no-such")
    blind = daemon.client("audit", "-S", "2001-01-01", "-U", "2001-01-02")
    assert (nothing.returncode, blind.returncode) == (1, 1)
    assert "No claim matched" in nothing.stdout and "nobody was watching" in blind.stdout


def test_a_short_life_has_a_reason(make_daemon, make_actor):
    """A claim that no sweep saw: its end was told, so it is counted, without a process and with the reason."""
    daemon = make_daemon(options=("--rung", "destroy")).start()
    since = now()
    port = make_actor().do("bound('u', 'udp')")
    actor = make_actor()
    short = actor.do("bound('s', 'udp')")
    actor.do("close('s')")
    audit = {}

    def told():
        audit.update(daemon.call("org.portledger.ledger.Audit", {"since_usec": since, "until_usec": now() + PATIENCE_USEC}))
        return audit["claims"] == 2

    wait_for(told, f"{port} and {short} to be counted")
    assert audit["unattributed"] == 1 and audit["reasons"] == {"end-only": 1}





def test_a_time_that_is_still_to_come_is_no_life(daemon, actor):
    """A client whose clock is ahead, or who asks until tomorrow: what is open has lived until now."""
    actor.do("listener('l')")
    now = time.time() * 1e6
    ahead = {"since_usec": int(now - 3600e6), "until_usec": int(now + 86400e6)}
    program = daemon.call("org.portledger.ledger.Audit", ahead)["programs"][0]
    app = daemon.call("org.portledger.ledger.Apps", ahead)["apps"][0]
    later = time.time() * 1e6
    assert program["longest_usec"] <= later - now + 1e6 and program["last_usec"] <= later
    assert app["claims"] == 1 and app["last_usec"] <= later
    without = daemon.call("org.portledger.ledger.Apps", {"until_usec": ahead["until_usec"]})  # the last day is that until now
    assert without["apps"][0]["new"] and without["coverage"]["from_usec"] <= now
