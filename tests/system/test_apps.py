# SPDX-License-Identifier: MIT
"""Programs that are known: since when, as what they ran, and what they did with ports, counted exactly."""
import os
import shutil
import sys
import time

import pytest

from conftest import wait_for

pytestmark = pytest.mark.any_rung

APPS = "org.portledger.ledger.Apps"


def usec():
    return time.time_ns() // 1000


def at(moment):
    return f"@{moment / 1e6:.6f}"


def sync(daemon, times=1):
    for _ in range(times):
        daemon.call("org.portledger.ledger.Sync")


def copied(directory, name):
    """A program of its own: another file."""
    path = directory / name
    shutil.copy(sys.executable, path)
    os.chmod(directory, 0o755)
    return str(path)


def apps(daemon, *options):
    rows, _ = daemon.rows("apps", *options)
    return {os.path.basename(row["name"]): row for row in rows if "name" in row}


def test_programs_are_counted_and_kept_apart(daemon, make_actor, directory):
    server = make_actor()
    beacon = copied(directory, "beacond")
    root = make_actor(program=beacon)
    nobody = make_actor(program=beacon, prefix=("setpriv", "--reuid=65534", "--clear-groups"))
    nobody.do("set_name('6f74686572')")
    port = server.do("listener('l')")
    for i in range(4):
        nobody.do(f"client('c{i}', {port})")
    for _ in range(3):
        root.do("bound('u', 'udp', at=61000)")
        sync(daemon)
        root.do("close('u')")
        sync(daemon, 2)
    root.do("bound('v', 'udp', at=61001)")
    rows = apps(daemon)
    assert set(rows) == {"beacond", os.path.basename(os.path.realpath(sys.executable))}
    b = rows["beacond"]
    assert (b["claims"], b["ports"], b["connected"], b["bound"], b["listening"], b["accepted"]) == (8, 6, 4, 4, 0, 0)
    assert b["preferred"] == [{"port": 61000, "claims": 3}] and b["high"] == 61001 and b["low"] < 61000
    assert (b["uids"], b["comms"], b["units_more"]) == ([0, 65534], ["beacond", "other"], False)
    assert b["new"] and b["file"] and b["last_usec"] > b["first_usec"] and b["last_before_usec"] is None
    s = rows[os.path.basename(os.path.realpath(sys.executable))]
    assert (s["claims"], s["ports"], s["listening"]) == (1, 1, 1)
    # what it listens on is said with the first news of it
    wait_for(lambda: apps(daemon)[os.path.basename(s["name"])]["serves"] == [{"port": port, "protocol": "tcp"}], "the listener to be known")
    # by each of its names, and by a user's claims alone
    for name in (beacon, "beacond", "other"):
        assert [r["name"] for r in daemon.call(APPS, {"name": name})["apps"]] == [beacon], name
    assert daemon.call(APPS, {"name": "beacon"})["apps"] == []
    assert apps(daemon, "--user", "65534")["beacond"]["claims"] == 4


def test_new_is_what_was_first_seen_in_the_window(daemon, make_actor, directory):
    make_actor().do("bound('u', 'udp')")
    sync(daemon)
    moment = usec()
    make_actor(program=copied(directory, "newcomer")).do("bound('u', 'udp')")
    sync(daemon)
    assert set(apps(daemon, "--new")) == {"newcomer", os.path.basename(os.path.realpath(sys.executable))}
    assert set(apps(daemon, "--new", "-S", at(moment))) == {"newcomer"}
    late = usec()
    result = daemon.client("apps", "--new", "-S", at(late))
    assert result.returncode == 1 and "No program was seen for the first time." in result.stdout
    # both have open claims, and so are there in that window, and no news
    assert {name: (r["new"], r["claims"]) for name, r in apps(daemon, "-S", at(late)).items()} == {
        "newcomer": (False, 1), os.path.basename(os.path.realpath(sys.executable)): (False, 1)}


def test_what_is_gone_is_remembered(make_daemon, make_actor, directory):
    daemon = make_daemon().start()
    actor = make_actor(program=copied(directory, "short"))
    actor.do("bound('u', 'udp')")
    sync(daemon)
    seen = usec()
    actor.close()
    sync(daemon, 3)
    gone = usec()
    daemon.stop()
    daemon.start()
    row = apps(daemon, "-S", at(gone))["short"]
    assert (row["claims"], row["last_usec"], row["low"], row["preferred"]) == (0, None, None, [])
    assert row["first_usec"] <= seen <= row["last_before_usec"] <= gone
    whole = apps(daemon)["short"]
    assert seen <= whole["last_usec"] <= gone and whole["claims"] == 1
    text = daemon.client("app", "short")
    assert text.returncode == 0 and "claims   1, on 1 port (" in text.stdout and "short[" in text.stdout


def test_a_profile_and_nobody(daemon, make_actor, directory):
    actor = make_actor(program=copied(directory, "beacond"))
    port = actor.do("bound('u', 'udp')")
    lines = daemon.client("app", "beacond").stdout.splitlines()
    assert lines[0].startswith("program  ") and lines[0].endswith("/beacond")
    assert lines[2] == f"claims   1, on 1 port ({port}-{port}): bound 1" and lines[6] == "users    root"
    assert f" {port}/udp " in "\n".join(lines) and lines[-1].startswith("Coverage: ")
    result = daemon.client("app", "nobody-has-this-name")
    assert result.returncode == 1 and "No program of that name was ever seen." in result.stdout
    assert daemon.client("app", "nobody-has-this-name", "--strict").returncode == 6
    assert daemon.client("apps", "-S", "-2h", "-U", "-1h").stdout.splitlines()[-1].startswith("Coverage: not watching")
    for arguments in (("app",), ("app", "a", "b"), ("apps", "x"), ("app", "x", "--new")):
        assert daemon.client(*arguments).returncode == 2, arguments
