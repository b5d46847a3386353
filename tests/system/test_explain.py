# SPDX-License-Identifier: MIT
"""What is port N: its class, the kernel's settings of the daemon's namespace, and what was scripted, counted exactly."""
import json
import subprocess
import time

import pytest

from conftest import CLIENT, sysctl

pytestmark = pytest.mark.any_rung

EXPLAIN = "org.portledger.ledger.Explain"


def sync(daemon, times=1):
    for _ in range(times):
        daemon.call("org.portledger.ledger.Sync")


def test_classes_and_the_settings_of_the_namespace(make_daemon, namespace):
    sysctl(namespace, "net.ipv4.ip_local_port_range", "33000 60000")
    sysctl(namespace, "net.ipv4.ip_local_reserved_ports", "40001,50000-50010,1080")
    daemon = make_daemon().start()
    for port, members in {
            443: ("system", False, False), 1024: ("user", False, False), 1080: ("user", False, True),
            8080: ("user", False, False), 32767: ("user", False, False), 32999: ("user", False, False),
            33000: ("user", True, False), 40001: ("user", True, True), 49151: ("user", True, False),
            49152: ("dynamic", True, False), 50005: ("dynamic", True, True), 60000: ("dynamic", True, False),
            60001: ("dynamic", False, False), 61500: ("dynamic", False, False)}.items():
        answer = daemon.call(EXPLAIN, {"port": port})
        assert (answer["class"], answer["ephemeral"], answer["reserved"]) == members, port
        assert answer["dynamic"] == (port >= 49152) and answer["ephemeral_range"] == {"low": 33000, "high": 60000}
        # Ranges= is IANA's and the kernel's: 33000-65535 here
        assert answer["watched"] == (port >= 33000), port
    # the settings are those of this moment
    sysctl(namespace, "net.ipv4.ip_local_reserved_ports", "")
    assert daemon.call(EXPLAIN, {"port": 40001})["reserved"] is False
    # of another namespace's reservations nothing is known
    assert daemon.call(EXPLAIN, {"port": 40001, "netns": "web-1"})["reserved"] is None


def test_counts_are_those_of_the_script(daemon, make_actor):
    one, two = make_actor(), make_actor()
    one.do("set_name('6f6e65')")
    server = one.do("listener('l')")
    sync(daemon)
    one.do("close('l')")
    sync(daemon, 2)
    for _ in range(3):  # each is seen by a sweep, and let go
        two.do(f"bound('u', 'udp', at={server})")
        sync(daemon)
        two.do("close('u')")
        sync(daemon, 2)
    two.do(f"bound('u', 'udp', at={server})")
    answer = daemon.call(EXPLAIN, {"port": server})
    assert [c["pid"] for c in answer["now"]] == [two.pid] and answer["claims_now"] == 1
    assert (answer["claims_day"], answer["claims_ever"], answer["programs_day"]) == (5, 5, 1)  # both are python3
    assert [(c["role"], c["comm"]) for c in answer["last"]] == [("bound", "python3")] * 3 + [("listening", "one")]
    assert [(c["role"], c["comm"]) for c in answer["listened"]] == [("listening", "one")]
    lives = sorted(c["closed_usec"] - c["opened_usec"] for c in answer["last"])
    assert lives[1] * 0.96 <= answer["median_usec"] <= lives[2] * 1.04
    answer = daemon.call(EXPLAIN, {"port": server, "protocol": "tcp"})
    assert (answer["claims_now"], answer["claims_day"], answer["claims_ever"]) == (0, 1, 1)
    inode = daemon.namespace.inode()
    assert daemon.call(EXPLAIN, {"port": server, "netns": str(inode)})["claims_ever"] == 5
    assert daemon.call(EXPLAIN, {"port": server, "netns": str(inode + 1)})["claims_ever"] == 0
    result = daemon.client(server)
    assert result.returncode == 0 and "claims   5 in the last day by 1 program, 5 ever; median life " in result.stdout
    assert f"served   one[{one.pid}]" in result.stdout


def test_nothing_is_not_the_same_as_not_watched(make_daemon):
    daemon = make_daemon(config="Ranges=iana\n").start()
    began = time.time_ns() // 1000
    free, unwatched = daemon.client(60530), daemon.client(40000)
    assert free.returncode == unwatched.returncode == 1
    assert "nobody was seen to hold it" in free.stdout and "watched by" in free.stdout
    assert "Not a port that is watched" in unwatched.stdout and "Coverage: not watching" in unwatched.stdout
    for verb in (["now"], ["history"], ["history", "-S", "-1h"], ["who"], ["audit", "-S", "-1h", "--range", "40000-40001"]):
        ports = [] if "audit" in verb else [40000]
        said = daemon.client(*verb, *ports).stdout
        assert said.startswith("Nothing can be said: not among the ports that are watched") and ": unwatched-ports)" in said, said
    assert "No claim matched" in daemon.client("now", 60530).stdout and "No claim matched" in daemon.client("now", 60530, 40000).stdout
    assert daemon.client(60530, "--strict").returncode == 6
    whole, receipt = map(json.loads, daemon.client(60530, "--json=short").stdout.splitlines())
    assert whole["first_usec"] is whole["median_usec"] is None and whole["claims_ever"] == 0
    assert receipt["coverage"]["stretches"][0]["until_usec"] >= began


def test_without_a_daemon_the_kernel_settings_are_still_told(namespace):
    sysctl(namespace, "net.ipv4.ip_local_reserved_ports", "40001")
    command = namespace.enter(CLIENT, "--socket", "/nonexistent/control", "--json=short")
    for port, reserved in ((40001, True), (40002, False)):
        result = subprocess.run([*command, str(port)], capture_output=True, text=True, check=False)
        answer = json.loads(result.stdout.splitlines()[0])
        assert (answer["class"], answer["reserved"], answer["listened"]) == ("user", reserved, [])
    result = subprocess.run([*command, "40001", "--netns=web-1"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (3, "")  # a look of our own is of this namespace
