# SPDX-License-Identifier: MIT
"""Nothing escapes: what a load of short processes has claimed (tests/support/churn.c) is held against the ledger, claim by claim
(tests/support/oracle.py)."""
import contextlib
import copy
import os
import signal
import statistics
import subprocess
import time

import pytest

import oracle
from conftest import PATIENCE, SUPPORT, SWEEPS_SHOW_BOUND_ONLY, Namespace, Traced, all_ended, wait_for
from waiting import SLOWNESS

FULL = bool(os.environ.get("PORTLEDGER_FULL"))  # check --full
LOSSY_RATE = 3000 if FULL else 1500  # a second; the small ring has room for half a second of it
EVENTS = ("--rung", "events")
EXACT = {"source": "events", "attribution": "event"}

CHURN = SUPPORT / "churn"
UIDS = "0,1,1000,65534"
# What a sweep finds of a claim, however long it lives, is not its end as it happened.
HELD_KINDS = "tcp4,tcp6,nonblock,rst,listen-bind,listen,udp-send,udp-connect,udp-bind,mapped,udplite,mptcp,exec"
if SWEEPS_SHOW_BOUND_ONLY:
    HELD_KINDS += ",bound"


def churn(namespace, directory, *options, timeout=PATIENCE):
    """Runs the load to its end; what it made."""
    result = subprocess.run(namespace.enter(CHURN, "--exe", directory, *options), stdout=subprocess.PIPE, check=True,
                            text=True, timeout=timeout)
    truth = oracle.Truth(result.stdout)
    assert truth.run["failed"] == 0, truth.run
    return truth


@contextlib.contextmanager
def held(namespace, directory, *options):
    """All claims are open inside; after it, the list has what was made."""
    truths = []
    process = subprocess.Popen(namespace.enter(CHURN, "--exe", directory, "--hold", *options), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield truths
        truths.append(oracle.Truth(process.communicate(timeout=PATIENCE)[0]))
    finally:
        process.kill()
        process.wait()


def sync(daemon):
    return daemon.call("org.portledger.ledger.Sync")


@pytest.mark.parametrize("rung,source", (("sweep", "sweep"), ("destroy", "sweep")))
def test_what_is_held_is_found_by_sweeps(make_daemon, namespace, directory, rung, source):
    """The same comparison on the lower rungs, where claims live long enough."""
    daemon = make_daemon(options=("--rung", rung)).start()
    with held(namespace, directory, "--count", 600, "--kinds", HELD_KINDS, "--uids", UIDS) as truths:
        sync(daemon)
    all_ended(daemon, *truths)
    result = oracle.compare(daemon.database, truths, source=source, attribution="procfd")
    assert result.made == 600 and result.is_exact(), str(result)


def test_the_comparison_finds_what_is_planted(make_daemon, namespace, directory):
    daemon = make_daemon(options=("--rung", "sweep")).start()
    with held(namespace, directory, "--count", 60, "--kinds", HELD_KINDS) as truths:
        sync(daemon)
    all_ended(daemon, *truths)
    rows = oracle.rows_of(daemon.database, truths)
    assert oracle.Comparison(truths, copy.deepcopy(rows)).is_exact()
    changed = {"pid": 1, "uid": 77, "comm": "x", "exe": "/x", "role": "accepted", "local_address": "127.0.0.2",
               "remote_address": "127.0.0.3", "remote_port": 1, "source": "x", "start_boot_usec": 5, "holders": "[1]",
               "family": "x", "opened_usec": rows[7]["opened_usec"] - 3600_000_000,
               "closed_usec": rows[7]["closed_usec"] + 3600_000_000}
    for name, value in changed.items():
        wrong = copy.deepcopy(rows)
        wrong[7][name] = value
        if name == "opened_usec":
            wrong[7]["opened_after_usec"] = None
        if name == "closed_usec":
            wrong[7]["closed_after_usec"] = None
        result = oracle.Comparison(truths, wrong, source="sweep")
        names = [n for _, _, names in result.wrong for n in names]
        assert names == [{"start_boot_usec": "start"}.get(name, name).removesuffix("_usec")], (name, str(result))
    less = oracle.Comparison(truths, copy.deepcopy(rows[1:]))
    assert (less.recorded, len(less.missing), len(less.invented)) == (59, 1, 0)
    twice = oracle.Comparison(truths, copy.deepcopy(rows + rows[:1]))
    assert (twice.recorded, len(twice.missing), len(twice.invented)) == (60, 0, 1)
    moved = copy.deepcopy(rows)
    moved[3]["port"] = 1
    other = oracle.Comparison(truths, moved)
    assert (other.recorded, len(other.missing), len(other.invented)) == (59, 1, 1)


def lost_in_gaps(receipt):
    """Claims, as the gaps say, which are of lost events and of lost ends."""
    assert {"events-lost"} <= {gap["reason"] for gap in receipt["gaps"]} <= {"events-lost", "ends-lost"}, receipt["gaps"]
    return sum(gap["lost"] for gap in receipt["gaps"] if gap["reason"] == "events-lost")


def receipt_of(daemon, *truths):
    """The receipt of the stretch in which these were made."""
    begin = min(c["open_before"] for t in truths for c in t.claims) // 1000
    return daemon.call("org.portledger.ledger.Claims", {"since_usec": begin, "limit": 1})["coverage"]


def check_nothing_lost(daemon, *truths):
    receipt = receipt_of(daemon, *truths)
    assert receipt["gaps"] == [] and receipt["lost"] == 0 and receipt["complete"], receipt
    assert {s["source"] for s in receipt["stretches"]} == {"events"}
    status = daemon.call("org.portledger.ledger.Status")
    assert status["found_only_by_sweep"] == 0 and status["lost"] == 0, status


@pytest.mark.parametrize("run", range(5 if FULL else 1))
def test_nothing_escapes(make_daemon, namespace, directory, run):
    """Claims of 15 kinds, each far shorter than a millisecond, by processes of ten claims; one process of a hundred is killed with
    a claim open."""
    count = int(os.environ.get("PORTLEDGER_CLAIMS", 50_000 if FULL else 5_000))
    daemon = make_daemon(options=EVENTS).start()
    truth = churn(namespace, directory, "--count", count, "--uids", UIDS, "--kill", 1, "--seed", run,
                  "--cookie", "mixed" if run % 2 else "none", timeout=15 * PATIENCE)
    all_ended(daemon, truth)
    result = oracle.compare(daemon.database, [truth], **EXACT)
    assert result.is_exact() and result.made == truth.run["made"] > count * 0.99, str(result)
    assert statistics.median(truth.lifetimes()) < 1000 * SLOWNESS  # µs: the load is what it says it is
    check_nothing_lost(daemon, truth)


def test_udp_that_disconnects(make_daemon, namespace, directory):
    """The port is given back by connect(2) to AF_UNSPEC, and the socket is used again. That is told at once where fexit attaches, as in
    the guest; elsewhere it is seen by what the socket does next."""
    daemon = make_daemon(namespace=Traced(namespace), options=EVENTS, config="UdpConnect=yes\n").start()
    truth = churn(namespace, directory, "--count", 2000, "--kinds", "udp-disconnect,udp-connect,tcp4", "--uids", UIDS)
    all_ended(daemon, truth)
    result = oracle.compare(daemon.database, [truth], **EXACT)
    assert result.is_exact() and result.made == result.recorded == 2000, str(result)
    check_nothing_lost(daemon, truth)


def test_the_end_of_a_port_that_was_given_back_has_bounds(make_daemon, namespace, actor):
    """What the socket does next is later than the end, and the row does not say that it was then."""
    daemon = make_daemon(namespace=Traced(namespace), options=EVENTS, config="UdpConnect=yes\n").start()
    port = actor.do("client('c', 9, 'udp')")
    before = time.time_ns() // 1000
    actor.do("system()[1].connect(kept['c'].fileno(), bytes(16), 16)")
    after = time.time_ns() // 1000
    time.sleep(0.1)
    actor.do("kept.pop('c').close()")
    row, = daemon.rows("history", port)[0]
    assert row["opened_usec"] <= before <= row["closed_usec"]
    assert (row["closed_after_usec"] or row["closed_usec"]) <= after, row


@pytest.mark.parametrize("run", range(20 if FULL else 1))
def test_what_is_lost_is_counted(make_daemon, namespace, directory, run):
    """Capture does not run for two seconds and more, and the ring is far too small for what is claimed meanwhile."""
    daemon = make_daemon(options=(*EVENTS, "--ring-bytes", 65536)).start()
    load = subprocess.Popen(namespace.enter(CHURN, "--exe", directory, "--count", LOSSY_RATE * 3, "--rate", LOSSY_RATE, "--seed", run),
                            stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: daemon.call("org.portledger.ledger.Status")["recorded"] > 500, "the load to be on its way")
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        output = load.communicate(timeout=3 * PATIENCE)[0]
    finally:
        daemon.process.send_signal(signal.SIGCONT)
        load.kill()
        load.wait()
    truths = [oracle.Truth(output), churn(namespace, directory, "--count", 500)]
    assert truths[0].run["failed"] == 0, truths[0].run

    def look():
        """A connection of which nothing was told is known to be lost when it is over, and when that is the kernel decides."""
        for _ in range(2):
            sync(daemon)
        if any(row["closed_usec"] is None for row in oracle.rows_of(daemon.database, truths)):
            return None
        result, receipt = oracle.compare(daemon.database, truths, lossy=True), receipt_of(daemon, *truths)
        lost = lost_in_gaps(receipt)
        print(f"made {result.made} recorded {result.recorded} (unattributed {result.unattributed}) lost {lost}")
        return (result, receipt, lost) if result.made <= result.recorded + lost else None

    result, receipt, lost = wait_for(look, "each claim to be recorded or counted")
    assert result.made == result.recorded + lost and 0 < lost, (str(result), receipt)
    assert len(result.missing) == lost and not result.wrong and not result.invented, str(result)
    assert result.unattributed <= result.made // 100  # what says who it is can be among what is lost
    assert receipt["lost"] == lost and not receipt["complete"]
    assert daemon.call("org.portledger.ledger.Status")["lost"] == lost
    # ... and none that was lost lies outside of the gaps.
    for claim in result.missing:
        assert any(gap["from_usec"] * 1000 <= claim["close_after"] and claim["open_before"] <= gap["until_usec"] * 1000
                   for gap in receipt["gaps"]), claim


SAME_PORT = 61678  # which the kernel does not hand out
BRIEF = f"""
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("127.0.0.1", {SAME_PORT}))
print("bound", flush=True)
sys.stdin.readline()
"""


def test_five_other_namespaces(make_daemon, directory):
    """... one of them gone after some milliseconds, and the same port in two: all there, each with its namespace."""
    daemon = make_daemon(options=(*EVENTS, "--netns", "all")).start()
    namespaces, pair = [Namespace() for _ in range(4)], []
    try:
        loads = [subprocess.Popen(n.enter(CHURN, "--exe", directory, "--count", 400, "--seed", i, "--uids", UIDS),
                                  stdout=subprocess.PIPE, text=True) for i, n in enumerate(namespaces)]
        truths = [oracle.Truth(load.communicate(timeout=PATIENCE)[0]) for load in loads]
        # The fifth lives as long as this takes; its inode may be another's afterwards.
        brief = subprocess.run(["unshare", "-n", "sh", "-c", f"ip link set lo up && exec {CHURN} --exe {directory} --count 20"],
                               stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE)
        truths.append(oracle.Truth(brief.stdout))
        pair += [subprocess.Popen(n.enter("/usr/bin/python3", "-c", BRIEF), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                 for n in namespaces[:2]]
        assert [p.stdout.readline() for p in pair] == ["bound\n"] * 2
        sync(daemon)
        same = daemon.rows("history", SAME_PORT)[0]
        assert all(c["closed_usec"] is None for c in same) and sorted((c["netns"], c["pid"]) for c in same) == sorted(
            (n.inode(), p.pid) for n, p in zip(namespaces, pair)), same
        for p in pair:
            p.communicate("\n", timeout=PATIENCE)
        sync(daemon)
        assert len(daemon.rows("history", SAME_PORT)[0]) == 2

        def look():
            sync(daemon)
            rows = [r for r in oracle.rows_of(daemon.database, truths) if r["port"] != SAME_PORT and (
                r["netns"] != truths[-1].run["netns"] or truths[-1].is_of(r))]
            return rows if all(r["closed_usec"] is not None for r in rows) else None

        result = oracle.Comparison(truths, wait_for(look, "the last connections to be over"), **EXACT)
        assert result.made == 4 * 400 + 20 and result.is_exact(), str(result)
        check_nothing_lost(daemon, *truths)
    finally:
        for p in pair:
            p.kill()
            p.wait()
        for n in namespaces:
            n.close()


def test_open_in_another_namespace_before_the_start(make_daemon, directory):
    """No sweep looks there, and no event tells of it."""
    other = Namespace()
    try:
        kinds = HELD_KINDS.replace(",mptcp", "")  # of which the iterator shows another socket than the one that ends
        with held(other, directory, "--count", 60, "--kinds", kinds) as truths:
            daemon = make_daemon(options=(*EVENTS, "--netns", "all")).start()
            sync(daemon)
        all_ended(daemon, *truths)
        result = oracle.compare(daemon.database, truths, source="sweep", attribution="iter", netns=truths[0].run["netns"])
        assert result.made == 60 and result.is_exact(), str(result)
    finally:
        other.close()


def test_ends_elsewhere_that_found_no_room(make_daemon, namespace, directory):
    """No sweep looks there: a snapshot ends what no process has open any more, within bounds, and nothing else."""
    daemon = make_daemon(options=(*EVENTS, "--netns", "all", "--ring-bytes", 65536)).start()
    stay, go = Namespace(), Namespace()
    try:
        with held(stay, directory, "--count", 60, "--kinds", HELD_KINDS) as staying:
            with held(go, directory, "--count", 60, "--kinds", HELD_KINDS) as gone:
                sync(daemon)
                os.kill(daemon.process.pid, signal.SIGSTOP)
                churn(namespace, directory, "--count", 2000)
            os.kill(daemon.process.pid, signal.SIGCONT)
            for _ in range(3):
                sync(daemon)
            all_ended(daemon, *gone)
            # but UDP connects, of which only the end tells
            kept = sum(c["kind"] != "udp-connect" for c in gone[0].claims)
            assert daemon.call("org.portledger.ledger.Status")["lost_ends"] > kept / 2  # some find a little
            rows = oracle.rows_of(daemon.database, gone)
            bounded = [r for r in rows if r["closed_after_usec"] is not None]
            assert all(r["closed_usec"] is not None for r in rows) and len(bounded) > kept / 2, rows
            begin, end = min(r["opened_usec"] for r in rows) - 1000, time.time() * 1e6  # bounds are kept by the millisecond
            assert all(begin <= r["closed_after_usec"] <= r["closed_usec"] <= end for r in bounded), bounded
        all_ended(daemon, *staying)
        result = oracle.compare(daemon.database, staying, **EXACT)
        assert result.made == 60 and result.is_exact(), str(result)
        assert all(r["closed_after_usec"] is None for r in oracle.rows_of(daemon.database, staying))
    finally:
        stay.close()
        go.close()


def test_only_our_own_namespace_when_asked_for(make_daemon, namespace, directory):
    daemon = make_daemon(options=EVENTS).start()  # with --netns self, see there
    other = Namespace()
    try:
        theirs = churn(other, directory, "--count", 100)
    finally:
        other.close()
    ours = churn(namespace, directory, "--count", 100)
    all_ended(daemon, ours)
    assert oracle.compare(daemon.database, [ours], **EXACT).is_exact()
    assert oracle.claims_of(daemon.database, {theirs.run["netns"]}) == []


def test_sockets_that_no_descriptor_shows(make_daemon, make_actor, directory):
    """Passed on and closed by who opened it, kept by an io_uring alone, on its way in a message: the opener is named, by the
    event, and no sweep takes that back."""
    daemon = make_daemon(options=EVENTS).start()
    opener, taker = make_actor(), make_actor()
    ports = {name: opener.do(f"bound('{name}', 'udp')") for name in ("passed", "ring", "flight")}
    path = directory / "rendezvous"
    taker.process.stdin.write(f"take_from('{path}', 'taken')\n")
    taker.process.stdin.flush()
    wait_for(path.exists, "the taker to wait")
    opener.do(f"pass_to('passed', '{path}')")
    assert taker.process.stdout.readline()
    opener.do("close('passed')")
    opener.do("put_in_ring('ring')")
    opener.do("put_in_flight('flight')")
    for _ in range(3):
        sync(daemon)
    open_claims = {c["port"]: c for c in daemon.rows("now")[0]}
    for name, port in ports.items():
        claim = open_claims[port]
        assert (claim["pid"], claim["attribution"], claim["source"]) == (opener.pid, "event", "events"), (name, claim)
    opener.close()

    def released(name):
        sync(daemon)
        return daemon.rows("history", ports[name])[0][0]["closed_usec"]

    # the kernel lets go of both in threads of its own, when it comes to that
    wait_for(lambda: released("ring") and released("flight"), "the kernel to let go of the ring and of the message")
    claims = {name: daemon.rows("history", port)[0] for name, port in ports.items()}
    assert all(len(c) == 1 and c[0]["pid"] == opener.pid for c in claims.values()), claims
    assert claims["passed"][0]["closed_usec"] is None


def test_one_pid_for_all(make_daemon, namespace, directory):
    """A pid that is used again within the same tick of the clock, several times: each claim has its own process."""
    daemon = make_daemon(options=EVENTS).start()
    gone = subprocess.Popen(["true"])
    gone.wait()
    truth = churn(namespace, directory, "--count", 1500, "--parallel", 1, "--pid", gone.pid, "--uids", UIDS)
    own = [c for c in truth.certain if c["pid"] == gone.pid]
    starts = {(c["start_ticks"], c["comm"]) for c in own}
    assert len({start for start, _ in starts}) < len(starts) == 150  # several in one tick
    all_ended(daemon, truth)
    result = oracle.compare(daemon.database, [truth], **EXACT)
    assert result.made == 1500 and result.is_exact(), str(result)
