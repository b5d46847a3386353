# SPDX-License-Identifier: MIT
"""The client where memory, or another thing that the system has to give, runs out: in the middle of anything, it gives its whole answer
or says why it has none. `client-scarce` refuses each in its turn; what it is told is short, but has something of everything."""
import json
import os
import random
import subprocess

import pytest

import nightly
from conftest import SUPPORT
from fakedaemon import NIGHT, FakeDaemon, audit, claim, coverage, explain, program, status

HOLDER = {"pid": 8, "comm": "child", "exe": None, "unit": "u.service", "from_usec": NIGHT, "until_usec": None}
FAR = claim(port=60531, closed_usec=None, released_usec=None, closed_after_usec=None, family="ipv6", local_address="::1", uid=4242,
            exe_note="deleted", holders=[HOLDER, {**HOLDER, "comm": None, "pid": 9}], protocol="udp")
NOBODY = claim(pid=None, comm=None, exe=None, parent_pid=None, parent_comm=None, attribution="uid", role=None, remote_address=None,
               remote_port=None, uid=12, count=7, ports=[60530, 60531, 60532, 60540], unit="x.service")
KERNEL = claim(pid=None, comm=None, exe=None, uid=None, unit=None, attribution="kernel", netns_name="web-1")
SINCE, UNTIL = NIGHT - 7_114_000, NIGHT + 52_886_000
WATCHED = [{"from_usec": SINCE, "until_usec": NIGHT, "source": "sweep", "interval_usec": 1_000_000, "udp_connect": False, "failures": False},
           {"from_usec": NIGHT + 5, "until_usec": NIGHT + 10, "source": "events", "interval_usec": 5, "udp_connect": True, "failures": True},
           {"from_usec": NIGHT + 20, "until_usec": NIGHT + 30, "source": "procnet", "interval_usec": 5, "udp_connect": False, "failures": True},
           {"from_usec": NIGHT + 40, "until_usec": NIGHT + 50, "source": "destroy", "interval_usec": 5, "udp_connect": False, "failures": False},
           {"from_usec": NIGHT + 60, "until_usec": NIGHT + 70, "source": "sweep", "interval_usec": 7, "udp_connect": False, "failures": False}]
GAPS = [{"from_usec": NIGHT, "until_usec": NIGHT + 5, "reason": "killed", "lost": None}] + [
    {"from_usec": NIGHT + 100 * n, "until_usec": NIGHT + 100 * n + 50, "reason": "ring-full", "lost": n} for n in range(5)]
HOLES = coverage(stretches=WATCHED, gaps=GAPS, lost=3,
                 coalesced=[{"from_usec": SINCE, "until_usec": NIGHT, "claims": 12, "rows": 1}],
                 parts=[{"from_usec": SINCE, "until_usec": NIGHT, "counted": "hours"},
                        {"from_usec": NIGHT, "until_usec": UNTIL, "counted": "rows"}])
FAILURE = {"usec": NIGHT, "call": "bind", "error": "in_use", "port": 8080, "protocol": "tcp", "family": "ipv4", "netns": 1, "netns_name": "web",
           "local_address": "0.0.0.0", "remote_address": None, "remote_port": None, "pid": 7, "comm": "web", "exe": "/w", "uid": 0, "user": None,
           "unit": None, "holder_pid": 9, "holder_comm": "old", "holder_exe": "/o", "holder_unit": None, "holder_uid": 0}
APP = {"name": "/usr/bin/curl", "file": True, "first_usec": 1, "last_usec": NIGHT, "last_before_usec": 1, "new": True, "claims": 2, "ports": 1,
       "connected": 1, "listening": 1, "bound": 0, "accepted": 0, "low": 1, "high": 1, "preferred": [{"port": 1, "claims": 2}],
       "serves": [{"port": 0, "protocol": "udp"}, {"port": 1, "protocol": "tcp"}], "units": ["a.service", "b.service"],
       "units_more": True, "uids": [0, 4242], "uids_more": True, "comms": ["curl", "x"], "comms_more": False}
PRESSED = {"protocol": "tcp", "netns": 1, "netns_name": "web", "local_address": "10.0.0.1", "remote_address": "10.0.0.2", "remote_port": 443,
           "low": 1, "high": 200, "available": 200, "used": 190, "time_wait": 2, "peak": 190, "peak_usec": NIGHT, "peak_time_wait": 2,
           "claims": 2, "grown": -2, "bound_first": True, "full_usec": NIGHT + 9, "openers": [
               {"comm": "curl", "exe": "/usr/bin/curl", "unit": None, "uid": 0, "claims": 2},
               {"comm": None, "exe": None, "unit": "u.service", "uid": None, "claims": 1}]}
LISTENER = {**FAR, "role": "listening", "reserved": False, "sockets": 1, "tenures": 1, "collisions": 1, "collision_usec": 1,
            "collision_comm": "x", "collision_exe": None, "collision_unit": None}


def few(answer):
    """A report's answer, with few programs and ports. It is asked for again and again."""
    made = {}

    def shortened(parameters):
        asked = json.dumps(parameters)
        if asked not in made:
            whole = made[asked] = answer(parameters)
            if "programs" in whole:
                whole["programs"] = whole["programs"][:4]
                whole["port_claims"] = whole["port_claims"][:200]
        return made[asked]
    return shortened


def pages(parameters):
    more = "cursor" not in parameters
    return {"claims": [FAR, NOBODY] if more else [claim(), KERNEL], "cursor": "c" if more else None,
            "coverage": None if more else HOLES}


def released(parameters):
    first = parameters.get("cursor") is None and not parameters.get("open")
    return {"claims": [claim(), NOBODY] if first else [FAR], "cursor": "r1.5.0", "last": not first, "coverage": None if first else HOLES}


def annotated(parameters):
    answers = [{"source": claim(), "destination": FAR, "others": 2, "reason": None},
               {"source": None, "destination": NOBODY, "others": 0, "reason": None},
               {"source": None, "destination": None, "others": 0, "reason": "nobody"}]
    return {"answers": [answers[i % 3] for i in range(len(parameters["flows"]))]}


ANSWERS = {
    "Who": pages, "Claims": pages, "Released": released, "Annotate": annotated,
    "Status": status(degraded=["the disk is full"], lost=2, lost_ends=1),
    "Explain": explain(now=[FAR, NOBODY], last=[claim(), KERNEL], listened=[LISTENER], coverage=HOLES, service="http"),
    "Audit": audit(program(failures=2, port=60530, protocol="tcp", netns=1, netns_name="web-1"), program(exe=None, uid=4242, new=True),
                   program(exe=None, comm=None), omitted=1, servers=[FAR, claim(role="listening")], servers_omitted=2, failures=3,
                   unattributed=5, reasons={"uid": 2, "kernel": 3}, coverage=HOLES),
    "Failures": {"failures": [FAILURE, {**FAILURE, "holder_pid": None, "holder_comm": None, "holder_exe": None, "call": "connect",
                                        "error": "not_available", "port": None, "remote_address": "10.0.0.2", "remote_port": 443}],
                 "cursor": None, "coverage": HOLES},
    "Apps": {"apps": [APP, {**APP, "name": "x", "file": False, "new": False, "preferred": [], "serves": [], "units": [], "uids": []}],
             "omitted": 1, "coverage": HOLES},
    "Pressure": {"pressure": [{"scope": scope, **PRESSED} for scope in ("destination", "range", "bound")], "omitted": 1, "coverage": HOLES},
    "Listeners": {"listeners": [LISTENER, {**LISTENER, "reserved": True, "port": 1080}], "omitted": 0,
                  "ephemeral_range": {"low": 32768, "high": 60999}, "netns": 1, "reserved": "1080", "coverage": HOLES},
    "Doctor": {"checks": [{"name": "store", "level": "wrong", "text": "what", "fix": "so"},
                          {"name": "rung", "level": "good", "text": "what", "fix": None}]},
    "Follow": [{"event": "opened", "claims": [claim(), NOBODY], "lost": 1}, {"event": "released", "claims": [FAR], "lost": 0}],
    "Activity": few(nightly.activity), "Occupancy": few(nightly.occupancy),
    "Receipt": {"coverage": HOLES}, "Sync": {"commit": 5, "until_usec": NIGHT},
}
WINDOW = ("-S", "2026-11-23 03:12:00 UTC", "-U", "2026-11-23 03:13:00 UTC")
OTHER = ("--diff", "2026-11-22 03:12:00 UTC")
LOG = "\n".join(json.dumps(line) for line in (
    {"timestamp": "2026-11-23T03:12:07.114000+0000", "flow_id": 1, "src_ip": "10.0.0.5", "src_port": 60530, "dest_ip": "1.2.3.4",
     "dest_port": 443, "proto": "TCP"},
    {"timestamp": "2026-11-23T03:12:08.114000+0000", "src_ip": "10.0.0.5", "src_port": 60531, "dest_ip": "10.0.0.6", "dest_port": 80,
     "proto": "UDP"},
    {"timestamp": "soon"}, {"a": 1})) + "\nno JSON\n"
QUESTIONS = {
    "status": ["status"], "status-json": ["status", "--json=pretty"], "explain": ["60530"], "explain-json": ["60530/udp", "--json=pretty", "--netns", "web-1"],
    "who": ["who", "60530"], "who-csv": ["who", "60530", "--csv"], "who-field": ["who", "60530", "-Fexe"],
    "who-pretty": ["who", "60530", "--json=pretty"], "who-twice": ["who", "60530", "--at", "2026-10-25 02:30 Europe/Berlin"],
    "now": ["now", "--app", "curl", "--unit", "x.service", "--user", "0"], "now-columns": ["now", "--columns=port,user,ports,holders,local_address"],
    "history": ["history", *WINDOW], "history-json": ["history", "--json=short", "--peer", "10.0.0.1:443", *WINDOW],
    "audit": ["audit", *WINDOW], "audit-json": ["audit", "--json=pretty", *WINDOW], "audit-ports": ["audit", "--by", "port", *WINDOW],
    "diff": ["audit", *WINDOW, *OTHER], "diff-json": ["audit", "--json=short", *WINDOW, *OTHER], "failures": ["failures", *WINDOW],
    "listeners": ["listeners"], "sysctl": ["listeners", "--sysctl"], "pressure": ["pressure"], "pressure-json": ["pressure", "--json=pretty"],
    "apps": ["apps", *WINDOW], "app": ["app", "curl", *WINDOW], "app-json": ["app", "curl", "--json=pretty"], "doctor": ["doctor"],
    "config": ["config"], "export": ["export", *WINDOW], "export-csv": ["export", "--format=csv", *WINDOW],
    "export-sqlite": ["export", "--format=sqlite", "--to={}", *WINDOW], "export-open": ["export", "--open", *WINDOW],
    "export-cursor": ["export", "--cursor-file={}"],
    "annotate": ["annotate"], "annotate-columns": ["annotate", "--columns=comm,user,exe", "--json=short"],
    "report-app": ["report", "-o", "{}.html", "--app", "curl", *WINDOW],
    "report-svg": ["report", "-o", "{}.svg", "60530", *WINDOW],
}
WIDE = ("status", "explain", "who", "now", "history", "audit", "diff", "failures", "listeners", "pressure", "apps", "app", "doctor")
# Of each verb one question, of each form one verb: what is tried before every commit; and of what can be refused, every fourth thing, others
# in each run.
SHORT = {"status", "explain", "who-pretty", "now-columns", "history", "audit", "diff-json", "failures", "listeners", "sysctl", "pressure",
         "apps", "app-json", "doctor", "config", "export-csv", "export-sqlite", "export-cursor", "annotate", "report-svg"}
WIDE_SHORT = {"explain", "history", "diff", "listeners", "doctor"}


def some(questions, short):
    return [pytest.param(q, 4) for q in questions if q in short] + [pytest.param(q, 1, marks=pytest.mark.long) for q in questions]


def ask(directory, question, step=1, **environment):
    # a report is long, and a database waits for the disk
    step *= 5 if question.startswith("report") or question == "export-sqlite" else 1
    first = random.randrange(step)
    fresh, log = directory / "out", directory / "log"
    log.write_text(LOG, encoding="utf-8")
    with FakeDaemon(directory / "control", ANSWERS) as fake, open(log, encoding="utf-8") as stdin:
        result = subprocess.run(
            [SUPPORT / "client-scarce", *(word.format(fresh) for word in QUESTIONS[question])], stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, check=False, text=True, errors="replace", timeout=600, env={
                **os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8", "PORTLEDGER_SOCKET": fake.path, "SCARCE_FRESH": str(fresh),
                "SCARCE_STEP": str(step), "SCARCE_FIRST": str(first), **environment})
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    refused = int(result.stdout.splitlines()[-1].split()[0])
    assert refused * step > 20, "there was hardly anything to refuse"
    return fake.calls


@pytest.mark.parametrize("question, step", some(QUESTIONS, SHORT))
def test_whole_or_an_error(tmp_path, question, step):
    ask(tmp_path, question, step)


@pytest.mark.parametrize("question, asked", [
    ("explain-json", lambda p: (p["protocol"], p["netns"]) == ("udp", "web-1")), ("audit-ports", lambda p: p["by"] == "port"),
    ("annotate", lambda p: all(flow["protocol"] in ("tcp", "udp") for flow in p.get("flows", []))),
    ("history-json", lambda p: p["filter"]["peer_port"] == 443)])
def test_no_question_lacks_a_part(tmp_path, question, asked):
    """It would be another one, and its answer a wrong one."""
    for call in ask(tmp_path, question):
        assert asked(call["parameters"]), call


@pytest.mark.parametrize("question, step", some(WIDE, WIDE_SHORT))
def test_on_a_terminal(tmp_path, question, step):
    ask(tmp_path, question, step, SCARCE_WIDTH="60")
