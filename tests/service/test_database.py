# SPDX-License-Identifier: MIT
"""The live database, read by sqlite3 as a member of the group, who can write nothing there: not even the WAL's index."""
import pytest

from conftest import UNIT, wait_for

STATE = "/var/lib/portledger"
COUNT = "SELECT count(*) FROM claims"


def read(box, query=COUNT, user="alice"):
    return box.run("sqlite3", "-readonly", f"{STATE}/portledger.db", query, user=user, check=False)


def claim(box, count, port=50000):
    """So many claims, which came and went."""
    box.unit_run("claims.service", "/usr/bin/python3", "-c", f"""
import socket, subprocess
held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range({count})]
for i, s in enumerate(held):
    s.bind(("127.0.0.1", {port} + i))
subprocess.run(["portledger"], check=True, stdout=subprocess.DEVNULL)
""")
    box.portledger("now")


def test_modes(service):
    lines = service.text("find", STATE, "-printf", "%m %u:%g %P\n").splitlines()
    modes = {name: f"{mode} {owner}" for mode, owner, *rest in (line.split(" ") for line in lines) for name in ["".join(rest)]}
    assert modes[""] == "750 portledger:portledger"
    assert {"portledger.db", "portledger.db-wal", "portledger.db-shm"} <= set(modes)
    assert {mode for name, mode in modes.items() if name} == {"640 portledger:portledger"}


def test_while_it_runs(service):
    """Every question commits; between them the reader, who takes no part in the WAL's bookkeeping, sees each claim."""
    before = int(read(service).stdout)
    for i in range(5):
        claim(service, 10, port=50000 + 10 * i)
        result = read(service)
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) == before + 10 * (i + 1)


def test_mallory_may_not(service):
    result = read(service, user="mallory")
    assert result.returncode != 0 and "unable to open" in result.stderr


def test_alice_may_not_write(service):
    result = service.run("sqlite3", f"{STATE}/portledger.db", "DELETE FROM claim_hot", user="alice", check=False)
    assert result.returncode != 0 and "readonly" in result.stderr


def test_after_a_clean_stop(service):
    claim(service, 7, port=51000)
    count = read(service).stdout
    service.run("systemctl", "stop", UNIT)
    result = read(service)
    assert (result.returncode, result.stdout) == (0, count), result.stderr


def test_after_a_kill(service):
    claim(service, 7, port=52000)
    count = read(service).stdout
    service.drop_in("stays-dead", "[Service]\nRestart=no\n")
    service.run("systemctl", "kill", "--signal=KILL", UNIT)
    wait_for(lambda: service.show("ActiveState") == "failed", "it to be dead")
    result = read(service)
    assert (result.returncode, result.stdout) == (0, count), result.stderr


def test_from_the_first_moment(service):
    """Of a new database, and of each start: SQLite has a moment in which a reader of its kind is refused."""
    service.run("systemctl", "stop", UNIT)
    service.run("sh", "-c", f"rm {STATE}/*")
    for _ in range(2):
        service.run("systemctl", "start", UNIT)
        result = read(service)
        assert result.returncode == 0, result.stderr
        assert service.portledger(user="alice").returncode == 0
        service.run("systemctl", "stop", UNIT)
