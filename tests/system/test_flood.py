# SPDX-License-Identifier: MIT
"""A flood must not evict evidence: tens of thousands of like claims of an unprivileged user become few rows, every answer counts them exactly
and says that they are told together, and what others did is there as it was."""
import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
import time

import pytest

from conftest import CLIENT, PATIENCE, wait_for

MADE, FEWER = 50_000, 25_000  # a segment is sealed at 16,384
UID = 65534
CONFIG = "[Store]\nCoalesceAbove=200\n"

# Prints each port and when it had it, in microseconds.
FLOOD = """
import os, socket, sys, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
out = []
for _ in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("127.0.0.1", 9))
    port, at = s.getsockname()[1], time.time_ns() // 1000
    s.close()
    out.append(f"{port} {at}")
print("\\n".join(out))
"""


@pytest.fixture(name="flooded")
def make_flooded(request, make_daemon, make_actor, namespace):
    """The daemon after the flood; where somebody else was before it; and what the flood had."""
    made = getattr(request, "param", MADE)
    daemon = make_daemon(options=("--rung", "events"), config=CONFIG).start()
    daemon.call("org.portledger.ledger.Sync")
    since = time.time_ns() // 1000
    victim = make_actor()
    others = [victim.do(f"bound('v{i}', 'udp')") for i in range(20)]
    victim.do("close(" + ",".join(f"'v{i}'" for i in range(20)) + ")")
    began = time.time_ns() // 1000
    result = subprocess.run(namespace.enter(sys.executable, "-c", FLOOD, str(made)), check=True, stdout=subprocess.PIPE,
                            text=True, timeout=PATIENCE)
    had = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    for _ in range(3):
        daemon.call("org.portledger.ledger.Sync")
    wait_for(lambda: database(daemon, "SELECT count(*) FROM claim_hot")[0][0] < 16384, "what is due to be sealed")
    until = time.time_ns() // 1000
    daemon.call("org.portledger.ledger.Sync")
    return {"daemon": daemon, "others": others, "had": had, "made": made, "since": since, "began": began, "until": until}


def database(daemon, sql):
    connection = sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def stamp(usec):
    return f"@{usec / 1e6:.6f}"


@pytest.mark.parametrize("flooded", (FEWER, pytest.param(MADE, marks=pytest.mark.long)), indirect=True)
def test_a_flood_becomes_few_rows_and_is_counted_exactly(flooded):
    daemon, made = flooded["daemon"], flooded["made"]
    window = ["-S", stamp(flooded["since"]), "-U", stamp(flooded["until"])]
    rows, receipt = daemon.rows("history", *window)
    flood = [row for row in rows if row["uid"] == UID]
    together = [row for row in flood if row["count"] > 1]
    lost = receipt["lost"]

    # made = recorded + lost, whichever way one asks
    assert sum(row["count"] for row in flood) + lost == made
    program = [row for row in daemon.rows("audit", *window)[0] if row.get("uid") == UID]
    assert sum(row["claims"] for row in program) + lost == made
    assert program[0]["ports"] == len({port for port, _ in flooded["had"]}) or lost > 0
    assert daemon.call("org.portledger.ledger.Status")["recorded"] >= made - lost
    assert database(daemon, f"SELECT sum(count) FROM claims WHERE uid={UID}")[0][0] + lost == made

    # few rows: what is left one by one is not sealed yet, and what a second had little of
    assert together and sum(row["count"] for row in together) > made / 2
    assert len(together) < 500
    assert all(row["ports"] == sorted(set(row["ports"])) and row["port"] == row["ports"][0] for row in together)
    assert all(row["closed_usec"] - row["opened_usec"] < 2_000_000 for row in together)
    coalesced, taken = database(daemon, "SELECT sum(n), sum(length(ports)) + 200 * count(*) FROM coalesced")[0]
    assert coalesced == sum(row["count"] for row in together)
    assert taken < coalesced * 45 / 5

    # the receipt says where
    assert sum(stretch["claims"] for stretch in receipt["coalesced"]) == coalesced
    assert sum(stretch["rows"] for stretch in receipt["coalesced"]) == len(together)

    # the others' evidence is whole
    theirs = {row["port"] for row in rows if row["uid"] == 0 and row["count"] == 1}
    assert set(flooded["others"]) <= theirs


@pytest.mark.long
def test_who_had_a_port_in_a_flood_is_said_as_it_is_known(flooded):
    daemon = flooded["daemon"]
    rows, _ = daemon.rows("history", "-S", stamp(flooded["began"]), "-U", stamp(flooded["until"]), "--user", UID)
    together = [row for row in rows if row["count"] > 1]
    known = 0
    for port, at in flooded["had"][:: MADE // 40]:
        # a claim of some microseconds, by the kernel's clock and by ours
        near = ["-S", stamp(at - 1000), "-U", stamp(at + 1000), "--user", UID]
        claims, receipt = daemon.rows("who", port, *near)
        assert claims and all(row["port"] == port for row in claims), (port, at)
        if any(row["count"] > 1 for row in claims):
            row = next(row for row in claims if row["count"] > 1)
            assert port in row["ports"] and row["opened_usec"] - 1000 <= at <= row["released_usec"] + 1000
            assert receipt["coalesced"]
            known += 1
            text = daemon.client("who", port, *near).stdout
            sentence = " ".join(text.split())
            assert re.search(rf"{port}: one of {row['count']:,} claims by python3[^ ]*\[{row['pid']}\] of these ports \(", sentence)
            assert " between " in sentence and "is not kept" in sentence
            assert "like claims are told in" in sentence
    assert known > 10 and together

    # a port's sums count the claims
    port = together[0]["ports"][-1]
    explained = daemon.call("org.portledger.ledger.Explain", {"port": port})
    assert explained["claims_ever"] >= sum(1 for had, _ in flooded["had"] if had == port) - (receipt["lost"] or 0)


@pytest.mark.long
def test_export_and_csv_show_what_is_told_together(flooded):
    daemon = flooded["daemon"]
    window = ["-S", stamp(flooded["began"]), "-U", stamp(flooded["until"])]
    exported = [json.loads(line) for line in daemon.client("export", *window, "--user", UID).stdout.splitlines()]
    exported = [row for row in exported if "port" in row]
    listed = list(csv.DictReader(io.StringIO(daemon.client("history", *window, "--user", UID, "--csv").stdout)))
    assert sum(row["count"] for row in exported) == sum(int(row["count"]) for row in listed)
    together = [row for row in listed if int(row["count"]) > 1]
    assert together and all(len(json.loads(row["ports"])) > 1 for row in together)
    seen = database(daemon, f"SELECT port, opened_usec, count, ports FROM claims WHERE uid={UID} AND count>1 ORDER BY 2, 1")
    assert seen == sorted(((int(row["port"]), int(row["opened_usec"]), int(row["count"]), row["ports"]) for row in together),
                          key=lambda row: (row[1], row[0]))


@pytest.mark.long
def test_annotate_says_that_a_claim_is_one_of_many(flooded):
    daemon = flooded["daemon"]
    lines = [json.dumps({"ts": at / 1e6, "id.orig_h": "127.0.0.1", "id.orig_p": port, "id.resp_h": "127.0.0.1", "id.resp_p": 9,
                         "proto": "udp"}) for port, at in flooded["had"][:: MADE // 40]]
    result = subprocess.run([CLIENT, "--socket", daemon.socket, "annotate", "--fields", "zeek"], input="\n".join(lines), text=True,
                            capture_output=True, timeout=PATIENCE, check=True)
    notes = [json.loads(line)["portledger"]["source"] for line in result.stdout.splitlines()]
    assert all(note["uid"] == UID for note in notes)
    together = [note["count"] for note in notes if "count" in note]
    assert len(together) > 10 and min(together) > 200
