# SPDX-License-Identifier: MIT
"""Where sweeps cost too much, and where the kernel has no inet_diag: both are said, and the ledger goes on."""
import sqlite3

from conftest import traced, wait_for


def test_past_its_budget_the_interval_doubles_visibly(make_daemon):
    """Ten sweeps a second within a thousandth of a core are too many: 100 us each."""
    daemon = make_daemon(interval="100ms", config="CpuBudget=0.1%\n").start()

    def status():
        return daemon.call("org.portledger.ledger.Status")

    slower = wait_for(lambda: status()["interval_usec"] > 100_000 and status(), "a longer interval")
    assert slower["interval_usec"] in [100_000 << n for n in range(1, 16)]
    assert "the interval is now" in daemon.log.read_text()
    daemon.stop()
    with sqlite3.connect(daemon.database) as db:
        stretches = db.execute("SELECT from_usec, until_usec, interval_usec FROM coverage ORDER BY from_usec").fetchall()
    intervals = [s[2] for s in stretches]
    assert intervals[0] == 100_000 and intervals[1] == 200_000 and len(intervals) >= 2
    # Only how often it looks has changed: no moment lies between two stretches.
    for earlier, later in zip(stretches, stretches[1:]):
        assert earlier[1] == later[0], stretches


def test_without_inet_diag_proc_net_is_read(make_daemon, actor):
    """Netlink is made to answer as where the kernel's module is missing."""
    port, udp = actor.do("listener('l')"), actor.do("bound('u', 'udp')")
    daemon = make_daemon(rung=None)
    with traced(daemon, "-e", "trace=recvmsg", "-e", "inject=recvmsg:error=ENOENT") as tracer:
        assert "no inet_diag" in daemon.log.read_text()

        def named():
            """When /proc was read: on a slow machine that takes more than one sweep's budget."""
            rows = daemon.rows("now")
            return rows if all(c["pid"] for c in rows[0]) else None

        claims, receipt = wait_for(named, "the processes to be found")
        assert {(c["port"], c["protocol"], c["pid"], c["source"]) for c in claims} == \
            {(port, "tcp", actor.pid, "procnet"), (udp, "udp", actor.pid, "procnet")}
        assert receipt["stretches"][0]["source"] == "procnet" and not receipt["complete"]
    assert tracer.returncode == 0


def test_what_the_kernel_records_in_is_captures_alone(make_daemon):
    """The ring's place and what the programs watch can be written there."""
    daemon = make_daemon(rung="events").start()

    def kernel_memory(pid):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            return [line for line in maps if "bpf-map" in line]

    assert kernel_memory(daemon.process.pid)
    for child in daemon.children():
        assert kernel_memory(child) == []
