# SPDX-License-Identifier: MIT
"""Who asks in another way gets the same answer: the client's JSON, its CSV, the Varlink reply and the database's views agree, field
by field, for every verb. A verb that is new has to come in here."""
import csv
import io
import json
import re
import sqlite3
import subprocess
import time

import pytest

import idl
import test_failures
from conftest import CLIENT, ROOT

pytestmark = pytest.mark.any_rung

INTERFACE = idl.Interface((ROOT / "daemon/control/org.portledger.ledger.varlink").read_text(encoding="utf-8"))
NAME = INTERFACE.name
HOSTILE = b'=1+1,"\xff'

# Those that give no rows of the daemon's, and why.
ELSEWHERE = {
    "annotate": "its own test holds what it adds against the claims that Who gives",
    "report": "a picture; its own test holds its tables against Activity",
    "config": "asks no daemon",
    "help": "asks no daemon",
    "version": "asks no daemon",
}


@pytest.fixture(name="seen")
def make_seen(daemon, make_actor):
    """Some of everything: both families, all roles, a fork, what is gone and what is open. A window and its ports."""
    since = time.time_ns() // 1000
    server, client = make_actor(), make_actor()
    client.do(f"set_name('{HOSTILE.hex()}')")
    ports = []
    for family in ("4", "6"):
        at = server.do(f"listener('l{family}', family='{family}')")
        ports += [at, client.do(f"client('c{family}', {at}, family='{family}')")]
        server.do(f"accept('l{family}', 'a{family}')")
        ports.append(server.do(f"bound('u{family}', 'udp', '{family}')"))
    server.do("fork()")
    gone = [client.do(f"bound('g{i}', 'udp')") for i in range(3)]
    daemon.call(f"{NAME}.Sync")
    client.do("close('g0', 'g1', 'g2')")
    for _ in range(3):
        daemon.call(f"{NAME}.Sync")
    return {"since": since, "until": time.time_ns() // 1000, "port": ports[0], "gone": gone}


def stamp(usec):
    return f"@{usec / 1e6:.6f}"


def questions(seen):
    """By verb: (the client's words, the method, its parameters, the list in its reply, the list in the client's document)."""
    window = ["-S", stamp(seen["since"]), "-U", stamp(seen["until"])]
    asked = {"since_usec": seen["since"], "until_usec": seen["until"]}
    who = {"port": seen["port"], "from_usec": seen["since"], "until_usec": seen["until"], "filter": {"ports": [seen["port"]]}}
    yield "who", [seen["port"], *window], "Who", who, "claims", "claims"
    yield "now", [], "Claims", {"open": True}, "claims", "claims"
    yield "now", ["--role", "bound"], "Claims", {"open": True, "filter": {"role": "bound"}}, "claims", "claims"
    yield "history", window, "Claims", asked, "claims", "claims"
    yield "export", window, "Released", asked, "claims", None
    for by in ("program", "unit", "user", "port", "hour", "netns"):
        yield "audit", [*window, "--by", by], "Audit", {**asked, "by": by}, "programs", "programs"
    yield "listeners", [], "Listeners", {}, "listeners", "listeners"
    span = ["--at", stamp(seen["since"]), "--window", f"{seen['until'] - seen['since']}us"]
    yield "pressure", span, "Pressure", asked, "pressure", "pressure"
    yield "doctor", [], "Doctor", {}, "checks", "checks"
    yield "apps", window, "Apps", asked, "apps", "apps"
    yield "app", ["python3", *window], "Apps", {**asked, "name": "python3"}, "apps", "apps"


def known(row):
    """A row without what only the client knows: the names of users."""
    if isinstance(row, list):
        return [known(inner) for inner in row]
    if isinstance(row, dict):
        moving = "fix" in row  # the doctor's figures are of the moment
        return {k: None if k == "user" else known(re.sub(r"\d+", "#", v) if moving and v else v) for k, v in row.items()}
    return row


def cell(value):
    """A value as CSV has it; a leading = of a name is escaped there, since a spreadsheet would run it."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r"^[=+@-]", lambda m: f"\\x{ord(m.group()):02x}", text)


def same_order(given, declared):
    return list(given) == [name for name in declared if name in given]


def type_of(method, key):
    """The declared type of the rows in a reply's list."""
    t = INTERFACE.methods[method][1][key]
    while isinstance(t, tuple):
        t = t[1]
    return t


def test_every_verb_is_here(seen):
    told = subprocess.run([CLIENT, "help"], capture_output=True, text=True, check=True).stdout.split("\n\n")[1]
    verbs = {line.split()[0] for line in told.splitlines()} - {"portledger"}
    tested = {question[0] for question in [*questions(seen), *failures_question()]} | {"status", "explain", "follow"}
    assert verbs == tested | set(ELSEWHERE), verbs ^ (tested | set(ELSEWHERE))


def agree(daemon, asked):
    some = set()
    for verb, words, method, parameters, key, plural in asked:
        name = (verb, words)
        reply = daemon.call(f"{NAME}.{method}", parameters)[key]
        form = ["--json=short"] if plural else []
        result = daemon.client(verb, *words, *form)
        assert result.returncode in (0, 1), (name, result.stderr)
        rows = [r for r in map(json.loads, result.stdout.splitlines()) if "coverage" not in r]
        assert rows and known(rows) == known(reply), name
        # every member that is declared is there, in the order of the declaration
        declared = list(INTERFACE.types[type_of(method, key)])
        assert all(list(row) == declared for row in rows), (name, list(rows[0]), declared)
        if plural:
            document = json.loads(daemon.client(verb, *words, "--json=pretty").stdout)
            assert known(document[plural]) == known(rows), name
        result = daemon.client(verb, *words, *(["--csv"] if plural else ["--format=csv"]))
        table = list(csv.reader(io.StringIO(result.stdout)))
        assert table[0] == declared and len(table) == len(rows) + 1, name
        lines = [dict(zip(declared, line)) for line in table[1:]]
        assert [known(line) for line in lines] == [known({k: cell(v) for k, v in r.items()}) for r in rows], name
        assert all(line.get("user", "") == cell(r.get("user")) for line, r in zip(lines, rows)), name
        field = next(k for k in ("port", "claims", "name", "scope", "exe") if k in declared and rows[0][k] is not None)
        if plural:
            values = daemon.client(verb, *words, "-F", field).stdout.splitlines()
            wanted = dict.fromkeys(cell(r[field]) for r in rows if r[field] is not None)
            assert [cell(v) for v in values] == list(wanted), name
        some.add(verb)
    return some


def test_rows_agree(daemon, seen):
    assert len(agree(daemon, questions(seen))) >= 8


def failures_question():
    since, until = test_failures.SINCE, test_failures.UNTIL
    return [("failures", list(test_failures.WINDOW), "Failures", {"since_usec": since, "until_usec": until}, "failures", "failures")]


def test_failures_agree(make_daemon, directory):
    """Those of a recording: what no kernel need be asked for."""
    recording = test_failures.record(directory, failures=1)
    recording.close()
    daemon = make_daemon(options=("--replay", recording.file.name)).start()
    assert agree(daemon, failures_question()) == {"failures"}
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        view = [dict(row) for row in db.execute("SELECT * FROM failures ORDER BY usec")]
    rows, _ = daemon.rows("failures")
    assert known(rows) == view and list(view[0]) == list(INTERFACE.types["Failure"])


def test_the_view_agrees(daemon, seen):
    """The view is one flat table with the columns of a claim; `holders` is JSON there."""
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        view = [{**dict(row), "holders": json.loads(row["holders"])} for row in db.execute("SELECT * FROM claims")]
        lately = db.execute("SELECT count(*) FROM claims_hour").fetchone()[0], db.execute("SELECT count(*) FROM claims_day").fetchone()[0]
    rows, _ = daemon.rows("history")
    key = lambda r: json.dumps(r, sort_keys=True)  # noqa: E731
    assert sorted(view, key=key) == sorted(known(rows), key=key)
    assert list(view[0]) == list(INTERFACE.types["Claim"]) == list(rows[0])
    assert lately == (len(view), len(view)) and len(view) >= 11
    for verb, words in (("now", []), ("who", [seen["port"]]), ("export", [])):
        result = daemon.client(verb, *words, *([] if verb == "export" else ["--json=short"]))
        some = [r for r in map(json.loads, result.stdout.splitlines()) if "coverage" not in r]
        assert some and all(r in view for r in known(some)), verb


def test_the_audit_is_the_views_sum(daemon, seen):
    with sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True) as db:
        sums = db.execute("SELECT exe,comm,unit,uid,count(*),count(DISTINCT port),count(DISTINCT remote_address),"
                          "sum(role='connected'),sum(role='listening'),sum(role='bound'),sum(role='accepted') FROM claims"
                          " WHERE ifnull(released_usec,1<<62)>? AND opened_usec<? GROUP BY 1,2,3,4", (
                              seen["since"], seen["until"])).fetchall()
    names = ("exe", "comm", "unit", "uid", "claims", "ports", "remotes", "connected", "listening", "bound", "accepted")
    rows, _ = daemon.rows("audit", "-S", stamp(seen["since"]), "-U", stamp(seen["until"]))
    assert sorted(map(str, (tuple(r[n] for n in names) for r in rows))) == sorted(map(str, sums)) and len(sums) == 2


def test_one_object_agrees(daemon, seen):
    """explain and status are one object; of status, what does not go on by itself is the same."""
    reply = daemon.call(f"{NAME}.Explain", {"port": seen["port"]})
    pretty = json.loads(daemon.client("explain", seen["port"], "--json=pretty").stdout)
    whole, receipt = map(json.loads, daemon.client(seen["port"], "--json=short").stdout.splitlines())
    coverage = reply.pop("coverage")
    assert known(whole) == known(reply) and list(pretty) == [*whole, "coverage"]
    assert known({**pretty, "coverage": None}) == known({**whole, "coverage": None})
    assert same_order(whole, INTERFACE.methods["Explain"][1])
    assert [k for k in receipt["coverage"] if k in coverage or receipt["coverage"][k] is not None] == list(coverage)
    row = next(csv.DictReader(io.StringIO(daemon.client("explain", seen["port"], "--csv").stdout)), None)
    assert row is not None
    status = daemon.call(f"{NAME}.Status")
    told = json.loads(daemon.client("status", "--json=short").stdout)
    assert list(told) == list(INTERFACE.methods["Status"][1])
    same = ("rung", "interval_usec", "open_claims", "recorded", "lost", "gaps", "unattributed", "oldest_usec", "version", "watching",
            "ranges", "ephemeral", "used")
    assert {k: told[k] for k in same} == {k: status.get(k) for k in same}
    assert [p["name"] for p in told["processes"]] == [p["name"] for p in status["processes"]]


def test_follow_agrees(daemon, seen):
    """What is open, as follow says it first, is what now says."""
    assert seen["gone"]
    now, _ = daemon.rows("now")
    process = subprocess.Popen([CLIENT, "--socket", daemon.socket, "follow", "--json=short"], stdout=subprocess.PIPE, text=True)
    try:
        told = [json.loads(process.stdout.readline()) for _ in now]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
    assert all(list(t) == ["event", *INTERFACE.types["Claim"]] and t.pop("event") == "open" for t in told)
    key = lambda r: json.dumps(r, sort_keys=True)  # noqa: E731
    assert sorted(told, key=key) == sorted(now, key=key)
