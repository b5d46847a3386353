# SPDX-License-Identifier: MIT
"""What the client does when it is asked wrongly, when nobody answers, and when a hostile server does."""
import grp
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess

import pytest

from conftest import CLIENT, PATIENCE, ROOT
from fakedaemon import NIGHT, FakeDaemon, audit, claim, coverage, error, explain, program, status
from test_client_answers import COLUMNS, MINUTE, PROGRAM_COLUMNS, make_fake, on_terminal, run, who  # noqa: F401 (make_fake is the fixture "fake")

# what a terminal obeys or what reorders text, but for the newline
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
HOSTILE = "ev\x1b[31mil\x07\r\n) R 1\t\x7f\u009b31m\u202etxt,\"'=\\x1b\\"


def hostile_answers():
    bad = claim(**{name: HOSTILE for name, value in claim().items() if isinstance(value, str)}, netns_name=HOSTILE, netns=1,
                exe_note=HOSTILE, pid=7, holders=[{"pid": 8, "comm": HOSTILE, "exe": HOSTILE, "unit": HOSTILE, "from_usec": 1,
                                                   "until_usec": None}])
    unnamed = {**bad, "pid": None}
    receipt = coverage(stretches=[{"from_usec": 0, "until_usec": 2**50, "source": HOSTILE, "interval_usec": 1,
                                   "udp_connect": False, "failures": False}],
                       gaps=[{"from_usec": 0, "until_usec": 2**50, "reason": HOSTILE, "lost": 3}], degraded=[HOSTILE])
    open_claims = [{**c, "closed_usec": None, "released_usec": None} for c in (bad, unnamed)]
    return {
        "Who": {"claims": [bad, unnamed], "coverage": receipt},
        "Claims": {"claims": open_claims, "cursor": None, "coverage": receipt},
        "Explain": explain(now=open_claims, last=[bad], coverage=receipt),
        "Audit": audit(program(exe=HOSTILE, comm=HOSTILE, unit=HOSTILE, user=HOSTILE), omitted=1, servers=[bad],
                       reasons={HOSTILE: 1}, coverage=coverage(stretches=[], gaps=receipt["gaps"])),
        "Apps": {"apps": [{
            "name": HOSTILE, "file": True, "first_usec": 1, "last_usec": None, "last_before_usec": 1, "new": True, "claims": 2,
            "ports": 1, "connected": 1, "listening": 1, "bound": 0, "accepted": 0, "low": 1, "high": 1,
            "preferred": [{"port": 1, "claims": 2}], "serves": [{"port": 0, "protocol": HOSTILE}, {"port": 1, "protocol": "tcp"}],
            "units": [HOSTILE], "units_more": True, "uids": [0, 4242], "uids_more": True, "comms": [HOSTILE, HOSTILE],
            "comms_more": False}], "omitted": 1, "coverage": receipt},
        "Pressure": {"pressure": [{
            "scope": scope, "protocol": HOSTILE, "netns": 1, "netns_name": HOSTILE, "local_address": HOSTILE,
            "remote_address": HOSTILE, "remote_port": 1, "low": 1, "high": 2, "available": 2, "used": 2, "time_wait": 2, "peak": 2,
            "peak_usec": 1, "peak_time_wait": 2, "claims": 2, "grown": -2, "bound_first": True, "full_usec": None,
            "openers": [{"comm": HOSTILE, "exe": HOSTILE, "unit": HOSTILE, "uid": 0, "claims": 2}]}
            for scope in ("destination", HOSTILE)], "omitted": 1, "coverage": receipt},
        "Listeners": {"listeners": [{**c, "reserved": False, "sockets": 1, "tenures": 1, "collisions": 1, "collision_usec": 1,
                                     "collision_comm": HOSTILE, "collision_exe": HOSTILE, "collision_unit": HOSTILE}
                                    for c in open_claims], "omitted": 0, "ephemeral_range": {"low": 32768, "high": 60999},
                      "netns": 1, "reserved": "1080", "coverage": receipt},
        "Status": status(rung=HOSTILE, version=HOSTILE, degraded=[HOSTILE], used={HOSTILE: 3},
                         processes=[{"name": HOSTILE, "pid": 1, "cpu_usec": 1, "pss_bytes": None}]),
        "Doctor": {"checks": [{"name": HOSTILE, "level": HOSTILE, "text": HOSTILE, "fix": HOSTILE}]},
        "Follow": [{"event": "opened", "claims": [bad, unnamed], "lost": 1}],
    }


VERBS = (["status"], ["60530"], ["who", "60530"], ["now"], ["history"], ["audit"], ["doctor"], ["follow"],
         ["listeners"], ["pressure"], ["apps"], ["app", "x"])


@pytest.mark.parametrize("mode", ["--json=off", "--json=short", "--json=pretty", "--csv", "-Fcomm", "--columns=comm,exe,unit"])
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_no_hostile_byte_reaches_the_output(fake, mode, locale):
    daemon = fake(hostile_answers())
    for verb in VERBS:
        if (mode == "-Fcomm" and verb[0] in ("status", "doctor", "pressure", "apps", "app")) or (
                mode.startswith("--columns") and verb[0] not in ("who", "now", "history", "audit", "listeners")):
            continue  # these have no such columns
        result = run(daemon, *verb, mode, LC_ALL=locale)
        assert result.returncode in (0, 1), (verb, result.stderr)
        for text in (result.stdout.replace("\r\n", "\n"), result.stderr):
            assert not FORBIDDEN.search(text), (verb, mode, text)
        assert "\\x1b[31mil" in result.stdout or "\\u001b[31mil" in result.stdout or mode == "-Fcomm" or verb == ["audit"]


def test_no_hostile_byte_reaches_a_terminal(fake):
    daemon = fake(hostile_answers())
    for verb in VERBS:
        for width in (40, 80, 300):
            text, _ = on_terminal(daemon, *verb, "--no-pager", width=width)
            assert not FORBIDDEN.search(re.sub("\x1b\\[[0-9;]*m", "", text)), (verb, text)


def test_a_hostile_error_is_told_without_its_bytes(fake):
    daemon = fake({"Who": error("a.b." + HOSTILE, reason=HOSTILE)})
    result = run(daemon, "who", 60530)
    assert result.returncode == 5 and not FORBIDDEN.search(result.stderr)


@pytest.mark.parametrize("reply, code, text", [
    (error("org.portledger.ledger.StoreUnavailable", reason="no such file"), 5, "no such file"),
    (error("org.portledger.ledger.QueryTooLong", limit_usec=1), 5, "shorter window"),
    (error("org.portledger.ledger.TooManyClients", limit=64), 5, "as many clients"),
    (error("org.portledger.ledger.InvalidRange", parameter="from_usec"), 2, "from_usec"),
    (error("org.varlink.service.InvalidParameter", parameter="filter"), 2, "filter"),
    (error("org.varlink.service.PermissionDenied"), 4, "denies"),
    (error("org.varlink.service.MethodNotFound", method="Who"), 5, "another version"),
    (error("com.example.Else"), 5, "com.example.Else"),
    (b"", 5, "closed the connection"),
    (b"{", 5, "closed the connection"),
    (b"\0", 5, "not Varlink"),
    (b"{}x\0", 5, "not Varlink"),
    (b"[]\0", 5, "not Varlink"),
    (b'{"parameters":[]}\0', 5, "not Varlink"),
    (b'{"parameters":{"claims":1e999}}\0', 5, "not Varlink"),
    (b'{"parameters":' + b'{"a":' * 500 + b"1" + b"}" * 501 + b"\0", 5, "not Varlink"),
    ({}, 5, "not of this interface: claims"),
    ({"claims": [], "coverage": None}, 5, "no receipt"),
], ids=range(18))
def test_failures_have_their_exit_codes(fake, reply, code, text):
    result = run(fake({"Who": reply}), "who", 60530)
    assert (result.returncode, result.stdout) == (code, "") and text in result.stderr


@pytest.mark.parametrize("arguments, advice", [
    ([], "ask for whole hours"), (["--unit", "a.service", "--by", "hour"], "ask for whole hours"), (["--by", "port"], "ask without"),
    (["--range", "iana"], "ask without"), (["--pid", "1"], "ask without"), (["--diff", "yesterday"], "ask for whole hours"),
])
def test_an_audit_that_takes_too_long_says_what_would_not(fake, arguments, advice):
    result = run(fake({"Audit": error("org.portledger.ledger.QueryTooLong", limit_usec=20_000_000)}), "audit", "-S", "-1h", *arguments)
    lines = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (5, "") and "longer than the daemon may work" in lines[0]
    assert advice in " ".join(line.removeprefix("portledger: ") for line in lines) and max(map(len, lines)) <= 80


def test_an_endless_answer_is_given_up(fake):
    result = run(fake({"Who": b"x" * (16 * 1024 * 1024 + 2)}), "who", 60530)
    assert result.returncode == 5 and "longer than" in result.stderr


@pytest.mark.parametrize("wrong", [None, "x", -1, 1.5, [], {}, True, 2**63 - 1])
def test_no_member_is_trusted_to_have_its_type(fake, wrong):
    """Each member of a claim and of a receipt in turn: either it may be so, or it is error 5. Never a crash."""
    wrongs = [who({**claim(), name: wrong}) for name in claim()]
    wrongs += [{"Who": {"claims": [], "coverage": {**coverage(), name: wrong}}} for name in coverage()]
    stretch = coverage()["stretches"][0]
    wrongs += [who(stretches=[{**stretch, name: wrong}]) for name in stretch]
    wrongs += [who(gaps=[{"from_usec": 1, "until_usec": 2, "reason": "r", "lost": 1, name: wrong}])
               for name in ("from_usec", "until_usec", "reason", "lost")]
    wrongs += [who({**claim(), "holders": [wrong]}), {"Who": {"claims": wrong, "coverage": coverage()}}]
    current = {}
    daemon = fake({"Who": lambda _: current["Who"]})
    codes = set()
    for current in wrongs:
        codes.add(run(daemon, "who", 60530).returncode)
        assert codes <= {0, 1, 5}, current
    assert 5 in codes


@pytest.mark.parametrize("arguments", [
    ["nonsense"], ["0"], ["65536"], ["60530/sctp"], ["60530", "60531"], ["who"], ["who", "1", "--at", "25:61"],
    ["who", "1", "--at", "now", "-S", "today"], ["who", "1/tcp", "--proto", "udp", "2/udp"], ["history", "-S", "gibberish"],
    ["history", "-S", "today", "-U", "yesterday"], ["history", "-n", "0"], ["history", "--pid", "x"], ["now", "-S", "today"],
    ["now", "--user", "no-such-user"], ["now", "--proto", "sctp"], ["now", "--role", "x"], ["now", "--addr", "localhost"],
    ["now", "--peer", "1.2.3.4:"], ["now", "--peer", "[::1"], ["now", "--range", "9-1"], ["audit", "60530"],
    ["audit", "--overnight", "-S", "today"], ["status", "--at", "now"], ["--json"], ["--json=x"], ["--nonsense"], ["-x"],
    ["--no-legend=1"], ["--color=x"], ["help", "nonsense"], ["config", "--socket", "/x"], ["-n"], ["now", "--columns=,"], ["status", "--columns=rung"], ["60530", "--columns=port"], ["follow", "--columns=port"],
])
def test_usage(arguments):
    result = run(None, *arguments)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert re.fullmatch(r"portledger: .+\n(Try: portledger ([a-z]+ )?--help\n)?", result.stderr)


@pytest.mark.parametrize("arguments, verb", [
    (["who"], "who"), (["history", "--proto", "sctp"], "history"), (["--proto=sctp", "history"], "history"), (["history", "--limt=3"], "history"),
    (["-n0", "60530"], "explain"), (["audit", "--by"], "audit"), (["history", "-x", "--json=x"], "history"), (["now", "-S", "today"], "now"),
    (["--json=x"], None), (["nonsense", "--json=x"], None), (["help", "--json=x"], None), (["help", "nonsense"], None),
])
def test_whose_help_is_named(arguments, verb):
    """That of the verb that was meant, wherever the fault is; else all help."""
    assert run(None, *arguments).stderr.splitlines()[1:] == [f"Try: portledger {verb + ' ' if verb else ''}--help"]


def test_what_to_do_instead(fake, directory):
    """An error names the next step, where one can be told."""
    assert run(None, "history", "50000-50010").stderr.startswith("portledger: not a port (1 to 65535); more of them are a --range: 50000-50010\n")
    assert run(None, "history", "x").stderr.startswith("portledger: not a port (1 to 65535): x\n")
    for words in (["-F", "prot"], ["--columns", "port,prot"]):
        assert run(fake({}), "history", *words).stderr == "portledger: there is no column prot; did you mean port?\n"
    assert run(fake({}), "history", "-F", "nothing_like_it").stderr == "portledger: there is no column nothing_like_it; the manual lists them\n"
    checks = json.loads(run(None, "--socket", directory / "none", "doctor", "-j").stdout)
    assert checks["fix"] == f"portledgerd --socket {directory / 'none'} --state DIR"


def test_help_and_version():
    for arguments in (["help"], ["--help"], ["-h"], ["who", "--help"], ["help", "who"], ["--version"], ["version"]):
        result = run(None, *arguments)
        assert result.returncode == 0 and result.stdout.startswith("portledger ") and result.stderr == ""
    assert run(None, "help", "who").stdout == run(None, "who", "--help").stdout
    assert run(None, "no-such-verb").returncode == 2


def test_the_manual_names_all_members():
    """Of a claim and of a row of an audit, in their order."""
    blocks = [block.split() for block in re.findall(r"\n\n((?:\t.*\n)+)\n", (ROOT / "man/portledger.1.scd").read_text())]
    assert COLUMNS in blocks and PROGRAM_COLUMNS in blocks


def test_help_of_each_verb_has_examples_and_fits_80_columns():
    assert all(len(line) <= 80 and not line.startswith(" " * 20) for line in run(None, "help").stdout.splitlines())
    verbs = set(re.findall(r"^  ([a-z]+) ", run(None, "help").stdout.split("\n\n")[1], re.M)) - {"portledger"}
    assert len(verbs) > 15
    for verb in verbs:
        text = run(None, verb, "--help").stdout
        # what completions read has a line each
        assert all(len(line) <= 80 and not line.startswith(" " * 20) for line in text.splitlines()), text
        assert verb in ("help", "version") or "Examples:\n  " in text, verb
        # each example is taken, but for what a shell does with it
        for command in re.findall(r"^  portledger (.*?)(?:  .*)?$", text.partition("Examples:")[2], re.M):
            words = shlex.split(re.split("[<>|]", command)[0])
            result = run(None, *words, "--help")
            assert result.returncode == 0, (command, result.stderr)


@pytest.mark.parametrize("closing, arguments", [
    ("<&-", ["annotate"]), (">&-", ["annotate"]), (">&-", ["export"]), (">&-", ["who", "60530"]), (">&- 2>&-", ["history"])])
def test_closed_descriptors_are_not_the_connection(make_daemon, closing, arguments):
    """Where nothing can be read or written, that is an error, and what was to be said is not said to the daemon."""
    daemon = make_daemon().start()
    result = subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", CLIENT, "--socket", daemon.socket, *arguments],
                            input=b"{}\n", capture_output=True, timeout=PATIENCE, check=False)
    assert (result.returncode, result.stdout) == (5, b""), result
    assert ("2>" in closing) == (result.stderr == b"")


def test_no_daemon_is_3_and_says_how_to_start_it(directory):
    stale = str(directory / "stale")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(stale)  # nobody listens
    for path in (str(directory / "none"), stale):
        for verb in (["status"], ["who", "60530"], ["now"], ["history"], ["audit"], ["follow"]):
            result = run(None, *verb, "--socket", path)
            assert (result.returncode, result.stdout) == (3, "")
            assert f"no daemon answers at {path}" in result.stderr and "start it with" in result.stderr
        result = run(None, "doctor", "--socket", path)
        assert result.returncode == 3 and "no daemon answers" in result.stdout and "fix: " in result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: only root can make a socket that it may not open")
def test_permission_denied_names_the_group(directory):
    os.chmod(directory, 0o755)
    group = grp.getgrnam("adm")
    with FakeDaemon(directory / "control", {}) as daemon:
        os.chown(daemon.path, 0, group.gr_gid)
        os.chmod(daemon.path, 0o660)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", CLIENT, "--socket", daemon.path, "status"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert result.returncode == 4 and re.search(r"usermod -aG adm \w+", result.stderr)
        os.chmod(daemon.path, 0o600)
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert result.returncode == 4 and "no group to join" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: only root can listen as somebody else")
@pytest.mark.parametrize("verb", ["status", "now", "60530", "doctor"])
def test_a_stranger_behind_the_socket_is_not_asked(directory, verb):
    """He hears nothing, and what he has said already is not read."""
    os.chmod(directory, 0o777)
    path = str(directory / "control")
    server = subprocess.Popen(
        ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "/usr/bin/python3", "-c",
         "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint('up', flush=True)\n"
         "c,_=s.accept()\nheard=b''\ntry:\n c.sendall(b'{\"error\":\"a.b\"}\\0')\n heard=c.recv(9999)\n"
         "except OSError: pass\nprint(heard, flush=True)", path], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"up\n"
    result = run(None, verb, "--socket", path)
    with server.stdout:
        assert server.stdout.readline() == b"b''\n"
    server.wait(PATIENCE)
    assert result.returncode == 5 and "uid 4242, neither root nor portledger nor you" in result.stdout + result.stderr
    assert "a.b" not in result.stdout + result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: only root can listen as somebody else")
def test_who_may_be_the_daemon(directory, namespace):
    """Root, oneself and the user portledger, who is known by name, are asked; the same uid without that name is not."""
    os.chmod(directory, 0o777)
    users = directory / "passwd"
    users.write_bytes(pathlib.Path("/etc/passwd").read_bytes() + b"portledger:x:4242:4242::/:/usr/sbin/nologin\n")
    server = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('up', flush=True)\n"
              "while True:\n c,_=s.accept()\n while c.recv(9999): c.sendall(b'{\"error\":\"a.b\"}\\0')")
    for uid, asker, named, code in [(4242, 0, True, 5), (4242, 0, False, 5), (4242, 4242, False, 5), (0, 4242, False, 5)]:
        path = str(directory / f"{uid}-{asker}-{named}")
        with subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", server,
                               path], stdout=subprocess.PIPE) as listener:
            assert listener.stdout.readline() == b"up\n"
            os.chmod(path, 0o777)
            mount = f"mount --bind {users} /etc/passwd && " if named else ""
            result = subprocess.run(["unshare", "-m", "sh", "-c", mount + 'exec "$0" "$@"', "setpriv", f"--reuid={asker}",
                                     f"--regid={asker}", "--clear-groups", CLIENT, "--socket", path, "status"],
                                    capture_output=True, text=True, timeout=PATIENCE, check=False)
            listener.kill()
        asked = uid in (0, asker) or named
        assert result.returncode == code and ("a.b" in result.stderr) == asked and ("not asked" in result.stderr) != asked, result


def test_without_a_daemon_the_port_is_still_explained(namespace, actor):
    port = actor.do("listener('l')")
    command = namespace.enter(CLIENT, "--socket", "/nonexistent/control")
    result = subprocess.run([*command, str(port)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0 and f"[{actor.pid}] is a server here" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("history is missing: no daemon answers at /nonexistent/control")
    result = subprocess.run([*command, str(port), "-j"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    whole, receipt = map(json.loads, result.stdout.splitlines())
    assert whole["now"][0]["pid"] == actor.pid and whole["now"][0]["opened_usec"] is None and receipt == {"coverage": None}
    assert "history is missing" in result.stderr
    free = subprocess.run([*command, "65000"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert free.returncode == 1 and "Free now." in free.stdout
    # the roles are the daemon's, and who may not look into other users' processes is told so
    actor.do(f"client('c', {port})")
    actor.do("accept('l', 'a')")
    result = subprocess.run([*command, str(port), "-F", "role"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert sorted(result.stdout.split()) == ["accepted", "listening"]
    if os.geteuid() == 0:
        user = namespace.enter("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", CLIENT, "--socket", "/nonexistent/x")
        result = subprocess.run([*user, str(port)], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert "unknown (uid 0)" in result.stdout and "processes of other users unnamed" in result.stdout


def test_config(directory):
    path = directory / "portledger.conf"
    path.write_text("[Capture]\nInterval=250ms\n")
    rows = [json.loads(line) for line in run(None, "config", "--config", path, "-j").stdout.splitlines()]
    assert list(rows[0]) == ["section", "key", "value", "from"]
    by_key = {row["key"]: row for row in rows}
    assert by_key["Interval"] == {"section": "Capture", "key": "Interval", "value": "250ms", "from": f"{path}:2"}
    assert by_key["MaxAge"]["from"] == "default"
    assert run(None, "config", "--config", path).stdout.splitlines()[0].split() == ["SECTION", "KEY", "VALUE", "FROM"]
    path.write_text("[Capture]\nInterval=\x1bx\n")
    result = run(None, "config", "--config", path)
    assert (result.returncode, result.stdout) == (5, "") and f"{path}:2" in result.stderr
    assert not FORBIDDEN.search(result.stderr)


@pytest.mark.parametrize("comm, exe, name", [
    ("curl", "/usr/bin/curl7", "curl"), ("", "/usr/bin/curl", "curl"), (None, "/usr/bin/curl", "curl"), (None, "curl", "curl"), ("", None, None)])
def test_a_process_without_a_name_is_called_by_its_file(fake, comm, exe, name):
    """A process may call itself nothing: "" and null are the same here."""
    opener = {"comm": comm, "exe": exe, "unit": None, "uid": 0, "claims": 9}
    row = {"scope": "destination", "protocol": "tcp", "netns": 1, "netns_name": None, "local_address": "1.2.3.4", "remote_address": "1.2.3.5",
           "remote_port": 443, "low": 1, "high": 10, "available": 10, "used": 9, "time_wait": 0, "peak": 9, "peak_usec": NIGHT,
           "peak_time_wait": 0, "claims": 9, "grown": 0, "bound_first": False, "full_usec": None, "openers": [opener]}
    daemon = fake({**who(claim(comm=comm, exe=exe)), "Pressure": {"pressure": [row], "omitted": 1, "coverage": coverage()}})
    assert f" {name or '?'}[48211] " in run(daemon, "who", 60530).stdout
    text = run(daemon, "pressure").stdout
    assert f" {name or 'unknown'} 9\n" in text and f"reuse connections in {name or 'the program'};" in text
    assert "\n1 further destination is less full: see -n.\n" in text


@pytest.mark.parametrize("begin, reason", [(0, "stopped"), (10, None)])
def test_failures_are_unwatched_for_the_reason_that_covers_it(fake, begin, reason):
    """Where a stop is only a part of why failures were not watched, it is not the reason of the whole."""
    half = MINUTE + 30_000_000
    stretch = {"from_usec": half, "until_usec": MINUTE + 60_000_000, "source": "events", "interval_usec": 1_000_000, "udp_connect": True,
               "failures": True}
    gap = {"from_usec": MINUTE + begin * 1_000_000, "until_usec": half, "reason": "stopped", "lost": None}

    def told(until, stretches):
        receipt = coverage(MINUTE, until, lost=0, gaps=[gap], stretches=stretches)
        return run(fake({"Failures": {"failures": [], "cursor": None, "coverage": receipt}}), "failures").stdout

    assert told(stretch["until_usec"], [stretch]).endswith(f"not watched before 03:12:30{f' ({reason})' if reason else ''}\n")
    assert told(half, []).endswith(f"03:12:00-03:12:30{f': {reason}' if reason else ''})\n")


@pytest.mark.parametrize("count, holes, gaps", [(3, None, None), (4, "and 1 more time", "and 1 more gap"), (5, "and 2 more times", "and 2 more gaps")])
def test_a_receipt_counts_what_it_does_not_name(fake, count, holes, gaps):
    def told(watched):
        stretches = [{"from_usec": MINUTE + 10 * i + watched, "until_usec": MINUTE + 10 * i + 10, "source": "events", "interval_usec": 1_000_000,
                      "udp_connect": True, "failures": True} for i in range(count)]
        inside = [{"from_usec": MINUTE + 10 * i + 5, "until_usec": MINUTE + 10 * i + 6, "reason": "overflow", "lost": 1} for i in range(count)]
        receipt = coverage(MINUTE, MINUTE + 10 * count, lost=0, gaps=[] if watched else inside, stretches=stretches)
        return run(fake({"Claims": {"claims": [], "cursor": None, "coverage": receipt}}), "history").stdout

    for text, more in ((told(4), holes), (told(0), gaps)):
        assert text.endswith(f" {more}\n") if more else " more " not in text, text
