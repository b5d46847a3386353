# SPDX-License-Identifier: MIT
"""Logs of others, with the process added: Suricata's documented EVE format by hand, tshark's JSON of a real capture of the
test's own traffic, and any NDJSON by the names of its fields. Every record of a watched port has its process or a reason."""
import datetime
import json
import os
import resource
import subprocess
import time

import pytest

from conftest import CLIENT, PATIENCE, wait_for

pytestmark = pytest.mark.any_rung

SUMMARY = ["lines", "process", "no-process", "nobody", "unwatched-port", "not-watching", "expired", "no-ends", "no-time",
           "annotated", "not-json", "too-long"]


def stamp(usec, zone=0):
    """As Suricata writes it: 2016-01-13T17:42:22.730123+0000."""
    t = datetime.datetime.fromtimestamp(usec / 1e6, datetime.timezone(datetime.timedelta(hours=zone)))
    return t.strftime("%Y-%m-%dT%H:%M:%S.%f%z")


def eve(kind, at, src, sport, dst, dport, proto="TCP", **members):
    """A record as the documentation of EVE has it."""
    return {"timestamp": stamp(at), "flow_id": 1805461738637437, "in_iface": "lo", "event_type": kind, "src_ip": src,
            "src_port": sport, "dest_ip": dst, "dest_port": dport, "proto": proto, **members}


ALERT = {"alert": {"action": "allowed", "gid": 1, "signature_id": 2024056, "rev": 4,
                   "signature": "ET MALWARE Win32/CryptFile2 / Revenge Ransomware Checkin", "category": "A Network Trojan",
                   "severity": 1}, "app_proto": "http", "payload_printable": "GET /\u0000x"}
DNS = {"dns": {"version": 2, "type": "answer", "id": 16000, "flags": "8180", "qr": True, "rd": True, "ra": True,
               "rcode": "NOERROR", "rrname": "suricata-ids.org", "rrtype": "A", "answers": [
                   {"rrname": "suricata-ids.org", "rrtype": "A", "ttl": 21600, "rdata": "192.0.78.24"}]}}


def flow(start, end):
    return {"flow": {"pkts_toserver": 23, "pkts_toclient": 19, "bytes_toserver": 3217, "bytes_toclient": 9022,
                     "start": stamp(start), "end": stamp(end, zone=1), "age": 32, "state": "closed", "reason": "timeout",
                     "alerted": False}}


def annotate(daemon, text, *arguments, env=None, namespace=None):
    command = [CLIENT, "--socket", daemon.socket, "annotate", *map(str, arguments)]
    if namespace:
        command = namespace.enter(*command)
    data = text if isinstance(text, bytes) else "".join(
        (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in text).encode()
    result = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=False,
                            env={**os.environ, "TZ": "UTC", **(env or {})})
    result.stderr = result.stderr.decode()
    return result


def annotated(daemon, lines, *arguments):
    """The members that were added, and the summary. Nothing else is changed."""
    result = annotate(daemon, lines, "--json=short", *arguments)
    assert result.returncode in (0, 1), result.stderr
    notes = []
    out = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(out) == len(lines)
    for line, record in zip(lines, out):
        notes.append(record.pop("portledger", None))
        assert record == line
    told = [json.loads(line) for line in result.stderr.splitlines()]
    assert list(told[0]["summary"]) == SUMMARY
    assert sum(told[0]["summary"].values()) == 2 * told[0]["summary"]["lines"] == 2 * len(lines)
    return notes, {k: v for k, v in told[0]["summary"].items() if v}, told[1]["coverage"] if len(told) > 1 else None


@pytest.fixture(name="traffic")
def make_traffic(daemon, make_actor):
    """A server and its client for each family, UDP sockets with and without a peer; all are gone when it is asked."""
    server, client = make_actor(), make_actor()
    made = {"server": server.pid, "client": client.pid, "began": time.time_ns() // 1000}
    for family, address in (("4", "127.0.0.1"), ("6", "::1")):
        at = server.do(f"listener('l{family}', family='{family}')")
        udp = server.do(f"bound('u{family}', 'udp', '{family}')")
        made[family] = {"address": address, "server": at, "client": client.do(f"client('c{family}', {at}, family='{family}')"),
                        "udp": udp, "query": client.do(f"client('q{family}', {udp}, 'udp', '{family}')")}
        server.do(f"accept('l{family}', 'a{family}')")
    daemon.call("org.portledger.ledger.Sync")
    made["seen"] = time.time_ns() // 1000
    for actor in (server, client):
        actor.do("close_all()")
        actor.close()
    for _ in range(3):
        daemon.call("org.portledger.ledger.Sync")
    made["ended"] = time.time_ns() // 1000
    return made


@pytest.mark.parametrize("family", ["4", "6"])
def test_suricata(daemon, traffic, family):
    t, at = traffic[family], traffic["seen"]
    here, server, client = t["address"], t["server"], t["client"]
    lines = [
        eve("alert", at, here, client, here, server, **ALERT),
        eve("alert", at, here, server, here, client, **ALERT),  # the other direction
        eve("flow", traffic["ended"] + 30_000_000, here, client, here, server, **flow(at, at + 1000)),
        eve("flow", traffic["ended"] + 30_000_000, here, server, here, client, **flow(at, at + 1000)),
        eve("dns", at, here, t["udp"], here, t["query"], "UDP", **DNS),
        eve("dns", at, here, t["query"], here, t["udp"], "UDP", **DNS),
        eve("stats", at, here, 1, here, 2),
        {"timestamp": stamp(at), "event_type": "stats", "stats": {"uptime": 8}},
    ]
    notes, summary, coverage = annotated(daemon, lines)
    ends = [(n["source"]["pid"], n["destination"]["pid"]) if n and "source" in n and "destination" in n else None for n in notes]
    there = (traffic["client"], traffic["server"])
    assert ends[:6] == [there, there[::-1], there, there[::-1], there[::-1], there]
    assert [n["source"]["role"] for n in notes[:2]] == ["connected", "accepted"]
    assert notes[4]["source"]["role"] == "bound" and notes[5]["source"]["role"] == "connected"
    assert notes[0]["source"]["port"] == client and notes[0]["source"]["comm"] == "python3"
    assert notes[6] == {"reason": "unwatched-port"} and notes[7] is None
    assert summary == {"lines": 8, "process": 6, "unwatched-port": 1, "no-ends": 1}
    assert coverage["stretches"] and coverage["from_usec"] == at


def test_each_reason(daemon, traffic):
    t, at = traffic["4"], traffic["seen"]
    here = t["address"]
    lines = [
        eve("alert", at, here, t["client"], "192.0.2.1", t["server"]),  # another peer than the claim's
        eve("alert", at, here, t["client"], here, t["server"], "UDP"),  # another protocol
        eve("alert", traffic["began"] - 60_000_000, here, t["client"], here, t["server"]),  # before the daemon
        eve("alert", at, "192.0.2.7", t["udp"], "192.0.2.8", 9, "UDP"),  # a local address that is another
        eve("alert", at, here, 80, "192.0.2.8", 443),
        eve("alert", at, here, t["client"], here, t["server"], "ICMP"),
        {**eve("alert", at, here, t["client"], here, t["server"]), "timestamp": "yesterday"},
        {**eve("alert", at, here, t["client"], here, t["server"]), "src_port": "x"},
    ]
    notes, summary, _ = annotated(daemon, lines)
    assert [n and n.get("reason") for n in notes] == [
        "nobody", "nobody", "not-watching", "nobody", "unwatched-port", None, None, None]
    assert summary == {"lines": 8, "nobody": 3, "not-watching": 1, "unwatched-port": 1, "no-ends": 2, "no-time": 1}
    result = annotate(daemon, lines)
    assert result.returncode == 1
    text = " ".join(result.stderr.split())
    assert "8 lines: 0 with a process, 3 of watched ports that nobody was seen to have, 1 of ports that are not watched, " \
        "1 of a time when nobody watched, 2 without addresses and ports, 1 without a time." in text
    assert "Coverage: " in text
    assert annotate(daemon, lines, "--strict").returncode == 6


def test_lines_keep_their_bytes(daemon, traffic):
    """What is not JSON, what is too long, numbers that no integer holds, spaces, a last line without its end."""
    t, at = traffic["4"], traffic["seen"]
    record = json.dumps(eve("alert", at, t["address"], t["client"], t["address"], t["server"], big=10**40, f=1.10))
    long = "x" * 3_000_000
    lines = ["not json", "", "[1,2]", "{" + '"a":' * 5 + "}", " " + record + " \r", long, '{"a":"\\u0000"}', record[:-1] + " }", "\udcff\udc80"]
    data = "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n" + record.encode()
    result = annotate(daemon, data, "--json=short")
    out = result.stdout.split(b"\n")
    wanted = data.split(b"\n")
    assert len(out) == len(wanted)
    for line, before in zip(out, wanted):
        if b"portledger" in line:
            at = line.index(b',"portledger":')
            end = len(line) - len(line[line.rindex(b"}"):].rstrip(b"}")) - 1
            assert line[:at] == before[:at] and before[at:].strip() == b"}", (line, end)
            assert json.loads(line)["portledger"]["source"]["pid"] == traffic["client"]
        else:
            assert line == before
    summary = {k: v for k, v in json.loads(result.stderr.splitlines()[0])["summary"].items() if v}
    assert summary == {"lines": 10, "process": 3, "no-ends": 1, "not-json": 5, "too-long": 1}
    # what is annotated already is not annotated twice
    again = annotate(daemon, result.stdout, "--json=short")
    assert again.stdout == result.stdout
    assert json.loads(again.stderr.splitlines()[0])["summary"]["annotated"] == 3


def test_fields(daemon, traffic):
    t, at = traffic["4"], traffic["seen"]
    here = t["address"]
    zeek = {"ts": at / 1e6, "uid": "CAcJw21BbVedgFnYH5", "id.orig_h": here, "id.orig_p": t["client"], "id.resp_h": here,
            "id.resp_p": t["server"], "proto": "tcp", "service": "http"}
    notes, summary, _ = annotated(daemon, [zeek], "--fields", "zeek")
    assert summary == {"lines": 1, "process": 1} and notes[0]["destination"]["pid"] == traffic["server"]
    own = {"when": at // 1000, "net": {"from": {"ip": here, "port": str(t["client"])}, "to": [{"ip": here}], "dport": t["server"]}}
    spec = "time=when,start=,end=,proto=p,src=net.from.ip,sport=net.from.port,dst=net.to.ip,dport=net.dport"
    notes, summary, _ = annotated(daemon, [own], "--fields", spec.replace("net.to.ip", "net.from.ip"))
    assert summary == {"lines": 1, "process": 1} and notes[0]["source"]["pid"] == traffic["client"]
    assert annotated(daemon, [own], "--fields", spec)[1] == {"lines": 1, "no-ends": 1}
    notes, _, _ = annotated(daemon, [zeek], "--fields", "zeek", "--columns", "pid,unit")
    assert notes[0]["source"] == {"pid": traffic["client"], "unit": notes[0]["source"]["unit"]}
    for wrong in ("nothing", "time=ts,nothing=x"):
        result = annotate(daemon, [zeek], "--fields", wrong)
        assert result.returncode == 2 and "--fields" in result.stderr and result.stdout == b""
    assert annotate(daemon, [zeek], "--columns", "nothing").returncode == 2
    assert annotate(daemon, [zeek], "--csv").returncode == 2


def test_a_reused_port_goes_to_who_had_it_then(daemon, make_actor):
    """Two processes, one after the other, on one port: each record has its own."""
    first, second = make_actor(), make_actor()
    lines, pids = [], []
    port = first.do("bound('u', 'udp')")
    for actor in (first, second):
        if actor is second:
            first.do("close('u')")
            for _ in range(3):
                daemon.call("org.portledger.ledger.Sync")
            second.do(f"bound('u', 'udp', at={port})")
        daemon.call("org.portledger.ledger.Sync")
        lines.append(eve("dns", time.time_ns() // 1000, "127.0.0.1", port, "192.0.2.1", 53, "UDP"))
        pids.append(actor.pid)
        daemon.call("org.portledger.ledger.Sync")
    notes, summary, _ = annotated(daemon, lines)
    assert [n["source"]["pid"] for n in notes] == pids and summary == {"lines": 2, "process": 2}


def test_a_log_that_grows_is_annotated_as_it_grows(daemon, actor):
    port = actor.do("bound('u', 'udp')")
    daemon.call("org.portledger.ledger.Sync")
    client = subprocess.Popen([CLIENT, "--socket", daemon.socket, "annotate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    try:
        for _ in range(3):
            line = json.dumps(eve("dns", time.time_ns() // 1000, "127.0.0.1", port, "192.0.2.1", 53, "UDP")) + "\n"
            client.stdin.write(line.encode())
            client.stdin.flush()
            assert json.loads(client.stdout.readline())["portledger"]["source"]["pid"] == actor.pid
    finally:
        client.stdin.close()
        assert client.wait(PATIENCE) == 0
        client.stdout.close()
        client.stderr.close()


@pytest.mark.long
def test_tshark(daemon, namespace, make_actor, directory):
    """A capture of the test's own traffic: every packet has both its processes."""
    capture = directory / "x.pcap"
    tshark = subprocess.Popen(namespace.enter("tshark", "-q", "-i", "lo", "-w", capture), stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: "Capture started" in tshark.stderr.readline(), "tshark to capture")
        server, client = make_actor(), make_actor()
        for family in ("4", "6"):
            at = server.do(f"listener('l{family}', family='{family}')")
            client.do(f"client('c{family}', {at}, family='{family}')")
            server.do(f"accept('l{family}', 'a{family}')")
            udp = server.do(f"bound('u{family}', 'udp', '{family}')")
            client.do(f"client('q{family}', {udp}, 'udp', '{family}')")
            client.do(f"kept['q{family}'].send(b'hello')")
            client.do(f"kept['c{family}'].send(b'hello')")
        daemon.call("org.portledger.ledger.Sync")
        packets = 2 * (3 + 2 + 1)  # handshake, data and its acknowledgement, a datagram

        def written():
            found = subprocess.run(["tshark", "-r", capture], capture_output=True, text=True, check=False).stdout
            return len(found.splitlines()) >= packets

        wait_for(written, "the packets to be in the file")
    finally:
        tshark.terminate()
        tshark.wait(PATIENCE)
        tshark.stderr.close()
    fields = ["-e", "frame.time_epoch", "-e", "ip.src", "-e", "ip.dst", "-e", "ipv6.src", "-e", "ipv6.dst", "-e", "tcp.srcport",
              "-e", "tcp.dstport", "-e", "udp.srcport", "-e", "udp.dstport"]
    for options in ([], fields):
        text = subprocess.run(["tshark", "-r", capture, "-T", "ek", *options], capture_output=True, check=True).stdout
        result = annotate(daemon, text, "--fields", "ek", "--json=short")
        assert result.returncode == 0, result.stderr
        records = [json.loads(line) for line in result.stdout.splitlines()]
        notes = [r["portledger"] for r in records if "layers" in r]
        assert len(notes) == packets and len(records) == 2 * packets  # each has a line of its index in front
        for note in notes:
            assert {note["source"]["pid"], note["destination"]["pid"]} == {server.pid, client.pid}, note
        summary = json.loads(result.stderr.splitlines()[0])["summary"]
        assert (summary["process"], summary["no-ends"]) == (packets, packets)


@pytest.mark.long
def test_a_million_lines_in_constant_memory(daemon, traffic):
    """Ten times as many lines take no more memory; nothing is lost."""
    t, at = traffic["4"], traffic["seen"]
    lines = [json.dumps(eve("alert", at + i, t["address"], t["client"], t["address"], t["server"])) for i in range(5)]
    lines += [json.dumps(eve("alert", at + i, t["address"], 40000 + i, "192.0.2.1", 443)) for i in range(4)] + ["# a comment"]
    lines += [json.dumps({"timestamp": stamp(at), "event_type": "stats", "stats": {"uptime": 8}})] * 90
    block = ("\n".join(lines) + "\n").encode()
    peak = {}
    for blocks in (1_000, 10_000):
        command = ["sh", "-c", f"for i in $(seq {blocks // 100}); do cat block; done | '{CLIENT}' --socket '{daemon.socket}' annotate "
                   "--json=short >out"]
        (daemon.directory / "block").write_bytes(block * 100)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        result = subprocess.run(["/usr/bin/env", "-C", str(daemon.directory), "python3", "-c", MEASURE, *command],
                                capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
        assert before > 0 and result.returncode == 0, result.stderr
        summary = json.loads(result.stderr.splitlines()[0])["summary"]
        assert {k: v for k, v in summary.items() if v} == {
            "lines": 100 * blocks, "process": 5 * blocks, "nobody": 4 * blocks, "not-json": blocks, "no-ends": 90 * blocks}
        peak[blocks] = int(result.stdout)
        with open(daemon.directory / "out", "rb") as out:
            assert sum(1 for _ in out) == 100 * blocks
        os.unlink(daemon.directory / "out")
    assert peak[10_000] <= peak[1_000] * 1.2 + 1024, peak


# What a command's largest process took, in KiB.
MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def test_a_host_that_translates_addresses_says_so(make_daemon, namespace, directory):
    daemon = make_daemon().start()
    record = [eve("alert", time.time_ns() // 1000, "203.0.113.5", 50000, "198.51.100.1", 443)]
    who = [CLIENT, "--socket", daemon.socket, "who", "50000"]

    def told():
        result = annotate(daemon, record, namespace=namespace)
        text = subprocess.run(namespace.enter(*who), capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
        return "translates addresses" in result.stderr, "translates addresses" in text

    assert told() == (False, False)
    rules = "table ip t { chain post { type nat hook postrouting priority 100; }; }"
    subprocess.run(namespace.enter("nft", rules), check=True, timeout=PATIENCE)
    assert told() == (False, False)  # a chain without a rule translates nothing
    subprocess.run(namespace.enter("nft", "add rule ip t post masquerade"), check=True, timeout=PATIENCE)
    assert told() == (True, True)
    assert "chain t/post" in annotate(daemon, record, namespace=namespace).stderr


def test_no_daemon(directory):
    result = subprocess.run([CLIENT, "--socket", directory / "none", "annotate"], input=b"{}\n", capture_output=True, check=False)
    assert result.returncode == 3 and result.stdout == b""
