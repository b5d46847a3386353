# SPDX-License-Identifier: MIT
"""What the kernel goes on recording while the daemon is away, and what rights that takes. The programs, the ring and
their maps are in systemd's descriptor store."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

from conftest import HERE, PATIENCE, ROOT, UNIT, wait_for

sys.path.insert(0, str(ROOT / "tests/support"))
import oracle  # noqa: E402

BUILD = pathlib.Path(os.environ.get("PORTLEDGER_BUILD", ROOT / "build-gcc"))
FULL = bool(os.environ.get("PORTLEDGER_FULL"))  # check --full
CHURN = "/usr/local/lib/portledger-test/churn"
DAEMON = "/usr/sbin/portledgerd"
EARLIER = "/usr/local/lib/portledger-test/earlier/portledgerd"
DATABASE, COPY = "/var/lib/portledger/portledger.db", "var/tmp/copy.db"
NAMES = {"portledgerd", "pl-ledger", "pl-control"}
RATE = 3000  # claims a second
RUNG_LOST = "ac3d6e0c2fea4627987049b0421985ce"


class Load:
    def __init__(self, box, output):
        self.box, self.output, self.process = box, output, None

    def start(self, count, kinds=None):
        command = ["systemd-run", "--quiet", "--wait", "--pipe", "--unit=churn.service", CHURN, "--count", count, "--rate", RATE,
                   "--exe", "/var/tmp", *(["--kinds", kinds] if kinds else [])]
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen([HERE / "sdbox", "run", self.box.path, *map(str, command)],
                                            stdin=subprocess.DEVNULL, stdout=output)
        self.timeout = count / RATE + PATIENCE
        self.until = time.monotonic() + count / RATE

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def lasts(self, seconds):
        return self.runs() and time.monotonic() + seconds < self.until

    def truths(self):
        return [self.truth()] if self.process else []

    def truth(self):
        assert self.process.wait(self.timeout) == 0
        truth = oracle.Truth(self.output.read_text(encoding="utf-8"))
        assert truth.run["failed"] == 0, truth.run
        return truth

    def is_told(self):
        """A claim that was made from now on is in the ledger."""
        now = self.box.text("date", "+@%s.%6N")
        wait_for(lambda: self.box.rows("history", "--unit", "churn.service", "-S", now, "-n", "1")[0], "the load to be told")

    def finish(self):
        """No more than what has been begun, and its truth."""
        assert self.runs(), "the load has ended too early"
        self.box.run("systemctl", "kill", "--kill-whom=main", "--signal=USR1", "churn.service")
        return self.truth()

    def end(self):
        if self.runs():
            self.box.run("systemctl", "stop", "churn.service", check=False)
            self.process.wait(self.timeout)


@pytest.fixture
def churn(service, tmp_path):
    """The load as a unit of its own: start(count) and, at its end, truth()."""
    service.run("mkdir", "-p", pathlib.Path(CHURN).parent)
    service.put(BUILD / "tests/support/churn", CHURN)
    load = Load(service, tmp_path / "truth")
    yield load
    load.end()


def compare(box, truths, directory):
    """When all is in the database, and the last connection is over: on a busy host its last packets wait for a processor, too."""
    wait_for(lambda: box.portledger().returncode == 0, "the daemon to answer")
    inodes = ",".join(str(t.run["netns"]) for t in truths)

    def over():
        box.rows("now")
        return box.text("sqlite3", DATABASE, f"SELECT count(*) FROM claims WHERE closed_usec IS NULL AND netns IN ({inodes})") == "0"

    wait_for(over, "the last connections to be over")
    # a copy: the way to the original leads through a link that only the kernel can follow
    box.run("rm", "-f", f"/{COPY}")
    box.run("sqlite3", DATABASE, f"VACUUM INTO '/{COPY}'")
    copy = shutil.copy(box.root / COPY, directory)
    first = beginning(truths[0])
    rows = [r for r in oracle.claims_of(copy, {truths[0].run["netns"]}) if r["opened_usec"] >= first]
    return oracle.Comparison(truths, rows, source="events", attribution="event", unit="churn.service")


def beginning(truth):
    """Of the load, in wall time; another one may have been before."""
    return min(c["open_before"] for c in truth.claims) // 1000 - 1000


def gaps_since(box, truth):
    """Those that reach into the time of the load."""
    first = beginning(truth)
    receipt = box.rows("history", "-S", "-5min", "-n", "1")[1]
    return [gap for gap in receipt["gaps"] if gap["until_usec"] > first]


def running(box):
    """Our three and their pids, if all are there and somebody answers."""
    try:
        processes = box.processes()
    except (AssertionError, ValueError):
        return None
    return processes if set(processes) == NAMES and box.portledger().returncode == 0 else None


def test_the_rung_is_events_and_takes_no_right_once_attached(service):
    assert service.show("StatusText").startswith("recording by events and sweep every 1 s; ")
    processes = service.processes()
    assert set(processes) == NAMES
    for pid in processes.values():
        status = service.text("cat", f"/proc/{pid}/status")
        for kind in ("Eff", "Prm", "Inh", "Amb"):
            assert re.search(rf"^Cap{kind}:\t0+$", status, re.M), (kind, status)
    # ... and neither has one that took over what its predecessor left
    service.run("systemctl", "restart", UNIT)
    assert re.search(r"^CapEff:\t0+$", service.text("cat", f"/proc/{service.main_pid()}/status"), re.M)


def test_a_restart_is_no_gap_and_a_stop_is_one(service, churn, tmp_path):
    service.run("systemctl", "restart", UNIT)
    kept = int(service.show("NFileDescriptorStore"))
    assert kept >= 10
    churn.start(RATE * 30, kinds="tcp4,udp-send,udp-bind")
    churn.is_told()
    for _ in range(2):
        service.run("systemctl", "restart", UNIT)
    churn.is_told()
    truth = churn.finish()
    result = compare(service, [truth], tmp_path)
    assert result.is_exact(), str(result)
    assert gaps_since(service, truth) == []
    assert int(service.show("NFileDescriptorStore")) == kept, "what is there already is not stored again"
    service.run("systemctl", "stop", UNIT)
    assert int(service.show("NFileDescriptorStore")) == 0
    service.run("systemctl", "start", UNIT)
    gap = gaps_since(service, truth)[-1]
    assert (gap["reason"], gap["lost"]) == ("stopped", None), gap


def upgrade(box, command, *options):
    """To a daemon that adopts nothing of what this one has attached."""
    box.drop_in("upgrade", f"[Service]\nExecStart=\nExecStart={command}\n")
    box.run("systemctl", "restart", *options, UNIT)


@pytest.mark.long
def test_an_upgrade_that_attaches_anew_loses_nothing(service, churn, tmp_path):
    """While 3,000 claims a second are made. Then such upgrades of which each is killed a little later, to begin again."""
    service.run("systemctl", "restart", UNIT)
    kept, kills = int(service.show("NFileDescriptorStore")), 12 if FULL else 4
    truths = []
    churn.start(RATE * 60)

    def is_replaced():
        return running(service) and int(service.show("NFileDescriptorStore")) == kept

    for ring_bytes in (8 << 20, 2 << 20):
        upgrade(service, f"{DAEMON} --ring-bytes {ring_bytes}")
        wait_for(is_replaced, "what was replaced to be let go")
    for i in range(kills):
        if not churn.lasts(20):
            truths += churn.truths()
            churn.start(RATE * 60)
        before = service.main_pid()
        upgrade(service, f"{DAEMON} --ring-bytes {(8 if i % 2 else 4) << 20}", "--no-block")
        pid = wait_for(lambda: (now := service.main_pid()) not in (0, before) and now, "the next daemon")
        time.sleep(i % 6 * 0.1)  # another moment each time
        service.run("kill", "-KILL", str(pid), check=False)
        wait_for(is_replaced, "what was replaced to be let go")
        assert churn.runs(), "the load has ended before the upgrade"
    truths += churn.truths()
    result = compare(service, truths, tmp_path)
    print(result)
    assert result.is_exact(), str(result)
    assert gaps_since(service, truths[0]) == []


@pytest.fixture
def earlier(service):
    """Another version of the daemon: another layout, one program more, and so another object (tests/support/earlier.h)."""
    binary = BUILD / "tests/support/portledgerd-earlier"
    if not binary.exists():
        pytest.skip("cannot run here: built without the kernel's events")
    service.run("mkdir", "-p", pathlib.Path(EARLIER).parent)
    service.put(binary, EARLIER)
    return EARLIER


# As soon as systemd keeps more than so many descriptors.
KILL = """
until [ "$(systemctl show -P NFileDescriptorStore "$3")" -gt "$4" ]; do :; done
if [ "$2" = portledgerd ]; then kill -KILL "$1"; else until pkill -KILL -x -P "$1" "$2"; do :; done; fi
"""


# Which of the three is killed while the two rings are read, if any.
@pytest.mark.parametrize("victim", (None, *(pytest.param(name, marks=pytest.mark.long) for name in ("pl-ledger", "portledgerd", "pl-control"))))
def test_an_upgrade_to_another_version_loses_nothing(service, earlier, churn, tmp_path, victim):
    """What it has attached is another set of programs. The ring of before is read to its end, and is not there any more."""
    service.run("systemctl", "stop", UNIT)
    upgrade(service, earlier)
    wait_for(lambda: running(service), "the earlier version to run")
    kept, before = int(service.show("NFileDescriptorStore")), service.main_pid()
    churn.start(RATE * 30, kinds="tcp4,tcp6,udp-send,udp-bind,udp-connect,listen-bind")
    churn.is_told()
    upgrade(service, DAEMON, "--no-block")
    pid = wait_for(lambda: (now := service.main_pid()) not in (0, before) and now, "the present version")
    if victim:
        service.run("timeout", PATIENCE, "sh", "-c", KILL, "sh", pid, victim, UNIT, kept)
    wait_for(lambda: running(service) and int(service.show("NFileDescriptorStore")) == kept - 1, "what was replaced to be let go")
    churn.is_told()
    truth = churn.finish()
    result = compare(service, [truth], tmp_path)
    print(result)
    assert result.is_exact(), str(result)
    assert gaps_since(service, truth) == []


@pytest.mark.long
def test_kill_9_of_each_process_loses_nothing(service, churn, tmp_path):
    """While 3,000 claims a second are made by processes of a unit."""
    victims_in_turn = [["portledgerd"], ["pl-ledger"], sorted(NAMES), ["pl-control"]]
    restarts, truths = int(service.show("NRestarts")), []
    for i in range(10 if FULL else 3):
        victims, names = wait_for(lambda: running(service), "all three to run"), victims_in_turn[i % 4]
        if not churn.lasts(1):
            truths += churn.truths()
            churn.start(RATE * 10)
        service.run("kill", "-KILL", *(victims[name] for name in names), check=False)
        wait_for(lambda: (now := running(service)) and all(now[n] != victims[n] for n in names), f"{names} to be there again")
    truths += churn.truths()
    result = compare(service, truths, tmp_path)
    print(result)
    assert result.is_exact(), str(result)
    assert int(service.show("NRestarts")) > restarts
    assert gaps_since(service, truths[0]) == []


def take_away_a_program(box):
    """As another tool might, which empties the root of the cgroup tree."""
    text = box.text("sh", "-c", f"cat /proc/{box.main_pid()}/fdinfo/*")
    infos = [info for info in text.split("pos:") if re.search(r"^link_type:\tcgroup$", info, re.M)]
    link = re.search(r"^link_id:\t(\d+)$", infos[0], re.M).group(1)
    subprocess.run(["bpftool", "link", "detach", "id", link], check=True)


@pytest.mark.long
def test_events_that_are_taken_away_come_back(service):
    """The process that had them has no right to attach them again, nor to name others' processes without: another one has. But
    not more than once a minute."""
    before, since, kept = service.main_pid(), service.cursor(), int(service.show("NFileDescriptorStore"))
    take_away_a_program(service)
    wait_for(lambda: service.main_pid() not in (0, before) and running(service), "another daemon", 60 + PATIENCE)
    assert service.show("StatusText").startswith("recording by events and sweep every 1 s; ")
    assert re.search(r"^CapEff:\t0+$", service.text("cat", f"/proc/{service.main_pid()}/status"), re.M)
    assert int(service.show("NFileDescriptorStore")) == kept, "nothing of what was taken away is kept"
    said = service.journal(f"MESSAGE_ID={RUNG_LOST}", since=since)
    assert len(said) == 1 and "the service begins anew to attach them" in said[0]["MESSAGE"], said
    assert any(e.get("EXIT_STATUS") == "69" for e in service.journal(since=since)), "it has ended by itself"
    port = service.unit_run("once", "python3", "-c",
                            "import socket; s = socket.socket(type=2); s.bind((\"\", 0)); print(s.getsockname()[1])")
    rows, receipt = service.rows("history", port, "-S", "-5min")
    assert (rows[-1]["comm"], rows[-1]["source"], rows[-1]["attribution"]) == ("python3", "events", "event"), rows
    assert {"events-ended", "stopped"} <= {gap["reason"] for gap in receipt["gaps"]}, receipt
    # again, at once: until a minute has passed it goes on without them
    before = service.main_pid()
    take_away_a_program(service)
    status = wait_for(lambda: (s := json.loads(service.portledger("status", "-j").stdout))["rung"] == "destroy" and s, "the next rung")
    assert any("begins anew" in reason for reason in status["degraded"]), status
    assert service.main_pid() == before
    service.run("systemctl", "stop", UNIT)
    service.run("systemctl", "start", UNIT)
    assert service.show("StatusText").startswith("recording by events and sweep every 1 s; ")
