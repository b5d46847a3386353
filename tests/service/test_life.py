# SPDX-License-Identifier: MIT
"""The life of the service: what systemd is told, and what it does about what happens."""
import re

import pytest

from conftest import SOCKET, UNIT, wait_for

CONFIG = "/etc/portledger/portledger.conf.d/test.conf"
STATUS = r"recording by events and sweep every {} s; \d+ sockets? on watched ports; last sweep \d+\.\d ms; only processes of this container"


def restarts(box):
    return int(box.show("NRestarts"))


def answers(box):
    return box.portledger().returncode == 0


def test_status_text(service):
    assert re.fullmatch(STATUS.format(1), service.show("StatusText"))


HOLDER = """
import socket, time
held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
for s in held:
    s.bind(("127.0.0.1", 0))
time.sleep(3600)
"""


def test_status_text_goes_with_the_feeding(service):
    service.drop_in("watchdog", "[Service]\nWatchdogSec=1500ms\n")
    service.run("systemctl", "restart", UNIT)
    assert "; 0 sockets " in service.show("StatusText")
    service.run("systemd-run", "--quiet", "--unit=holder.service", "/usr/bin/python3", "-c", HOLDER)
    wait_for(lambda: "; 3 sockets " in service.show("StatusText"), "the status to tell of three sockets")
    service.run("systemctl", "stop", "holder.service")
    wait_for(lambda: "; 0 sockets " in service.show("StatusText"), "the status to tell that they are gone")


def reload_until(box, status):
    """The signal is sent when `systemctl reload` comes back; what came of it is told with READY=1."""
    box.run("systemctl", "reload", UNIT)
    return wait_for(lambda: re.fullmatch(status, box.show("StatusText")), status)


def test_reload(service):
    main = service.main_pid()
    service.write(CONFIG, "[Capture]\nInterval=2s\n")
    reload_until(service, STATUS.format(2))
    assert (service.main_pid(), service.show("ActiveState")) == (main, "active")


def test_reload_of_a_wrong_configuration_changes_nothing_and_says_so(service):
    main, cursor = service.main_pid(), service.cursor()
    service.write(CONFIG, "[Capture]\nInterval=2s\nIntervall=3s\n")
    reload_until(service, r"configuration refused \(.*test\.conf:3: .*\), goes on as before: " + STATUS.format(1))
    assert (service.main_pid(), service.show("ActiveState")) == (main, "active")
    assert any("test.conf:3: " in e["MESSAGE"] and e["PRIORITY"] == "3" for e in service.journal(since=cursor))
    assert answers(service)
    service.run("rm", CONFIG)
    reload_until(service, STATUS.format(1))


def test_reload_of_one_that_does_not_turn(service):
    """`systemctl reload` does not wait for it, and two in a row end as one does."""
    main = service.main_pid()
    service.run("kill", "-STOP", main)
    service.write(CONFIG, "[Capture]\nInterval=2s\n")
    service.run("systemctl", "reload", UNIT)
    assert re.fullmatch(STATUS.format(1), service.show("StatusText"))
    service.run("systemctl", "reload", UNIT)
    service.run("kill", "-CONT", main)
    wait_for(lambda: re.fullmatch(STATUS.format(2), service.show("StatusText")), "the reload")
    assert (service.main_pid(), service.show("ActiveState"), service.show("SubState")) == (main, "active", "running")


def test_kill_of_the_main_process(service):
    """A question that comes before the restart waits for it."""
    service.drop_in("soon", "[Service]\nRestartSec=3s\n")  # so long, that a busy host does not miss to ask meanwhile
    before, main = restarts(service), service.main_pid()
    service.run("kill", "-9", main)
    wait_for(lambda: service.show("SubState") == "auto-restart", "systemd to notice")
    assert answers(service)
    assert restarts(service) == before + 1 and service.main_pid() != main
    _, receipt = service.rows("history", "-S", "-1h")
    # the kernel has recorded meanwhile (test_uninterrupted.py)
    assert "killed" not in [gap["reason"] for gap in receipt["gaps"]]


@pytest.mark.parametrize("name", ["pl-ledger", "pl-control"])
def test_kill_of_a_child(service, name):
    before, processes = restarts(service), service.processes()
    service.run("kill", "-9", processes[name])

    def is_replaced():
        now = service.processes()
        return now.keys() == processes.keys() and now[name] != processes[name]

    wait_for(is_replaced, "the supervisor to restart it")
    assert answers(service)
    assert service.main_pid() == processes["portledgerd"] and restarts(service) == before


@pytest.mark.parametrize("name", ["portledgerd", "pl-ledger", "pl-control"])
def test_watchdog_kills_what_hangs(service, name):
    service.drop_in("watchdog", "[Service]\nWatchdogSec=1500ms\nRestartSec=100ms\n")
    service.run("systemctl", "restart", UNIT)
    fed = service.show("WatchdogTimestampMonotonic")
    wait_for(lambda: service.show("WatchdogTimestampMonotonic") != fed, "the watchdog to be fed")
    before, cursor, processes = restarts(service), service.cursor(), service.processes()
    service.run("kill", "-STOP", processes[name])
    wait_for(lambda: restarts(service) > before and service.is_active(), "the watchdog")
    assert any("Watchdog timeout" in e["MESSAGE"] for e in service.journal(since=cursor))
    assert not set(service.processes().values()) & set(processes.values()) and answers(service)


def test_stop_leaves_the_socket_and_a_question_starts_it_again(service):
    service.run("systemctl", "stop", UNIT)
    assert service.show("Result") == "success" and service.show("MainPID") == "0"
    assert service.is_active(SOCKET)
    assert service.text("stat", "-c", "%a %U:%G %F", "/run/portledger/control") == "660 root:portledger socket"
    result = service.portledger(user="alice")
    assert result.returncode == 0, result.stderr
    assert service.is_active()
    _, receipt = service.rows("history", "-S", "-1h")
    assert "stopped" in [gap["reason"] for gap in receipt["gaps"]]


def test_stop_of_both_leaves_no_socket(service):
    service.run("systemctl", "stop", SOCKET, UNIT)
    assert service.run("test", "-e", "/run/portledger/control", check=False).returncode == 1
    assert service.portledger().returncode == 3
    service.run("systemctl", "start", UNIT)
    assert service.is_active(SOCKET) and answers(service)


def start_with(box, config):
    """Whether a start with this configuration worked; the state that it left, and the exit status."""
    box.write(CONFIG, config)
    failed = box.run("systemctl", "restart", UNIT, check=False).returncode != 0
    return failed, box.show("ActiveState"), box.show("SubState"), box.show("ExecMainStatus")


def test_a_wrong_configuration_at_the_start_is_not_tried_again(service):
    assert start_with(service, "[Capture]\nInterval=never\n") == (True, "failed", "failed", "78")
    # who asks meanwhile is not left hanging, nor is it tried for ever
    assert service.portledger().returncode == 5
    assert service.show("Result", SOCKET) == "trigger-limit-hit"
    assert service.portledger().returncode == 3
    service.run("rm", CONFIG)
    service.run("systemctl", "start", UNIT)
    assert service.is_active(SOCKET) and answers(service)


@pytest.mark.parametrize("status, spoil", [
    ("2", "sed -i 's/^ExecStart=.*/& --nonsense/' {unit} && systemctl daemon-reload"),
    ("65", "mv {db} {db}.away && echo 'no database at all, and longer than a page of one needs to be' > {db} && touch {db}.damaged-1"
     " {db}.damaged-2 {db}.damaged-3 {db}.damaged-4"),
    ("78", "sqlite3 {db} 'PRAGMA user_version=999'"),
], ids=["usage", "damaged", "newer"])
def test_what_would_only_repeat_is_not_tried_again(service, status, spoil):
    names = {"unit": "/run/systemd/system/portledger.service", "db": "/var/lib/portledger/portledger.db"}
    service.run("systemctl", "stop", UNIT)
    service.run("sh", "-c", "cp -a /var/lib/portledger /root/kept")
    service.run("sh", "-c", f"cp /lib/systemd/system/{UNIT} /run/systemd/system/")
    try:
        service.run("sh", "-c", spoil.format(**names))
        assert service.run("systemctl", "start", UNIT, check=False).returncode != 0
        assert [service.show(name) for name in ("ActiveState", "SubState", "ExecMainStatus")] == ["failed", "failed", status]
    finally:
        service.run("sh", "-c", "rm -r /var/lib/portledger /run/systemd/system/portledger.service"
                    " && mv /root/kept /var/lib/portledger && systemctl daemon-reload && systemctl reset-failed")


def test_an_error_that_may_pass_is_tried_again(service):
    """The other side of the one before: this is how a restart looks."""
    service.drop_in("later", "[Service]\nRestartSec=1h\nExecStart=\nExecStart=/usr/sbin/portledgerd --record /nowhere/x\n")
    assert start_with(service, "") == (True, "activating", "auto-restart", "1")
    service.remove_drop_ins()
    service.run("systemctl", "restart", UNIT)
    assert answers(service)


def test_disable(service):
    service.run("systemctl", "disable", UNIT)
    try:
        assert service.text("systemctl", "is-enabled", UNIT, SOCKET, check=False).split() == ["disabled"] * 2
        assert not service.text("find", "/etc/systemd/system", "-name", "portledger*")
    finally:
        service.run("systemctl", "enable", UNIT)
    assert service.text("systemctl", "is-enabled", UNIT, SOCKET).split() == ["enabled"] * 2
