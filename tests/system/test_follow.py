# SPDX-License-Identifier: MIT
"""follow: who accepted a connection, told when it is known; and --new: what was never seen before, each once, ever, and of that only
what the filter takes."""
import json
import select
import shutil
import socket
import subprocess
import sys

import pytest

from conftest import CLIENT, PATIENCE


class Follower:
    def __init__(self, daemon, **parameters):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(daemon.socket)
        call = {"method": "org.portledger.ledger.Follow", "parameters": parameters, "more": True}
        self.socket.sendall(json.dumps(call).encode() + b"\0")
        self.data = b""
        self.events = []

    def next(self):
        while b"\0" not in self.data:
            data = self.socket.recv(65536)
            assert data, self.events
            self.data += data
        frame, self.data = self.data.split(b"\0", 1)
        reply = json.loads(frame)["parameters"]
        assert reply["lost"] == 0
        self.events.append(reply)
        return reply["event"], [(row["port"], row["exe"]) for row in reply["claims"]]


def test_who_accepted_is_told(make_daemon, make_actor, directory):
    """The kernel's event has no process of it; the next sweep has, and then it is told, to who asked for that program too. Where a sweep
    is as quick as the event there is nothing to tell: so until it is not."""
    copy = directory / "a-server"
    shutil.copy(sys.executable, copy)
    server, client = make_actor(program=str(copy)), make_actor()
    port = server.do("listener('l')")
    daemon = make_daemon(interval="1s", options=("--rung", "events")).start()
    everything, mine = Follower(daemon), Follower(daemon, filter={"app": "a-server"})
    assert [event for event, _ in (everything.next(), mine.next())] == ["open"] * 2

    def accepted(follower, event):
        return [row["remote_port"] for reply in follower.events if reply["event"] == event for row in reply["claims"]
                if (row["role"], row["comm"]) == ("accepted", "a-server")]

    ports = []
    while not accepted(everything, "attributed"):
        assert len(ports) < PATIENCE
        ports.append(client.do(f"client('c{len(ports)}', {port})"))
        server.do(f"accept('l', 'a{len(ports)}')")
        while ports[-1] not in accepted(everything, "opened") + accepted(everything, "attributed"):
            everything.next()
    while set(accepted(mine, "opened")) != set(ports):
        assert mine.next()[0] == "opened"
    for follower in (everything, mine):
        follower.socket.close()


@pytest.mark.parametrize("rung", ("sweep", "events"))
def test_only_what_was_never_seen(make_daemon, make_actor, directory, rung):
    """A program that was there before is not told; a copy of it is, once; and so is each server."""
    old = make_actor()
    there = old.do("bound('there', 'udp')")
    daemon = make_daemon(interval="100ms", options=("--rung", rung)).start()
    copy = directory / "newcomer"
    shutil.copy(sys.executable, copy)
    everything, mine, none = (Follower(daemon, new=True), Follower(daemon, new=True, filter={"app": "newcomer"}),
                              Follower(daemon, new=True, filter={"ports": [there]}))
    assert [f.next() for f in (everything, mine, none)] == [("open", [])] * 3

    newcomer = make_actor(program=str(copy))
    first = newcomer.do("bound('first', 'udp')")
    assert everything.next() == mine.next() == ("program", [(first, str(copy))])
    newcomer.do("bound('second', 'udp')")
    served = old.do("listener('l')")
    event, claims = everything.next()
    assert event == "listener" and [port for port, _ in claims] == [served]
    again = newcomer.do("listener('l')")
    assert everything.next() == mine.next() == ("listener", [(again, str(copy))])

    # known by now: neither comes a second time, but the next thing that is new
    newcomer.do("close('l')")
    newcomer.do(f"listener('l', at={again})")
    newcomer.do("bound('third', 'udp')")
    last = newcomer.do("listener('last')")
    assert everything.next() == mine.next() == ("listener", [(last, str(copy))])
    none.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        none.socket.recv(1)
    for follower in (everything, mine, none):
        follower.socket.close()


def test_the_client_tells_it(make_daemon, make_actor, directory):
    """For people and for programs; it may begin to follow late, so the newcomers go on until it has told of one."""
    make_actor().do("bound('there', 'udp')")
    daemon = make_daemon(interval="100ms").start()
    ports = {}
    for mode in ("--json=short", "--color=never"):
        with subprocess.Popen([CLIENT, "--socket", daemon.socket, "follow", "--new", mode], stdout=subprocess.PIPE,
                              text=True) as process:
            try:
                while not select.select([process.stdout], [], [], 1)[0]:
                    assert len(ports) < PATIENCE
                    copy = str(directory / f"newcomer-{len(ports)}")
                    shutil.copy(sys.executable, copy)
                    ports[copy] = make_actor(program=copy).do("bound('first', 'udp')")
                line = process.stdout.readline()
            finally:
                process.terminate()
        if mode.startswith("--json"):
            row = json.loads(line)
            assert row["event"] == "program" and ports[row["exe"]] == row["port"]
        else:
            assert " * new program " in line and any(f" {port}/udp " in line for port in ports.values())
