# SPDX-License-Identifier: MIT
"""The client's answers in every mode, against a daemon that says what it is told to."""
import csv
import io
import json
import os
import pathlib
import pty
import re
import subprocess
import termios
import struct
import fcntl

import pytest

from conftest import CLIENT, PATIENCE, ROOT
from fakedaemon import HOUR, NIGHT, FakeDaemon, audit, claim, coverage, explain, program, recent, status

MINUTE = NIGHT - 7_114_000
CLAIM_TYPE = re.search(r"type Claim \((.*?)\n\)", (ROOT / "daemon/control/org.portledger.ledger.varlink").read_text(),
                       re.S).group(1)
COLUMNS = re.findall(r"^  (\w+):", CLAIM_TYPE, re.M)
PROGRAM_COLUMNS = re.findall(r"^  (\w+):", re.search(r"type Program \((.*?)\n\)", (
    ROOT / "daemon/control/org.portledger.ledger.varlink").read_text(), re.S).group(1), re.M)


def run(fake, *arguments, **environment):
    environment = {**{k: v for k, v in os.environ.items() if k not in ("PAGER", "NO_COLOR")}, "TZ": "UTC",
                   "LC_ALL": "C.UTF-8", "PORTLEDGER_SOCKET": fake.path if fake else "/nonexistent/control", **environment}
    result = subprocess.run([CLIENT, *map(str, arguments)], capture_output=True, timeout=PATIENCE, check=False,
                            stdin=subprocess.DEVNULL, env=environment)
    result.stdout, result.stderr = result.stdout.decode(), result.stderr.decode()  # line ends as they are
    return result


def on_terminal(fake, *arguments, width=120, **environment):
    """What the client writes to a terminal that is so wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen([CLIENT, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave, env={
        "PATH": os.environ["PATH"], "TERM": "xterm", "TZ": "UTC", "LC_ALL": "C.UTF-8", "PORTLEDGER_SOCKET": fake.path,
        **environment})
    os.close(slave)
    data = b""
    try:
        while chunk := os.read(master, 65536):
            data += chunk
    except OSError:
        pass  # EIO: the other end is closed
    os.close(master)
    process.wait(PATIENCE)
    return data.decode().replace("\r\n", "\n"), process.returncode


def who(*claims, **members):
    return {"Who": {"claims": list(claims), "coverage": coverage(**members)}}


@pytest.fixture(name="fake")
def make_fake(directory):
    """make(answers) -> a FakeDaemon that ends with the test."""
    made = []

    def make(answers):
        made.append(FakeDaemon(directory / f"control{len(made)}", answers))
        return made[-1]

    yield make
    for f in made:
        f.close()


def test_json_has_the_members_of_the_interface_in_their_order(fake):
    # what the daemon sends in another order, with more in it, comes out as the interface has it
    sent = dict(reversed(claim().items()), more="than asked for")
    result = run(fake(who(sent)), "who", 60530, "--at", "2026-11-23 03:12", "--json=short")
    assert result.returncode == 0, result.stderr
    row, receipt = map(json.loads, result.stdout.splitlines())
    assert list(row) == COLUMNS
    assert row == {**claim(), "user": "root"}
    assert receipt == {"coverage": coverage()}


def test_pretty_is_one_document(fake):
    daemon = fake(who(claim(), claim(port=60531)))
    pretty = json.loads(run(daemon, "who", 60530, "--json=pretty").stdout)
    short = [json.loads(line) for line in run(daemon, "who", 60530, "--json=short").stdout.splitlines()]
    assert pretty == {"claims": short[:2], **short[2]}
    assert json.loads(run(fake(who()), "who", 60530, "--json=pretty").stdout) == {"claims": [], "coverage": coverage()}
    assert run(daemon, "who", 60530, "-j").stdout == run(daemon, "who", 60530, "--json=short").stdout
    assert run(daemon, "who", 60530, "--json=off").stdout == run(daemon, "who", 60530).stdout


def test_csv(fake):
    holder = {"pid": 7, "comm": 'a,b"c', "exe": None, "unit": None, "from_usec": NIGHT, "until_usec": None}
    result = run(fake(who(claim(comm="a,b\"c", holders=[holder], remote_address=None))), "who", 60530, "--csv")
    header, row = csv.reader(io.StringIO(result.stdout))
    assert header == COLUMNS
    values = dict(zip(header, row, strict=True))
    assert (values["comm"], values["port"], values["remote_address"], values["opened_usec"]) == (
        'a,b"c', "60530", "", str(NIGHT))
    assert json.loads(values["holders"]) == [holder]
    assert result.stdout.count("\r\n") == 2
    assert "Coverage: " not in result.stdout and result.stderr.startswith("Coverage: ")


def test_columns_and_distinct_values(fake):
    daemon = fake(who(claim(), claim(port=60531), claim(comm=None, pid=None), claim(comm="b")))
    assert run(daemon, "who", 60530, "-F", "comm").stdout == "curl\nb\n"
    rows = run(daemon, "who", 60530, "--columns=port,comm", "--json=short").stdout.splitlines()
    assert rows[0] == '{"port":60530,"comm":"curl"}'
    assert run(daemon, "who", 60530, "--columns=comm,port", "--csv").stdout.splitlines()[:2] == ["comm,port", "curl,60530"]
    table = run(daemon, "who", 60530, "--columns=comm,opened_usec").stdout.splitlines()
    assert re.fullmatch(r"COMM +OPENED", table[0]) and table[1].endswith("03:12:07.114")
    for option in ("-Fnothing", "--columns=port,nothing"):
        result = run(daemon, "who", 60530, option)
        assert (result.returncode, result.stdout) == (2, "") and "nothing" in result.stderr


def test_table_says_what_is_known_and_no_more(fake):
    unknown = claim(port=49200, pid=None, comm=None, exe=None, uid=1000, unit="x.service", attribution="cgroup",
                    opened_after_usec=NIGHT - 3_600_000_000)
    kernel = claim(port=51820, protocol="udp", pid=None, comm=None, exe=None, uid=None, unit=None, attribution="kernel",
                   opened_after_usec=None, closed_usec=None, closed_after_usec=None, released_usec=None, role="bound",
                   remote_address=None, remote_port=None)
    held = claim(port=60001, exe_note="deleted", released_usec=None, holders=[
        {"pid": n, "comm": "child", "exe": None, "unit": None, "from_usec": NIGHT, "until_usec": None} for n in (1, 2, 3)])
    daemon = fake(who(claim(), unknown, kernel, held))
    heading, *lines = run(daemon, "who", 60530, "--at", "2026-11-23 03:12").stdout.splitlines()
    assert heading.split() == ["OPENED", "CLOSED", "FREE", "PORT/PROTO", "ROLE", "PROCESS", "PARENT", "USER", "UNIT",
                               "LOCAL", "REMOTE", "NETNS"]
    assert " 03:13:09.414 " in lines[0] and "bash[48000]" in lines[0]
    assert "≤" in lines[0] and "curl[48211]" in lines[0] and "93.184.216.34:443" in lines[0]
    assert "before " in lines[1] and "unknown (uid 1000, unit x.service)" in lines[1]
    assert "the kernel" in lines[2] and " open " in lines[2] and "≤" not in lines[2]
    assert "time-wait" in lines[3] and "curl[48211] (deleted) +child[1] +child[2] +1 more" in lines[3]
    assert lines[-1].startswith("Coverage: 2026-11-23 03:12:00-03:13:00 watched by sweep every 1 s")
    ascii_only = run(daemon, "who", 60530, LC_ALL="C").stdout
    assert ascii_only.isascii() and "<=" in ascii_only
    bare = run(daemon, "who", 60530, "--no-legend").stdout.splitlines()
    assert len(bare) == 5 and bare[-1].startswith("Coverage: ")


@pytest.mark.parametrize("members, text", [
    ({}, "watched by sweep every 1 s; shorter claims may be missing"),
    ({"stretches": []}, "Coverage: not watching at that time (2026-11-23 03:12:00-03:13:00)"),
    ({"stretches": [], "gaps": [{"from_usec": 0, "until_usec": NIGHT, "reason": "expired", "lost": None}]}, ": expired)"),
    ({"complete": True, "lost": 0, "stretches": [
        {"from_usec": MINUTE, "until_usec": MINUTE + 60_000_000, "source": "events", "interval_usec": 60_000_000,
         "udp_connect": True, "failures": True}]},
     "03:12:00-03:13:00 watched by events; complete"),
    ({"stretches": [{"from_usec": MINUTE + 10_000_000, "until_usec": MINUTE + 60_000_000, "source": "procnet",
                     "interval_usec": 250_000, "udp_connect": False, "failures": False}],
      "gaps": [{"from_usec": MINUTE, "until_usec": MINUTE + 10_000_000, "reason": "down", "lost": None},
               {"from_usec": MINUTE + 30_000_000, "until_usec": MINUTE + 31_000_000, "reason": "disk full", "lost": 12}]},
     "watched by /proc/net every 250 ms; not watched before 03:12:10 (down); gap 03:12:30-03:12:31 (disk full, 12 lost)"),
])
def test_receipt(fake, members, text):
    lines = run(fake(who(**members)), "who", 60530, "--at", "2026-11-23 03:12").stdout.splitlines()
    assert lines[-1].startswith("Coverage: ") and text in lines[-1]


def test_what_is_wrong_stands_below_the_receipt(fake):
    """Once, however many windows were asked for: it is what is wrong now."""
    daemon = fake(who(degraded=["the disk is full; make room", "second thing"]))
    told = ["degraded: the disk is full; make room", "degraded: second thing"]
    lines = run(daemon, "who", 60530, "--at", "2026-11-23 03:12").stdout.splitlines()
    assert lines[-2:] == told and lines[-3].startswith("Coverage: ")
    lines = run(daemon, "who", 60530, "--at", "2026-11-23 03:12", "--at", "2026-11-23 03:13").stdout.splitlines()
    assert lines[-2:] == told and len([line for line in lines if line.startswith("degraded")]) == 2
    csv = run(daemon, "who", 60530, "--at", "2026-11-23 03:12", "--csv")
    assert told[0] in csv.stderr and "degraded" not in csv.stdout
    for line in run(daemon, "who", 60530, "--at", "2026-11-23 03:12", "--at", "2026-11-23 03:13", "--json").stdout.splitlines():
        receipt = json.loads(line)["coverage"]
        assert receipt["degraded"] == ["the disk is full; make room", "second thing"]


def test_nothing_and_not_watching_never_look_alike(fake):
    watched, unwatched = fake(who()), fake(who(stretches=[]))
    complete = fake(who(complete=True, lost=0))
    nothing, blind = (run(d, "who", 60530) for d in (watched, unwatched))
    assert (nothing.returncode, blind.returncode) == (1, 1)
    assert "No claim matched" in nothing.stdout and "nobody was watching" in blind.stdout
    assert [run(d, "who", 60530, "--strict").returncode for d in (watched, unwatched, complete)] == [6, 6, 1]
    assert run(fake(who(claim())), "who", 60530, "--strict").returncode == 6


def test_windows_and_filters_reach_the_daemon(fake):
    daemon = fake({**who(claim()), "Claims": {"claims": [], "cursor": None, "coverage": coverage()}})
    run(daemon, "who", "60530/udp", "--at", "2026-11-23 03:12", "--peer", "[2001:DB8::1]:443")
    run(daemon, "history", "60530", "60531", "-S", "2026-11-22", "-U", "2026-11-23", "-n", "5", "--app", "ev\x1bil",
        "--unit", "x.service", "--user", "root", "--pid", "7", "--addr", "127.0.0.1", "--peer", "1.2.3.4:5",
        "--netns", "blue", "--role", "bound", "--range", "iana", "--proto", "tcp")
    run(daemon, "now", "--user", "4242")
    asked = [call["parameters"] for call in daemon.calls]
    assert asked[0] == {"port": 60530, "from_usec": MINUTE, "until_usec": MINUTE + 60_000_000, "filter": {
        "ports": [60530], "protocol": "udp", "peer": "2001:db8::1", "peer_port": 443}}
    assert asked[1] == {
        "open": False, "since_usec": MINUTE - 27 * 3_600_000_000 - 720_000_000, "limit": 5,
        "until_usec": MINUTE - 3 * 3_600_000_000 - 720_000_000, "filter": {
            "ports": [60530, 60531], "protocol": "tcp", "app": "ev\\x1bil", "unit": "x.service", "uid": 0, "pid": 7,
            "address": "127.0.0.1", "peer": "1.2.3.4", "peer_port": 5, "netns": "blue", "role": "bound", "range": "iana"}}
    assert asked[2] == {"open": True, "filter": {"uid": 4242}}


def test_a_local_time_that_happens_twice_asks_both(fake):
    # 2026-10-25 02:30 in Berlin: at 00:30 and at 01:30 UTC
    first, second = 1_792_888_200_000_000, 1_792_891_800_000_000
    there, later = claim(), claim(port=60531)

    def answer(call):
        return {"claims": [there] if call["from_usec"] == first else [there, later],
                "coverage": coverage(call["from_usec"], call["until_usec"], complete=call["from_usec"] == first, lost=None)}

    daemon = fake({"Who": answer})
    result = run(daemon, "who", 60530, "--at", "2026-10-25 02:30", "--json=short", TZ="Europe/Berlin")
    *rows, receipt = map(json.loads, result.stdout.splitlines())
    assert [c["parameters"]["from_usec"] for c in daemon.calls] == [first, second]
    assert [r["port"] for r in rows] == [60530, 60531]  # merged: the claim of both windows once
    receipt = receipt["coverage"]
    assert receipt["windows"] == [{"from_usec": at, "until_usec": at + 60_000_000} for at in (first, second)]
    assert (receipt["from_usec"], receipt["until_usec"], receipt["complete"]) == (first, second + 60_000_000, False)
    assert len(receipt["stretches"]) == 2
    table = run(daemon, "who", 60530, "--at", "2026-10-25 02:30", TZ="Europe/Berlin").stdout
    assert table.count("Coverage: ") == 2 and table.count(" CEST") == 1 and table.count(" CET") == 1


@pytest.mark.parametrize("since, until, begin, minutes, says", [
    ("02:30", "02:45", 30, 75, "2026-10-25 02:30:00 CEST to 02:45:00 CET watched"),  # of each bound what takes in more
    ("02:45", "02:30", 45, 45, "2026-10-25 02:45:00 CEST to 02:30:00 CET watched"),
    ("02:30 CET", "02:45 CET", 90, 15, "2026-10-25 02:30:00-02:45:00 CET watched"),
    ("02:30 CEST", "02:45 CEST", 30, 15, "2026-10-25 02:30:00-02:45:00 CEST watched"),
    ("01:00", "04:00", -60, 240, "2026-10-25 01:00:00 CEST to 04:00:00 CET watched"),
    ("01:00", "01:30", -60, 30, "2026-10-25 01:00:00-01:30:00 watched"),
    ("03:00", "03:30", 120, 30, "2026-10-25 03:00:00-03:30:00 watched"),
])
def test_a_stretch_takes_in_an_hour_that_happens_twice(fake, since, until, begin, minutes, says):
    """And its receipt names the zones, where the times could be others."""
    daemon = fake({"Claims": lambda call: {"claims": [claim()], "cursor": None, "coverage": coverage(call["since_usec"], call["until_usec"])}})
    result = run(daemon, "history", "-S", f"2026-10-25 {since}", "-U", f"2026-10-25 {until}", TZ="Europe/Berlin")
    asked = daemon.calls[0]["parameters"]
    assert (asked["since_usec"] / 60e6 - 1_792_886_400 / 60, (asked["until_usec"] - asked["since_usec"]) / 60e6) == (begin, minutes)
    assert says in result.stdout


def test_pages_are_pulled_to_the_end(fake):
    def answer(call):
        page = int(call.get("cursor") or 0)
        last = page == 17
        return {"claims": [claim(port=40000 + page * 256 + i) for i in range(256)], "cursor": None if last else str(page + 1),
                "coverage": coverage()}

    daemon = fake({"Claims": answer, "Who": answer})
    rows = run(daemon, "who", 60530, "--json=short").stdout.splitlines()
    assert len(rows) == 18 * 256 + 1 and len(daemon.calls) == 18
    rows = run(daemon, "history", "--json=short").stdout.splitlines()
    assert [json.loads(r)["port"] for r in rows[:-1]] == list(range(40000, 40000 + 18 * 256))
    assert "coverage" in json.loads(rows[-1])
    table = run(daemon, "history").stdout.splitlines()  # more rows than one batch of the table
    body = [line for line in table if "/tcp" in line]
    assert len(body) == 18 * 256 and len({len(line) for line in body}) == 1 and table[0].split()[0] == "OPENED"
    assert sum("OPENED" in line for line in table) == 1


def test_times_are_local_and_dated_only_where_needed(fake):
    daemon = fake(who(claim(closed_usec=NIGHT + 86_400_000_000, closed_after_usec=None, opened_after_usec=None)))
    line = run(daemon, "who", 60530, "--columns=opened_usec", TZ="Asia/Tokyo").stdout.splitlines()[1]
    assert line.endswith("12:12:07.114")
    assert run(daemon, "who", 60530, "--columns=opened_usec", "--utc", TZ="Asia/Tokyo").stdout.splitlines()[1].endswith(
        "03:12:07.114")
    # the closing is of another day than the opening, so it has a date
    assert "24 03:12:07.114" in run(daemon, "who", 60530).stdout.splitlines()[1]


def test_audit(fake):
    reply = audit(program(), program(exe=None, comm=None, unit=None, uid=None, claims=31), unattributed=31,
                  reasons={"end-only": 28, "before": 3})
    daemon = fake({"Audit": reply})
    text = run(daemon, "audit").stdout
    assert "43 claims of 42 ports by 1 program; 31 without a process (28 shorter than a sweep sees, 3 there" in text
    assert "(no process)" in text
    assert "7 more programs" in run(fake({"Audit": {**reply, "omitted": 7}}), "audit").stdout
    *rows, last = map(json.loads, run(daemon, "audit", "--json=short").stdout.splitlines())
    assert list(rows[0]) == PROGRAM_COLUMNS and rows[0]["user"] == "root"
    assert last == {"coverage": coverage(), "total": {
        "claims": 43, "ports": 42, "unattributed": 31, "omitted": 0, "failures": None, "reasons": {"end-only": 28, "before": 3},
        "servers_omitted": 0, "servers": []}}
    assert json.loads(run(daemon, "audit", "--json=pretty").stdout) == {"programs": rows, **last}
    # --overnight is the default: 15 hours, or since yesterday 18:00 while it is under way
    windows = [(c["parameters"]["since_usec"], c["parameters"]["until_usec"]) for c in daemon.calls]
    for since, until in windows:
        assert (since // 1_000_000) % 86400 == 18 * 3600 and 0 < until - since <= 15 * HOUR
    run(daemon, "audit", "-S", "2026-11-22", "-U", "2026-11-23", "--by", "unit")
    asked = daemon.calls[-1]["parameters"]
    assert (asked["until_usec"] - asked["since_usec"], asked["by"]) == (24 * HOUR, "unit")
    run(daemon, "audit", PORTLEDGER_OVERNIGHT="20:30-06:00")
    asked = daemon.calls[-1]["parameters"]
    assert asked["since_usec"] // 1_000_000 % 86400 == 20.5 * 3600 and asked["until_usec"] - asked["since_usec"] <= 9.5 * HOUR
    wrong = run(daemon, "audit", PORTLEDGER_OVERNIGHT="20 to 6")
    assert wrong.returncode == 2 and "PORTLEDGER_OVERNIGHT" in wrong.stderr


def test_audit_shows_the_hours_and_what_was_not_watched(fake):
    evening = NIGHT - NIGHT % HOUR - 9 * HOUR  # 18:00; 15 hours, of which the first two and the last were not watched
    window = {"from_usec": evening, "until_usec": evening + 15 * HOUR}
    slots = [{"from_usec": evening + n * HOUR, "until_usec": evening + (n + 1) * HOUR, "claims": c} for n, c in ((2, 1), (5, 60), (9, 30))]
    reply = audit(program(slots=slots, busiest_usec=evening + 5 * HOUR, first_usec=evening + 2 * HOUR), coverage=coverage(
        **dict(zip(("since", "until"), window.values())), stretches=[
            {"from_usec": evening + 2 * HOUR, "until_usec": evening + 14 * HOUR, "source": "sweep", "interval_usec": 1_000_000,
             "udp_connect": False, "failures": False}]))
    daemon = fake({"Audit": reply})
    text = run(daemon, "audit").stdout
    assert "  ▂▁▁█▁▁▁▅▁▁▁▁ " in text
    assert "  .__#___=____ " in run(daemon, "audit", LC_ALL="C").stdout
    assert re.search(r"BUSIEST +HOURS", text) and " 23:00 " in text


def test_audit_says_what_it_was_counted_from(fake):
    evening = NIGHT - NIGHT % HOUR - 9 * HOUR  # 18:00
    until = evening + 15 * HOUR

    def told(*parts, **members):
        receipt = coverage(since=evening, until=until, parts=[
            {"from_usec": a, "until_usec": b, "counted": counted} for a, b, counted in parts])
        result = run(fake({"Audit": audit(program(**members), coverage=receipt)}), "audit")
        text = " ".join(result.stdout.split())
        assert json.loads(run(fake({"Audit": audit(program(), coverage=receipt)}), "audit", "-j").stdout.splitlines()[-1])[
            "coverage"]["parts"] == receipt["parts"]
        return text

    assert "from rollups" not in told((evening, until, "rows"))
    assert told((evening, until, "hours")).endswith("; hours 18:00:00 to Nov 23 09:00:00 from rollups")
    assert told((evening, until - HOUR, "hours"), (until - HOUR, until, "rows")).endswith(
        "; hours before Nov 23 08:00:00 from rollups, the rest from rows")
    text = told((evening, evening + HOUR, "rows"), (evening + HOUR, evening + 2 * HOUR, "hours"),
                (evening + 2 * HOUR, evening + 6 * HOUR, "days"), (evening + 6 * HOUR, until, "rows"), remotes=4211,
                remotes_estimated=True, longest_usec=7_200_000_000)
    assert "; days and hours 19:00" in text and "from rollups, the rest from rows" in text
    assert " ~4211 " in text and " 2 h " in text and "~2 h" not in text
    assert " ~2 h " in told((evening, until, "days"), lives_estimated=True, longest_usec=7_200_000_000)


def test_audit_tells_of_servers(fake):
    there = claim(role="listening", comm="upd", pid=702, unit="upd.service", remote_address=None, remote_port=None)
    still = claim(role="listening", comm="new", pid=703, unit=None, port=60531, opened_usec=NIGHT + 1, closed_usec=None,
                  closed_after_usec=None, released_usec=None)
    daemon = fake({"Audit": audit(program(), servers=[there, still], servers_omitted=11)})
    text = run(daemon, "audit").stdout
    assert "13 servers came or went:\n" in text and f"\n  and 11 more: see portledger history --role listening -S @{MINUTE // 10**6} -U @{MINUTE // 10**6 + 60}\n" in text
    assert "\n  60530/tcp upd[702] upd.service: came 03:12:07.114, went 03:12:09.414\n" in text
    assert "\n  60531/tcp new[703]: came 03:12:07.114\n" in text
    assert "server" not in run(daemon, "audit", "--no-legend").stdout
    total = json.loads(run(daemon, "audit", "--json=pretty").stdout)["total"]
    assert [list(s) for s in total["servers"]] == [COLUMNS] * 2 and total["servers"][0]["user"] == "root"


def test_audit_counts_in_words(fake):
    """Of one there is no plural; who only failed to get a port has claimed none."""
    failed = program(comm="late", exe="/usr/bin/late", claims=0, ports=0, failures=2)
    one = {**audit(program(claims=1, ports=1), failed), "claims": 1, "ports": 1}
    assert ": 1 claim of 1 port by 1 program; 0 without" in run(fake({"Audit": one}), "audit").stdout


@pytest.mark.parametrize("by", ("unit", "user"))
def test_audit_never_leaves_out_what_it_counts_by(fake, by):
    row = program(comm=None, exe=None, unit="cron.service" if by == "unit" else None, uid=0 if by == "user" else None)
    text, _ = on_terminal(fake({"Audit": audit(row)}), "audit", "--by", by, "--color=never", width=30)
    assert any(line.split()[:1] == [by.upper()] for line in text.splitlines()), text
    note = text.partition("No room here for ")[2]
    assert "LONGEST" in note and by.upper() not in note.partition(":")[0]


@pytest.mark.parametrize("by, members, heading, first", [
    ("unit", {"unit": "cron.service"}, "UNIT", "cron.service"),
    ("user", {"uid": 0}, "USER", "root"),
    ("port", {"port": 60530, "protocol": "udp"}, "PORT/PROTO", "60530/udp"),
    ("hour", {"hour_usec": NIGHT - NIGHT % HOUR}, "HOUR", "2026-11-23 03:00"),
    ("hour", {}, "HOUR", "before"),
    ("netns", {"netns": 7, "netns_name": "blue"}, "NETNS", "blue"),
])
def test_audit_by(fake, by, members, heading, first):
    none = dict.fromkeys(("exe", "comm", "unit", "uid"))
    result = run(fake({"Audit": audit(program(**{**none, **members}))}), "audit", "--by", by)
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert lines[1].split()[0] == heading and re.split(r"  +", lines[2].strip())[0].replace("Nov 23", "2026-11-23").startswith(first)
    assert "PROGRAM" not in lines[1] and "(no process)" not in result.stdout


def test_audit_diff(fake):
    """What one window has and the other has not; where one of them was not watched, nothing is said to be new."""
    def answer(call):
        if call["since_usec"] == MINUTE:
            return audit(program(), program(comm="fresh", exe="/tmp/fresh"), coverage=coverage(complete=True, lost=0))
        return audit(program(), program(comm="old", exe="/bin/old"), coverage=coverage(
            call["since_usec"], call["until_usec"], **{"complete": True, "lost": 0, **blind}))

    blind = {}
    daemon = fake({"Audit": answer})
    question = ("audit", "-S", "2026-11-23 03:12", "-U", "2026-11-23 03:13", "--diff")
    text = run(daemon, *question, "yesterday")
    assert text.returncode == 0
    assert "03:12:00-03:13:00 against 2026-11-22 03:12:00-03:13:00: 2 changed, 1 program in both" in text.stdout
    assert re.search(r"^new +/tmp/fresh ", text.stdout, re.M) and re.search(r"^gone +/bin/old ", text.stdout, re.M)
    assert "/usr/bin/curl" not in text.stdout and text.stdout.count("Coverage: ") == 2
    *rows, receipt = map(json.loads, run(daemon, *question, "yesterday", "--json=short").stdout.splitlines())
    assert [(r["change"], r["exe"]) for r in rows] == [("new", "/tmp/fresh"), ("gone", "/bin/old")]
    assert list(rows[0]) == ["change", *PROGRAM_COLUMNS] and len(receipt["coverage"]["windows"]) == 2
    assert run(daemon, *question, "yesterday", "--strict").returncode == 0
    others = {"yesterday": MINUTE - 24 * HOUR, "last week": MINUTE - 7 * 24 * HOUR, "2026-11-20 10:00": MINUTE - 65.2 * HOUR}
    for word, since in others.items():
        run(daemon, *question, word)
        asked = daemon.calls[-1]["parameters"]
        assert (asked["since_usec"], asked["until_usec"] - asked["since_usec"]) == (since, 60_000_000)
    blind.update(stretches=[], complete=False)
    text = run(daemon, *question, "yesterday")
    assert text.returncode == 1 and "nothing can be compared, since nobody was watching the other time" in text.stdout
    assert "/tmp/fresh" not in text.stdout
    assert run(daemon, *question, "yesterday", "--strict").returncode == 6
    assert run(daemon, "audit", "--by=hour", "--diff=yesterday").returncode == 2
    assert run(daemon, "audit", "--by=nothing").returncode == 2


def test_status(fake):
    daemon = fake({"Status": status(degraded=["first thing"], watching=False)})
    text = run(daemon).stdout
    assert text.splitlines()[0] == "degraded: first thing" and "is not recording" in text
    assert run(daemon, "--strict").returncode == 6
    text = run(fake({"Status": status()}), "status").stdout
    for part in ("is recording, by sweep every 1 s", "182,113 recorded since its start; 96 open now, 31 of them without a process", "gaps       1 since then; ", "41.1 MiB",
                 "32768-60999: tcp 1,204 used (4.3 %)", "udp 7 used (< 0.1 %)", "capture 5.2 s 3.0 MiB",
                 "4,123, the last took 4.9 s of CPU"):  # one sweep's cost, not the sum of all
        assert part in text
    narrow, _ = on_terminal(fake({"Status": status()}), "status", "--color=never", width=34)
    assert all(len(line) <= 34 for line in narrow.splitlines()), narrow
    unknown = {name: None for name in ("sweeps", "sweep_cpu_usec", "open_claims", "recorded", "gaps", "unattributed",
                                       "found_only_by_sweep", "oldest_usec")}
    assert "? recorded since its start; ? open now, ? of them without" in run(fake({"Status": status(**unknown, rung="none")})).stdout
    assert json.loads(run(daemon, "--json=pretty").stdout) == status(degraded=["first thing"], watching=False)
    assert json.loads(run(daemon, "-j").stdout)["used"] == {"tcp": 1204, "udp": 7}
    assert next(csv.DictReader(io.StringIO(run(daemon, "--csv").stdout)))["recorded"] == "182113"


@pytest.mark.parametrize("members, verdict, code", [
    ({}, "Free now. Last held by curl[48211], until", 0),
    ({"last": [claim(count=3960, ports=[60530, 60531])]}, " (3,960 claims), until Nov 23 03:12:09.414 at the latest.", 0),
    ({"now": [claim(closed_usec=None, released_usec=None, role="listening", comm="nginx", pid=1)]},
     "nginx[1] is a server here; while it is down the kernel may give the port to a client.", 0),
    ({"now": [claim(closed_usec=None, released_usec=None, role="bound")], "ephemeral": False}, "bound it on purpose", 0),
    ({"now": [claim(closed_usec=None, released_usec=None)]}, "an ordinary outgoing connection; nothing listens here", 0),
    ({"now": [claim(closed_usec=None, released_usec=None, role=None)]}, "curl[48211] has it; as what is not known.", 0),
    ({"now": [claim(released_usec=None)]}, "TIME_WAIT", 0),
    ({"last": []}, "Free now, and nobody was seen to hold it.", 1),
    ({"last": [], "coverage": coverage(stretches=[])}, "Nothing can be said: nobody was watching.", 1),
    ({"last": [], "watched": False}, "Not a port that is watched", 1),
])
def test_explain(fake, members, verdict, code):
    daemon = fake({"Explain": explain(**members)})
    result = run(daemon, "60530/tcp")
    lines = result.stdout.splitlines()
    assert result.returncode == code and lines[1].startswith("verdict  ") and verdict in lines[1] and lines[-1].startswith("Coverage: ")
    assert daemon.calls[0]["parameters"] == {"port": 60530, "protocol": "tcp"}
    whole, receipt = map(json.loads, run(daemon, "explain", 60530, "--json=short").stdout.splitlines())
    assert receipt["coverage"] == explain(**members)["coverage"] and "coverage" not in whole
    assert json.loads(run(daemon, 60530, "--json=pretty").stdout) == {**whole, **receipt}
    assert all(c["user"] == "root" for c in whole["now"] + whole["last"])


SERVER = claim(closed_usec=None, closed_after_usec=None, released_usec=None, role="listening", comm="upd", pid=702, unit="upd.service")


@pytest.mark.parametrize("members, text", [
    ({}, "an IANA dynamic port (49152-65535, never assigned), in this kernel's ephemeral range (32768-60999), not reserved"),
    ({"reserved": True}, "in this kernel's ephemeral range (32768-60999), but reserved"),
    ({"reserved": None}, "in this kernel's ephemeral range (32768-60999)"),
    ({"port": 61500, "ephemeral": False}, "an IANA dynamic port (49152-65535, never assigned), outside this kernel's"),
    ({"port": 40000}, "an IANA user port (1024-49151), in this kernel's"),
    ({"port": 8080, "ephemeral": False}, "8080 (http-alt), an IANA user port (1024-49151), outside this kernel's"),
    ({"port": 443, "ephemeral": False}, "443 (https), an IANA system port (0-1023), outside this kernel's"),
])
def test_explain_says_what_the_port_is_for(fake, members, text):
    daemon = fake({"Explain": explain(**members)})
    port = members.get("port", 60530)
    line = run(daemon, port).stdout.splitlines()[0]
    assert re.match(rf"port     {port}( \([a-z-]+\))?, an IANA ", line) and text in line
    assert ("reserved" in line) == (members.get("ephemeral", True) and members.get("reserved", False) is not None)
    service = json.loads(run(daemon, port, "--json=short").stdout.splitlines()[0])["service"]
    assert service == {8080: "http-alt", 443: "https"}.get(port)


@pytest.mark.parametrize("members, advice", [
    ({}, "Nothing to do: the next client has it for another end."),
    ({"now": [SERVER]}, "Reserve it (portledger listeners has the line), or move the server below 32768."),
    ({"listened": [SERVER]}, "Reserve it"),
    ({"listened": [SERVER], "reserved": True}, "Nothing to do: it is reserved"),
    ({"now": [claim(closed_usec=None, released_usec=None, role="bound")]}, "If it is a server, reserve it"),
    ({"ephemeral": False, "now": [SERVER]}, "Whoever has it chose it"),
    ({"ephemeral": False, "last": []}, "Nothing to do."),
    ({"watched": False}, "To have it watched, add it to Ranges="),
])
def test_explain_says_what_to_do(fake, members, advice):
    lines = run(fake({"Explain": explain(**members)}), 60530).stdout.splitlines()
    assert [line for line in lines if line.startswith("advice   ")][0].startswith(f"advice   {advice}")


def test_explain_in_figures(fake):
    daemon = fake({"Explain": explain(listened=[SERVER, claim(role="listening")])})
    lines = run(daemon, 60530).stdout.splitlines()
    assert "claims   214 in the last day by 9 programs, 6,120 ever; median life 38 ms; first seen Nov  3 03:12:07.114" in lines
    assert "served   upd[702] upd.service, since Nov 23 03:12:07.114" in lines
    ended = fake({"Explain": explain(listened=[claim(role="listening")], programs_day=1, median_usec=None)})
    text = run(ended, 60530).stdout
    assert "by 1 program, 6,120 ever; first seen" in text and "from Nov 23 03:12:07.114 to 03:12:09.414\n" in text
    narrow, _ = on_terminal(daemon, 60530, "--no-pager", "--color=never", width=80)
    assert all(len(line) <= 80 for line in narrow.splitlines()), narrow
    run(daemon, 60530, "--netns=web-1")
    assert daemon.calls[-1]["parameters"] == {"port": 60530, "netns": "web-1"}


def test_audit_tells_programs_of_one_interpreter_apart(fake):
    rows = [program(exe="/usr/bin/python3.11", comm="python3"), program(exe="/usr/bin/python3.11", comm="backup"),
            program(exe="/usr/bin/curl", comm="curl"), program(exe=None, comm="gone")]
    daemon = fake({"Audit": audit(*rows)})
    lines = run(daemon, "audit").stdout.splitlines()[2:6]
    assert [re.split(r"  | cron", line)[0] for line in lines] == [
        "/usr/bin/python3.11", "backup (/usr/bin/python3.11)", "/usr/bin/curl", "gone"]


def test_explain_says_that_more_are_open_than_it_lists(fake):
    busy = explain(now=[claim(closed_usec=None, released_usec=None, role="accepted")], claims_now=1204)
    assert "1,204 open claims, the first 1 are listed: see portledger now 60530" in run(fake({"Explain": busy}), 60530).stdout


def test_long_lines_are_wrapped_on_a_terminal(fake):
    """Of what is no table: nothing is left out, and no line is wider than the terminal."""
    full = status(ranges=[{"low": port, "high": port + 1} for port in range(40000, 40300, 10)],
                  used={"tcp": 1204, "udp": 7777, "udplite": 12345, "mptcp": 6789})
    busy = explain(now=[claim(closed_usec=None, released_usec=None)], claims_now=1_204_000_000)
    unwatched = {"failures": [], "cursor": None, "coverage": coverage(stretches=[])}
    crowded = {"pressure": [], "omitted": 1_204_000, "least_peak": 28_000, "coverage": coverage()}
    daemon = fake({"Status": full, "Explain": busy, "Failures": unwatched, "Pressure": crowded})
    for question, whole in ((["status"], "40290-40291 ephemeral 32768-60999: tcp 1,204 used (4.3 %), udp 7,777 used (27.5 %), udplite 12,345"),
                            ([60530], "1,204,000,000 open claims, the first 1 are listed: see portledger now 60530"),
                            (["failures"], "under the rung events Failures=yes in portledger.conf watches them."),
                            (["pressure"], "can be told apart; those left out had at most 28000 ports at once.")):
        text, _ = on_terminal(daemon, *question, "--no-pager", width=80, TERM="dumb")
        assert whole in " ".join(text.split()) and all(len(line) <= 80 for line in text.splitlines()), text


def test_follow(fake):
    daemon = fake({"Follow": [{"event": "open", "claims": [recent()], "lost": 0},
                              {"event": "opened", "claims": [recent(port=60531)], "lost": 214},
                              {"event": "attributed", "claims": [recent(port=60531)], "lost": 0},
                              {"event": "released", "claims": [recent()], "lost": 0}]})
    lines = run(daemon, "follow").stdout.splitlines()
    assert lines[1] == "... 214 lost, reader too slow"
    assert [line.split()[1] for line in lines if line != lines[1]] == ["=", "+", "~", "-"]
    for mode in ("--json=short", "--json=pretty"):
        rows = [json.loads(line) for line in run(daemon, "follow", mode).stdout.splitlines()]
        assert [r.get("event") for r in rows] == ["open", None, "opened", "attributed", "released"] and rows[1] == {"lost": 214}
        assert list(rows[0]) == ["event", *COLUMNS]
    assert daemon.calls[0]["more"] is True
    untold = fake({"Follow": [{"event": "released", "claims": [recent(role=None)], "lost": 0}]})
    assert run(untold, "follow").stdout.endswith("session-3.scope ? - 93.184.216.34:443\n")


def test_follow_goes_on_below_the_port_where_a_terminal_is_narrow(fake):
    """Not a word is left out, or cut; a time with its date moves the port, and what stands below it."""
    long = {"unit": "a-unit-with-a-name-of-its-own.service", "remote_address": "2001:db8:1:2:3:4:5:6", "family": "ipv6"}
    daemon = fake({"Follow": [{"event": event, "claims": [make(**long)], "lost": 0}
                              for event in ("opened", "program", "listener") for make in (recent, claim)]})
    wide, _ = on_terminal(daemon, "follow", width=200, TERM="dumb")
    narrow, _ = on_terminal(daemon, "follow", width=80, TERM="dumb")
    assert len(wide.splitlines()) == 6 and wide.split() == narrow.split()
    assert all(len(line) <= 80 for line in narrow.splitlines()), narrow
    events = re.findall(r"^( *\w.* [+*] )\S.*\n((?: {15,}.*\n)+)", narrow, re.M)
    assert len(events) == 6, narrow
    for begin, below in events:
        assert all(re.match(" {%d}[^ ]" % len(begin), line) for line in below.splitlines()), narrow


def test_doctor(fake):
    checks = [{"name": "a", "level": "ok", "text": "fine", "fix": None},
              {"name": "b", "level": "warning", "text": "poor", "fix": "mend it"}]
    result = run(fake({"Doctor": {"checks": checks}}), "doctor")
    assert result.returncode == 1 and re.search(r"warning +b: poor\n +fix: mend it\n", result.stdout)
    daemon = fake({"Doctor": {"checks": checks[:1]}})
    assert run(daemon, "doctor").returncode == 0
    assert json.loads(run(daemon, "doctor", "-j").stdout) == checks[0]


def test_narrow_terminals_leave_columns_out_and_say_so(fake):
    daemon = fake({"Claims": who(recent(comm="a-long-name-15ch", unit="a-unit-with-a-name-of-its-own.service"))["Who"]})
    wide, _ = on_terminal(daemon, "history", 60530, "--no-pager", width=200)
    narrow, code = on_terminal(daemon, "history", 60530, "--no-pager", width=80)
    assert "LOCAL" in wide.splitlines()[0] and "No room" not in wide
    assert code == 0 and "LOCAL" not in narrow.splitlines()[0] and "No room here for" in narrow
    assert "93.184.216.34:443" in narrow  # an address is never cut
    assert all(len(line) <= 80 for line in narrow.splitlines())


def test_a_path_is_cut_in_its_middle(fake):
    """Where a program lies, and its name: both ends tell; a name that is no path is cut at its end."""
    wide = "/opt/ein-langes-verzeichnis/" + "\u6f22" * 20 + "/a-program"
    daemon = fake({"Audit": audit(program(exe="/opt/a/quite/long/way/to/the/place/of/a-program", comm="a-program", unit="u" * 40 + ".service"),
                                  program(exe=wide, comm="a-program"), program(exe=None, comm="n" * 60))})
    text, _ = on_terminal(daemon, "audit", "--no-pager", width=60, TERM="dumb")
    lines = text.splitlines()
    assert re.search(r"^/opt/.*….*/a-program ", text, re.M) and re.search(r"^n+… ", text, re.M), text
    assert sum(re.search("^/opt/[^ ]*a-program ", line) is not None for line in lines) == 2
    assert all(len(line) <= 60 for line in lines if "\u6f22" not in line), text


def test_role_is_told_where_a_terminal_is_narrow(fake):
    """At 80 columns too: a listener and the connections that it took are on one port."""
    daemon = fake(who(recent(unit=None, netns=7, role="accepted")))
    text, _ = on_terminal(daemon, "who", 60530, "--no-pager", width=80)
    assert "ROLE" in text.splitlines()[0] and "accepted" in text.splitlines()[1]


def test_who_tells_in_lines_what_has_no_room(fake):
    """Parent, unit and the end of TIME_WAIT are never left out: as columns, or as a line for each claim."""
    daemon = fake(who(recent(netns=7, netns_name="web-1", released_usec=NIGHT + 10**12), recent(comm="upd", pid=702, parent_comm=None,
                                                                                               parent_pid=None, unit=None)))
    wide, _ = on_terminal(daemon, "who", 60530, "--no-pager", width=200)
    assert "PARENT" in wide.splitlines()[0] and "curl[48211]:" not in wide
    narrow, _ = on_terminal(daemon, "who", 60530, "--no-pager", "--color=never", width=80)
    lines = narrow.splitlines()
    assert all(len(line) <= 80 for line in lines) and "No room" not in narrow and "PARENT" not in lines[0]
    text = " ".join(line.strip() for line in lines[3:])
    assert text.startswith("curl[48211]: 60530/tcp at 10.0.0.5, parent bash[48000], unit session-3.scope, user root, netns web-1, port free at ")
    assert "upd[702]: 60530/tcp at 10.0.0.5, user root, netns 4026531840" in text


def test_who_says_what_is_alike_once(fake):
    """Two connections of one process differ in their rows; the line beneath is the same, and is not said twice. Another one's is."""
    first, second = (recent(netns=7, remote_address=f"10.0.0.{n}") for n in (8, 9))
    text, _ = on_terminal(fake(who(first, second, recent(netns=7, pid=702))), "who", 60530, "--no-pager", "--color=never", width=80)
    assert text.count("10.0.0.8") == text.count("10.0.0.9") == 1
    assert text.count("curl[48211]: 60530/tcp") == text.count("curl[702]: 60530/tcp") == 1


def test_pager(fake, directory):
    daemon = fake(who(claim()))
    seen = pathlib.Path(directory) / "seen"
    text, code = on_terminal(daemon, "who", 60530, PORTLEDGER_PAGER=f"cat >{seen}; echo $LESSSECURE >>{seen}; exit 7",
                             PAGER="false")
    assert (text, code) == ("", 0)
    assert "curl[48211]" in seen.read_text()
    assert seen.read_text().endswith("\n1\n" if os.geteuid() == 0 else "\n\n")
    for arguments, environment in (((), {"PAGER": "cat"}), (("--no-pager",), {"PAGER": "false"}), ((), {"PATH": "/nonexistent"})):
        text, code = on_terminal(daemon, "who", 60530, *arguments, **environment)
        assert code == 0 and "curl[48211]" in text


def test_color_only_where_wanted(fake):
    daemon = fake(who(claim(pid=None, comm=None)))
    cases = [((), {}, True), (("--color=never",), {}, False), ((), {"NO_COLOR": "1"}, False), ((), {"NO_COLOR": ""}, True),
             ((), {"TERM": "dumb"}, False), (("--color=always",), {"NO_COLOR": "1", "TERM": "dumb"}, True)]
    for arguments, environment, wanted in cases:
        text, _ = on_terminal(daemon, "who", 60530, "--no-pager", *arguments, **environment)
        assert ("\x1b[33m" in text) == wanted, (arguments, environment)
    assert "\x1b" not in run(daemon, "who", 60530).stdout
    assert "\x1b[33m" in run(daemon, "who", 60530, "--color=always").stdout


def test_a_reader_that_goes_away_is_no_error(fake):
    daemon = fake({"Claims": {"claims": [claim()] * 256, "cursor": "on", "coverage": None}})  # never ends
    result = subprocess.run(f"{CLIENT} --socket {daemon.path} history --json=short | head -n 1", shell=True,
                            capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert json.loads(result.stdout)["port"] == 60530 and result.stderr == ""


def test_output_that_cannot_be_written_is_an_error(fake):
    daemon = fake(who(claim()))
    with open("/dev/full", "w", encoding="ascii") as full:
        result = subprocess.run([CLIENT, "--socket", daemon.path, "who", "60530"], stdout=full, stderr=subprocess.PIPE,
                                timeout=PATIENCE, check=False)
    assert result.returncode == 5 and b"standard output" in result.stderr
