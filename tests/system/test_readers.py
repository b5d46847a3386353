# SPDX-License-Identifier: MIT
"""sqlite3 of an unprivileged user beside the daemon: who is in the group that the state directory was given to reads the
database, live, after a clean stop and after a kill, without leaving a trace; others do not."""
import os
import subprocess

import pytest

from conftest import PATIENCE

GROUP = 54321  # of nobody else: numbers need no entry in /etc/group
USER = 54322
pytestmark = [pytest.mark.any_rung, pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: only root can be another user")]


@pytest.fixture(name="daemon")
def make_group_daemon(make_daemon, directory):
    """As an administrator gives it to a group: what is made in the directory is the group's too."""
    directory.chmod(0o755)
    state = directory / "state"
    state.mkdir()
    os.chown(state, 0, GROUP)
    state.chmod(0o2750)
    return make_daemon().start()


def sqlite(daemon, sql, *options, groups=f"--groups={GROUP}"):
    return subprocess.run(["setpriv", f"--reuid={USER}", f"--regid={USER}", groups, "sqlite3", *options, daemon.database, sql],
                          capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL)


def ports(daemon):
    """Of all claims, as sqlite3 with -readonly has them, and without."""
    results = [sqlite(daemon, "SELECT port FROM claims ORDER BY port", *options) for options in (["-readonly"], [], ["-readonly"])]
    for result in results:
        assert result.returncode == 0 and result.stderr == "" and result.stdout == results[0].stdout, result.stderr
    return [int(line) for line in results[0].stdout.split()]


def traces(daemon):
    """What a reader must leave as it is."""
    found = {}
    for entry in sorted(daemon.state.iterdir()):
        st = entry.stat()
        found[entry.name] = (st.st_uid, st.st_gid, oct(st.st_mode), entry.read_bytes() if entry.name != "heartbeat" else None)
    return found


def test_live_each_commit_is_seen(daemon, actor):
    for count in range(1, 4):
        actor.do(f"listener('l{count}')")
        daemon.call("org.portledger.ledger.Sync")
        assert len(ports(daemon)) == count
    for name, (owner, group, mode, _) in traces(daemon).items():
        assert (owner, group, mode) == (0, GROUP, oct(0o100640)), name


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_after_the_end(daemon, actor, how):
    expected = sorted([actor.do("listener('l')"), actor.do("bound('u', 'udp')")])
    daemon.call("org.portledger.ledger.Sync")
    getattr(daemon, how)()
    before = traces(daemon)
    assert ports(daemon) == expected
    assert traces(daemon) == before  # no byte, no file, no owner
    daemon.start()  # and the daemon goes on where it was
    daemon.call("org.portledger.ledger.Sync")
    assert set(ports(daemon)) == set(expected)
    assert daemon.rows("now")[0] != []


def test_a_reader_who_stays_sees_his_moment_and_disturbs_nobody(daemon, actor):
    first = actor.do("listener('l')")
    daemon.call("org.portledger.ledger.Sync")
    reader = subprocess.Popen(["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={GROUP}", "sqlite3", "-readonly",
                               daemon.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(sql):
        reader.stdin.write(f"{sql}; SELECT 'end';\n")
        lines = []
        while (line := reader.stdout.readline()) != "end\n":
            assert line
            lines.append(line.strip())
        return lines

    assert ask("BEGIN; SELECT port FROM claims") == [str(first)]
    second = actor.do("listener('m')")
    daemon.call("org.portledger.ledger.Sync")
    assert ask("SELECT port FROM claims") == [str(first)]
    assert sorted(ports(daemon)) == sorted([first, second])
    assert sorted(ask("COMMIT; SELECT port FROM claims")) == sorted([str(first), str(second)])
    reader.communicate("BEGIN; SELECT count(*) FROM claims;\n", PATIENCE)
    assert reader.returncode == 0
    daemon.stop()


@pytest.mark.parametrize("end", ["", "stop", "kill"])
def test_a_reader_cannot_write(daemon, actor, end):
    actor.do("listener('l')")
    daemon.call("org.portledger.ledger.Sync")
    if end:
        getattr(daemon, end)()
    before = traces(daemon) if end else None
    result = sqlite(daemon, "DELETE FROM claim_open; SELECT changes()")
    assert result.returncode != 0 and "readonly" in result.stderr.replace("read-only", "readonly"), result.stderr
    assert before is None or traces(daemon) == before
    assert len(ports(daemon)) == 1


@pytest.mark.parametrize("end", ["", "stop", "kill"])
def test_who_is_not_in_the_group_is_refused(daemon, actor, end):
    actor.do("listener('l')")
    daemon.call("org.portledger.ledger.Sync")
    if end:
        getattr(daemon, end)()
    for options in (["-readonly"], []):
        result = sqlite(daemon, "SELECT port FROM claims", *options, groups="--clear-groups")
        assert result.returncode != 0 and result.stdout == "" and "unable to open" in result.stderr
