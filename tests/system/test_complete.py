# SPDX-License-Identifier: MIT
"""Nothing escapes: what a load of short processes has claimed (tests/support/churn.c) is held against the ledger, claim by claim
(tests/support/oracle.py)."""
import contextlib
import copy
import subprocess

import pytest

import oracle
from conftest import PATIENCE, SUPPORT

CHURN = SUPPORT / "churn"
UIDS = "0,1,1000,65534"
# What a sweep finds of a claim, however long it lives, is not its end as it happened.
HELD_KINDS = "tcp4,tcp6,nonblock,rst,listen-bind,listen,bound,udp-send,udp-connect,udp-bind,mapped,udplite,mptcp,exec"


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
    for _ in range(3):
        sync(daemon)
    result = oracle.compare(daemon.database, truths, source=source, attribution="procfd")
    assert result.made == 600 and result.is_exact(), str(result)


def test_the_comparison_finds_what_is_planted(make_daemon, namespace, directory):
    daemon = make_daemon(options=("--rung", "sweep")).start()
    with held(namespace, directory, "--count", 60, "--kinds", HELD_KINDS) as truths:
        sync(daemon)
    for _ in range(3):
        sync(daemon)
    rows = oracle.claims_of(daemon.database, {truths[0].run["netns"]})
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
