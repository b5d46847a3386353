#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds a database against what was really claimed (churn.c says): each claim there once, with the right process, and nothing
else; or so many missing as the ledger says are lost.

    oracle.py portledger.db TRUTH...      prints what differs; exit status 1 if anything does

How one claim is known from another: by namespace, protocol, port and time. Processes are compared, never used to find."""
import collections
import json
import pathlib
import sqlite3
import statistics
import sys

USEC = 1000  # ns
# A database has whole microseconds, and of the clocks' distance only what was read of both, one after the other.
SLACK = 1_000 * USEC
# The kernel ends a TCP connection when it has the other side's word, which may be after close(2).
LATE = 10_000_000 * USEC
CONNECTED = {"tcp4", "tcp6", "nonblock", "rst", "mptcp", "exec"}


class Truth:
    """One run of churn."""

    def __init__(self, text):
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        self.run, self.claims = lines[0], lines[1:]
        self.certain = [c for c in self.claims if c["certain"]]
        self.offset = self.run["wall_ns"] - self.run["boot_ns"]
        for c in self.claims:
            c["netns"] = self.run["netns"]
            c["tick_ns"] = self.run["tick_ns"]
            for name in ("open_before", "open_after", "close_before", "close_after"):
                c[name] = c[name] + self.offset if c[name] else None

    def is_of(self, row):
        """Was it opened while this ran? The inode of a namespace that is gone is another's soon."""
        opened = row["opened_usec"] * USEC - self.offset
        return row["netns"] == self.run["netns"] and self.run["begin_ns"] - SLACK <= opened <= self.run["boot_ns"]

    def was_gone_before(self, row):
        """Of a namespace that had the inode before this one, and ended before anything ran here."""
        closed = row["closed_usec"]
        return (row["netns"] == self.run["netns"] and closed is not None and
                closed * USEC - self.offset < self.run["begin_ns"] - SLACK)

    def lifetimes(self):
        """In µs, of those that were not killed: how long a port was claimed at most."""
        return [(c["close_after"] - c["open_before"]) / USEC for c in self.certain if not c["killed"]]


def claims_of(database, netns):
    """The view `claims` of these namespaces, with what it does not show: when the process started."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        db.row_factory = sqlite3.Row
        (view,), = db.execute("SELECT sql FROM sqlite_schema WHERE name='claims'").fetchall()
        view = view[view.index("SELECT"):].replace("SELECT ", "SELECT p.start_boot_usec AS start_boot_usec, ", 1)
        marks = ",".join("?" * len(netns))
        return [dict(row) for row in db.execute(f"SELECT * FROM ({view}) WHERE netns IN ({marks})", sorted(netns))]
    finally:
        db.close()


def overlaps(truth, row):
    """Can the row be this claim, as far as their times say?"""
    earliest = row["opened_usec"] if row["opened_after_usec"] is None else row["opened_after_usec"]
    if truth["close_after"] and earliest * USEC > truth["close_after"] + SLACK:
        return False
    return row["closed_usec"] is None or truth["open_before"] - SLACK <= row["closed_usec"] * USEC


def is_of_another(truth, row):
    """Where many claims are missing, a row on the same port is easily another's."""
    return row["remote_port"] != truth["remote_port"] or row["pid"] not in (None, truth["pid"])


def differences(truth, row, expected, lossy):
    """What is wrong with the row; `expected` has what is so for all of them, as "source"."""
    wrong = []
    # whoever looked was killed: the row says so, and when the claim was there for the last time
    end_unseen = lossy and row["closed_usec"] is not None and row["closed_usec"] == row["closed_after_usec"]
    if row["role"] is None and row["attribution"] == "iter":
        truth = {**truth, "role": None}  # a connection that was there before: which side opened it does not show
    if lossy and truth["kind"] == "listen-bind" and row["role"] == "bound":
        truth = {**truth, "role": "bound"}  # of its two calls the second was not told
    if lossy and row["attribution"] in ("none", "cgroup", "uid") and row["pid"] is None:
        # when it was opened there was no room, for who did either: its end has told of it, or a sweep whose it was
        uid = None if row["attribution"] == "none" else truth["uid"]
        truth = {**truth, "pid": None, "uid": uid, "comm": None, "exe": None, "start_ticks": None}

    def check(name, is_right):
        if not is_right:
            wrong.append(name)

    for name in ("pid", "uid", "comm", "exe", "role", "local_address", "remote_address", "remote_port"):
        check(name, row[name] == truth[name])
    for name, value in expected.items():
        check(name, row[name] == value)
    check("family", row["family"] == ("ipv6" if ":" in truth["local_address"] else "ipv4"))
    tick = truth["tick_ns"]
    start = row["start_boot_usec"]
    check("start", (None if start is None else start * USEC // tick) == truth["start_ticks"])
    check("holders", row["holders"] == "[]")
    if row["opened_after_usec"] is None:
        check("opened", truth["open_before"] - SLACK <= row["opened_usec"] * USEC <= truth["open_after"] + SLACK)
    else:
        check("opened", row["opened_after_usec"] * USEC <= truth["open_after"] + SLACK and
              truth["open_before"] - SLACK <= row["opened_usec"] * USEC)
    if row["closed_usec"] is None:
        wrong.append("closed")
    else:
        earliest = truth["open_before"] if end_unseen else truth["close_before"] or truth["open_after"]
        check("closed", earliest - SLACK <= row["closed_usec"] * USEC)
        until = row["closed_usec"] if row["closed_after_usec"] is None else row["closed_after_usec"]
        late = LATE if truth["kind"] in CONNECTED else SLACK
        check("closed", until * USEC <= truth["close_after"] + late)
    return wrong


class Comparison:
    """made: claims that were certainly made. recorded: of those, found. unattributed: of those, without a process. missing: the others. invented: rows that are nobody's.
    wrong: (claim, row, names of what differs)."""

    def __init__(self, truths, rows, lossy=False, **expected):
        self.lossy = lossy  # some calls were not told
        self.missing, self.invented, self.wrong = [], [], []
        self.made = sum(len(t.certain) for t in truths)
        self.recorded = self.unattributed = 0
        claims, found = collections.defaultdict(list), collections.defaultdict(list)
        for claim in (c for t in truths for c in t.certain):
            claims[claim["netns"], claim["protocol"], claim["local_port"]].append(claim)
        for row in rows:
            found[row["netns"], row["protocol"], row["port"]].append(row)
        for key in claims.keys() | found.keys():
            self.match(sorted(claims[key], key=lambda c: c["open_before"]),
                       sorted(found[key], key=lambda r: (r["opened_usec"], r["closed_usec"] or 1 << 62)), expected)
        self.forgive_doubtful([c for t in truths for c in t.claims if not c["certain"]])

    def match(self, claims, rows, expected):
        """Of one port, both in the order of time: for each claim the best of the rows that can be it."""
        for claim in claims:
            able = [row for row in rows if overlaps(claim, row) and not (self.lossy and is_of_another(claim, row))]
            if not able:
                self.missing.append(claim)
                continue
            # one process may have several of one port at once, each to another place, and a sweep finds them in any order
            row = min(able, key=lambda r: (r["pid"] != claim["pid"], r["remote_port"] != claim["remote_port"],
                                           abs(r["opened_usec"] * USEC - claim["open_before"])))
            rows.remove(row)
            self.recorded += 1
            self.unattributed += row["pid"] is None
            wrong = differences(claim, row, expected, self.lossy)
            if wrong:
                self.wrong.append((claim, row, wrong))
        self.invented += rows

    def forgive_doubtful(self, doubtful):
        """A process that died in the very call may have claimed: one row of its own is no invention."""
        for claim in doubtful:
            for row in self.invented:
                if (row["netns"], row["protocol"], row["pid"]) == (claim["netns"], claim["protocol"], claim["pid"]):
                    self.invented.remove(row)
                    break

    def is_exact(self):
        return not self.missing and not self.invented and not self.wrong

    def by_kind(self):
        """Per kind: how many are missing, and what is wrong how often."""
        kinds = collections.defaultdict(collections.Counter)
        for claim in self.missing:
            kinds[claim["kind"]]["missing"] += 1
        for claim, _, names in self.wrong:
            kinds[claim["kind"]].update(names)
        return {kind: dict(counts) for kind, counts in sorted(kinds.items())}

    def __str__(self):
        text = [f"{self.made} made, {self.recorded} recorded, {len(self.missing)} missing, {len(self.wrong)} wrong, "
                f"{len(self.invented)} invented"]
        text += [f"  {kind}: {counts}" for kind, counts in self.by_kind().items()]
        text += [f"missing: {claim}" for claim in self.missing[:2]]
        for claim, row, names in self.wrong[:2]:
            text.append(f"wrong {', '.join(names)}:\n    made     {claim}\n    recorded {row}")
        text += [f"invented: {row}" for row in self.invented[:2]]
        return "\n".join(text)


def rows_of(database, truths):
    """What is recorded of the namespaces in which these ran."""
    first = {}
    for t in sorted(truths, key=lambda t: t.run["begin_ns"]):
        first.setdefault(t.run["netns"], t)
    return [row for row in claims_of(database, set(first)) if not first[row["netns"]].was_gone_before(row)]


def compare(database, truths, lossy=False, **expected):
    return Comparison(truths, rows_of(database, truths), lossy, **expected)


def main():
    truths = [Truth(pathlib.Path(path).read_text(encoding="utf-8")) for path in sys.argv[2:]]
    result = compare(sys.argv[1], truths)
    print(result)
    print(f"lifetimes: median {statistics.median(t for truth in truths for t in truth.lifetimes()):.0f} µs")
    sys.exit(0 if result.is_exact() else 1)


if __name__ == "__main__":
    main()
