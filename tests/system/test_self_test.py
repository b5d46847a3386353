# SPDX-License-Identifier: MIT
"""doctor --self-test: the measured catch and attribution rate of each rung, and its verdict."""
import grp
import json
import os
import re
import subprocess
import time

import pytest

from conftest import CLIENT, PATIENCE, traced
from fakedaemon import FakeDaemon, claim, coverage, status

KINDS = ["tcp connected", "tcp connected, IPv6", "tcp reset", "tcp listening", "tcp bound", "udp sent", "udp connected",
         "udp bound", "udplite bound", "mptcp connected"]
# What no sweep needs to see: it is in TIME_WAIT for a minute.
REMAINS = {"tcp connected", "tcp connected, IPv6"}


def self_test(daemon, *options, prefix=()):
    """In the namespace that the daemon watches."""
    command = daemon.namespace.enter(*prefix, CLIENT, "--socket", daemon.socket, "doctor", "--self-test", *options)
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False,
                          env={**os.environ, "TZ": "UTC"})


def results(result):
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert set(rows.pop()) == {"coverage"}
    return {row["kind"]: row for row in rows}


def as_promised(row):
    wanted = {"process": ("caught", "attributed"), "claim": ("caught",), None: ()}[row["promised"]]
    return row["wrong"] == 0 and all(row[name] == row["made"] for name in wanted)


@pytest.mark.parametrize("rung", ("sweep", "destroy", "events"))
def test_each_rung_does_what_it_promises(make_daemon, rung):
    daemon = make_daemon(options=("--rung", rung)).start()
    result = self_test(daemon, 50, "--json=short")
    print(rung, result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = results(result)
    assert list(rows) == KINDS
    assert all(row["made"] == 50 and as_promised(row) for row in rows.values()), rows
    promised = {kind: row["promised"] for kind, row in rows.items()}
    if rung == "sweep":
        assert set(promised.values()) == {None}
        # ... and of what is gone in a millisecond, by chance one that a sweep fell on
        assert all(row["caught"] <= 5 for kind, row in rows.items() if kind not in REMAINS | {"mptcp connected"}), rows
    elif rung == "events":
        assert set(promised.values()) == {"process"}
        assert all(row["caught"] == row["attributed"] == 50 for row in rows.values())
    elif rung == "destroy":
        assert {kind for kind, p in promised.items() if p != "claim"} == {"udplite bound", "mptcp connected"}
        assert all(row["attributed"] == 0 for row in rows.values())
    else:
        assert set(promised.values()) == {"process"}


def test_for_people(make_daemon):
    result = self_test(make_daemon(rung="destroy").start())
    assert result.returncode == 0, result.stderr
    assert re.match(r"KIND +MADE +CAUGHT +RATE +PROCESS +RATE +WRONG\ntcp connected +100 +\d+ +\d+ % +0 +0 % +0\n", result.stdout)
    assert "\nBy the rung " in result.stdout and result.stdout.endswith(": as it promises.\n")
    assert result.stdout.count("Coverage: ") == 1


def test_a_member_of_the_group_can(daemon, directory):
    group = grp.getgrnam("adm").gr_gid
    os.chmod(directory, 0o711)
    os.chown(daemon.socket, 0, group)
    os.chmod(daemon.socket, 0o660)
    who = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert self_test(daemon, prefix=who).returncode == 4
    member = ("setpriv", "--reuid=65534", "--regid=65534", f"--groups={group}")
    result = self_test(daemon, 10, "--json=short", prefix=member)
    assert result.returncode == 0 and list(results(result)) == KINDS, result.stderr


def test_a_rung_that_does_less_than_it_promises(make_daemon, namespace):
    """Claims of an other namespace than the one that is watched: none is seen."""
    daemon = make_daemon(options=("--rung", "destroy")).start()
    other = subprocess.run(["unshare", "-n", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh", CLIENT, "--socket", daemon.socket,
                            "doctor", "--self-test", "2"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert other.returncode == 6 and ": less than it promises, unless it watches another network namespace: " in other.stdout, other.stderr
    assert "0 of 20 claims were caught" in other.stdout


def fake_self_test(namespace, directory, answers, *options):
    """Against a daemon that says what it is told to, where the kernel hands out a thousand ports."""
    subprocess.run(namespace.enter("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40999"), check=True)
    with FakeDaemon(directory / "fake", {"Status": status(rung="events"), **answers}) as fake:
        return subprocess.run(namespace.enter(CLIENT, "--socket", fake.path, "doctor", "--self-test", *options),
                              capture_output=True, text=True, timeout=PATIENCE, check=False)


def everywhere(**members):
    """Each port of them has a claim of this kind."""
    now = time.time_ns() // 1000
    same = {"netns": None, "opened_usec": now - 1000, "opened_after_usec": None, "closed_usec": None, "closed_after_usec": None,
            "released_usec": None, **members}
    return {"Claims": {"claims": [claim(port=port, **same) for port in range(40000, 41000)], "cursor": None,
                       "coverage": coverage()}}


def test_another_process_named_is_a_fault(namespace, directory):
    result = fake_self_test(namespace, directory, everywhere(protocol="udp", pid=1), 1)
    # of a thousand ports two may get the same, one after the other, and then the claim that is told is one's
    assert result.returncode == 5 and re.search(r"([23]) of 10 claims were caught, 0 with the process, \1 wrongly: a fault", result.stdout)


def test_without_a_process_where_one_is_promised(namespace, directory):
    result = fake_self_test(namespace, directory, everywhere(protocol="tcp", pid=None), 1)
    assert result.returncode == 6 and re.search("[45] of 10 claims were caught, 0 with the process, 0 wrongly: less", result.stdout)


@pytest.mark.parametrize(("role", "caught"), (("accepted", "0"), ("listening", "1"), ("bound", "[45]")))
def test_our_own_listeners_are_not_what_is_looked_for(namespace, directory, role, caught):
    """... nor what they accept: a port that one of them had can be the next claim's."""
    result = fake_self_test(namespace, directory, everywhere(protocol="tcp", pid=None, role=role), 1)
    assert result.returncode == 6 and re.search(f"{caught} of 10 claims were caught, 0 with the process, 0 wrongly: less", result.stdout)


def test_a_claim_told_twice_is_a_fault(namespace, directory):
    answers = everywhere(protocol="mptcp", pid=None)
    answers["Claims"]["claims"] *= 2
    result = fake_self_test(namespace, directory, answers, 1)
    assert result.returncode == 5 and "1 of 10 claims were caught, 0 with the process, 1 wrongly: a fault" in result.stdout


def test_claims_of_other_times_and_places_are_not_ours(namespace, directory):
    for members in ({"netns": 1}, {"closed_usec": 5, "opened_usec": 5}, {"opened_usec": 2**51}, {"protocol": "udplite"}):
        result = fake_self_test(namespace, directory, everywhere(**{"protocol": "tcp", "pid": 1, **members}), 1)
        assert f"{int('protocol' in members)} of 10 claims were caught" in result.stdout, (members, result)


def test_what_cannot_be_tested(namespace, directory):
    elsewhere = fake_self_test(namespace, directory, {"Status": status(ranges=[{"low": 50000, "high": 50999}])})
    assert elsewhere.returncode == 5 and "are not watched" in elsewhere.stderr
    blind = fake_self_test(namespace, directory, {"Status": status(watching=False)})
    assert blind.returncode == 6 and "does not watch" in blind.stderr
    full = fake_self_test(namespace, directory, {}, 1001)
    assert full.returncode == 2 and "not a number from 1 to 1000: 1001" in full.stderr
    used = fake_self_test(namespace, directory, everywhere(protocol="tcp"), 1000)
    assert used.returncode == 5 and "cannot make claims to test with: Cannot assign requested address" in used.stderr
    there = subprocess.run([CLIENT, "-H", "there", "doctor", "--self-test"], capture_output=True, text=True, check=False)
    assert there.returncode == 2 and "not with --host" in there.stderr
    none = subprocess.run([CLIENT, "--socket", directory / "none", "doctor", "--self-test"], capture_output=True, text=True,
                          check=False)
    assert none.returncode == 3


REFUSED = ("-e", "trace=bpf", "-e", "inject=bpf:error=EPERM")


def test_a_kernel_that_refuses_its_events(make_daemon):
    """It starts one rung lower, says why, and does what that rung promises; a rung that was asked for fails the start."""
    daemon = make_daemon(rung=None)
    with traced(daemon, *REFUSED):
        assert daemon.call("org.portledger.ledger.Status")["rung"] == "destroy"
        assert "no kernel events: bpf(2) is not permitted here; look for a seccomp filter" in daemon.log.read_text()
        result = self_test(daemon, 20, "--json=short")
        assert result.returncode == 0 and {row["promised"] for row in results(result).values()} == {"claim", None}
    forced = make_daemon(options=("--rung", "events"))
    with traced(forced, *REFUSED) as tracer:
        assert tracer.wait(PATIENCE) == 1
    assert not forced.answers()


def test_without_the_capabilities(make_daemon, namespace):
    """The same where root may not load programs."""

    class Bound:
        @staticmethod
        def enter(*command):
            return namespace.enter("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin",
                                   *command)

    daemon = make_daemon(namespace=Bound, rung=None).start()
    assert daemon.call("org.portledger.ledger.Status")["rung"] == "destroy"
    assert "no kernel events: missing capabilities: CAP_BPF CAP_PERFMON; start it as root" in daemon.log.read_text()
    checks = [json.loads(line) for line in daemon.client("doctor", "--json=short").stdout.splitlines()]
    assert {"name": "events", "level": "warning", "text": "none: missing capabilities: CAP_BPF CAP_PERFMON",
            "fix": "start it as root, or with AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN in its unit"} in checks, checks
    daemon.namespace = namespace
    assert self_test(daemon, 20, "--json=short").returncode == 0
