# SPDX-License-Identifier: MIT
"""`portledger -H HOST`: the question goes through ssh, and whatever ends badly there has its exit status and its words here.
In the place of ssh stands a script that says what it was given, and runs the command after HOST on this host."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import CLIENT, PATIENCE, alive, wait_for
from fakedaemon import FakeDaemon
from test_client_answers import on_terminal

pytestmark = pytest.mark.any_rung

RUN = 'shift 4; exec "$@"'
HALF = b'{"parameters":{"claims":['


class Ssh:
    """The stand-in, in a directory; its far end has the daemon at `path`."""

    def __init__(self, directory, path, script=RUN):
        self.directory, self.program = directory, directory / "stand-in"
        self.program.write_text(f"""#!/bin/sh
printf '%s\\n' "$@" > {directory}/argv
export PORTLEDGER_SOCKET={path} PATH={CLIENT.parent}:$PATH
echo $$ > {directory}/pid.new && mv {directory}/pid.new {directory}/pid
{script}
""")
        self.program.chmod(0o755)

    def start(self, *arguments, **options):
        return subprocess.Popen([CLIENT, "-H", "web1", *map(str, arguments)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
                                # a check in the background is started with SIGINT ignored, and so all that it starts
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                                env={**os.environ, "PORTLEDGER_SSH": str(self.program), "TZ": "UTC", "LC_ALL": "C.UTF-8",
                                     "PORTLEDGER_SOCKET": "/nonexistent/here"})

    def run(self, *arguments, **options):
        process = self.start(*arguments, **options)
        process.stdout_text, process.stderr_text = process.communicate(timeout=PATIENCE)
        return process

    def argv(self):
        return (self.directory / "argv").read_text().splitlines()

    def pid(self):
        """Of ssh, which the script's `exec` hands on to what it runs."""
        return int(wait_for(lambda: (self.directory / "pid").exists() and (self.directory / "pid").read_text(), "ssh to start"))


@pytest.fixture(name="ssh")
def stand_in(daemon, directory):
    return Ssh(directory, daemon.socket)


def without_user(rows):
    return [{**row, "user": None} if "user" in row else row for row in rows]


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_what_ssh_is_given(ssh):
    assert ssh.run("status").returncode == 0
    assert ssh.argv() == ["-e", "none", "-T", "web1", "env", "SYSTEMD_VARLINK_LISTEN=-", "portledger"]
    assert not alive(ssh.pid())


def test_every_verb_answers_as_it_does_there(ssh, daemon, actor):
    port = actor.do("listener('l')")
    until = time.time_ns() // 1000 / 1e6 + 0.3
    daemon.call("org.portledger.ledger.Sync")
    past = ["-S", "@0", "-U", f"@{until:.6f}"]
    wait_for(lambda: time.time() > until, "the window to be past: then two answers are the same")
    for verb in (["who", port, *past], ["history", port, *past], ["history", port, *past, "--csv"]):
        here = daemon.client(*verb, "--json=short" if verb[-1] != "--csv" else "--strict")
        there = ssh.run(*verb, "--json=short" if verb[-1] != "--csv" else "--strict")
        assert there.returncode == here.returncode and there.stderr_text == here.stderr, there.stderr_text
        if verb[-1] == "--csv":
            assert there.stdout_text == here.stdout.replace(",root,", ",,") != here.stdout
        else:
            assert rows_of(there.stdout_text) == without_user(rows_of(here.stdout)) and f'"port":{port}' in here.stdout
    for verb in ([str(port)], ["now"], ["audit", *past], ["status"], ["doctor"]):
        for form in ("--json=off", "--json=short", "--json=pretty"):
            there = ssh.run(*verb, form)
            assert there.returncode == daemon.client(*verb, form).returncode and there.stderr_text == "", there.stderr_text
            assert there.stdout_text and (verb[0] == "status" or verb[0] == "doctor" or str(actor.pid) in there.stdout_text
                                          or verb[0] == "audit")


def test_no_pager_takes_the_terminal_from_ssh(ssh, daemon, actor):
    port = actor.do("listener('l')")
    daemon.path = daemon.socket
    pager = {"PAGER": "sed s/^/paged:/", "PORTLEDGER_SSH": str(ssh.program)}
    here, _ = on_terminal(daemon, "now", port, **pager)
    there, code = on_terminal(daemon, "-H", "web1", "now", port, **pager)
    assert code == 0 and str(port) in there and "paged:" in here and "paged:" not in there


def test_users_are_numbers_since_names_are_of_this_host(ssh, actor):
    port = actor.do("listener('l')")
    headings, row = map(str.split, ssh.run("now", port).stdout_text.splitlines()[:2])
    assert row[headings.index("USER")] == "0"
    assert ssh.run("now", port, "--user", "0").returncode == 0 and ssh.run("now", port, "--user", "4242").returncode == 1
    by_name = ssh.run("now", "--user", "root")
    assert by_name.returncode == 2 and "by number" in by_name.stderr_text


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "a b", "a;b", "a$(b)", "a,b", "a\nb", "a'b"])
def test_a_host_that_is_none_never_gets_to_ssh(directory, host):
    program = Ssh(directory, "/nonexistent/there").program
    for arguments in (["-H", host, "status"], [f"--host={host}"]):
        result = subprocess.run([CLIENT, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False,
                                env={**os.environ, "PORTLEDGER_SSH": str(program)})
        assert (result.returncode, result.stdout) == (2, "") and not (directory / "argv").exists()


def test_which_program_is_ssh(ssh):
    def run(**environment):
        environment = {**{k: v for k, v in os.environ.items() if k != "PORTLEDGER_SSH"}, **environment}
        return subprocess.run([CLIENT, "-H", "web1"], capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)

    os.symlink(ssh.program, ssh.directory / "ssh")
    path = {"PATH": f"{ssh.directory}:{os.environ['PATH']}"}
    assert run(PORTLEDGER_SSH=str(ssh.program), SYSTEMD_SSH="/nonexistent/b").returncode == 0
    assert run(SYSTEMD_SSH=str(ssh.program)).returncode == 0
    assert run(**path).returncode == 0 and run(**path, PORTLEDGER_SSH="").returncode == 0
    assert run(PORTLEDGER_SSH="stand-in", **path).returncode == 0
    # one word: never a shell's business
    missing = run(PORTLEDGER_SSH=f"{ssh.program} -v")
    assert missing.returncode == 3 and "cannot run" in missing.stderr and "No such file" in missing.stderr


def failing(directory, script, path="/nonexistent/there"):
    """How `who` fails, and its words."""
    result = Ssh(directory, path, script).run("who", "60530", "--json=short")
    assert result.stdout_text == "" and "web1" in result.stderr_text
    return result.returncode, result.stderr_text


def test_ssh_fails_with_its_own_message(directory):
    code, said = failing(directory, "echo 'ssh: connect to host web1 port 22: No route to host' >&2; exit 255")
    assert code == 3 and said.startswith("ssh: connect to host web1 port 22: No route to host\n") and "failed" in said


def test_no_portledger_there(directory):
    code, said = failing(directory, 'shift 4; PATH=/usr/bin:/bin; exec "$@"')
    assert code == 3 and said.startswith("env: ") and "web1: there is no portledger to run there" in said


def test_no_daemon_there(directory):
    code, said = failing(directory, RUN)
    assert code == 3 and "no daemon answers at /nonexistent/there" in said and "web1: no daemon answers there" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="cannot run here: only root can make a socket that it may not open")
def test_permission_denied_there(directory):
    directory.chmod(0o755)
    with FakeDaemon(directory / "control", {}, mode=0o600) as daemon:
        code, said = failing(directory, 'shift 4; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"', daemon.path)
    assert code == 4 and f"permission denied: {directory}/control" in said and "web1: permission denied there" in said


@pytest.mark.parametrize("status, code", [(0, 5), (1, 5), (2, 5), (3, 3), (4, 4), (127, 3), (255, 3)])
def test_the_connection_is_cut_in_the_middle_of_an_answer(directory, status, code):
    assert failing(directory, f"printf '%s' '{HALF.decode()}'; exit {status}")[0] == code


def test_ssh_is_killed(directory):
    code, said = failing(directory, "kill -9 $$")
    assert code == 5 and "the connection was cut" in said and "137" in said


def test_the_daemon_there_goes_in_the_middle_of_an_answer(directory):
    with FakeDaemon(directory / "control", {"Who": HALF}) as daemon:
        code, said = failing(directory, RUN, daemon.path)
    assert code == 3 and "closed the connection" in said


def test_a_shell_that_prints_when_it_starts(ssh):
    ssh.__init__(ssh.directory, "/nonexistent/there", "echo Welcome to web1; " + r"printf '\0'; " + RUN)
    result = ssh.run("status")
    assert result.returncode == 5 and "web1: the daemon's answer is not Varlink" in result.stderr_text


def test_no_look_of_our_own_at_another_hosts_port(directory, namespace, actor):
    port = actor.do("listener('l')")
    ssh = Ssh(directory, "/nonexistent/there")
    result = subprocess.run(namespace.enter(CLIENT, "-H", "web1", port), capture_output=True, text=True, timeout=PATIENCE,
                            check=False, env={**os.environ, "PORTLEDGER_SSH": str(ssh.program)})
    assert (result.returncode, result.stdout) == (3, "")
    (directory / "stand-in").unlink()  # not even that can be run
    result = subprocess.run(namespace.enter(CLIENT, "-H", "web1", port), capture_output=True, text=True, timeout=PATIENCE,
                            check=False, env={**os.environ, "PORTLEDGER_SSH": str(ssh.program)})
    assert (result.returncode, result.stdout) == (3, "")


def test_doctor_without_a_daemon_there(directory):
    result = Ssh(directory, "/nonexistent/there").run("doctor", "--json=short")
    assert result.returncode == 3
    assert rows_of(result.stdout_text) == [
        {"name": "daemon", "level": "failure", "text": "no daemon answers at web1", "fix": None}]


def test_an_error_of_the_daemon_says_the_host(directory):
    with FakeDaemon(directory / "control", {"Who": {"error": "org.portledger.ledger.StoreUnavailable",
                                                    "parameters": {"reason": "no such file"}}}) as daemon:
        code, said = failing(directory, RUN, daemon.path)
    assert code == 5 and said == "portledger: web1: the database cannot be read: no such file\n"


def follow(ssh, actor):
    """A Follow under way, that has shown a claim; its line is read."""
    port = actor.do("listener('l')")
    process = ssh.start("follow", "--json=short")
    assert json.loads(process.stdout.readline())["port"] == port
    return process


def finish(process, code):
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    return said


def test_follow_until_the_daemon_stops(ssh, daemon, actor):
    process = follow(ssh, actor)
    port = actor.do("listener('second')")
    daemon.call("org.portledger.ledger.Sync")
    event = json.loads(process.stdout.readline())
    assert (event["event"], event["port"], event["user"]) == ("opened", port, None)
    daemon.stop()
    assert "no daemon answers there" in finish(process, 3)
    assert not alive(ssh.pid())


@pytest.mark.parametrize("status, code", [(255, 3), (1, 5)])
def test_follow_until_ssh_ends(ssh, daemon, actor, status, code):
    ssh.__init__(ssh.directory, daemon.socket, f"shift 4; trap 'kill $!; exit {status}' USR1; "
                                               'exec 3<&0; "$@" <&3 & exec 3<&-; wait')
    process = follow(ssh, actor)
    os.kill(ssh.pid(), signal.SIGUSR1)
    assert "web1" in finish(process, code)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_client_and_ssh(ssh, actor, number):
    process = follow(ssh, actor)
    process.send_signal(number)
    finish(process, -number)
    wait_for(lambda: not alive(ssh.pid()), "ssh to end")


def test_ctrl_c_ends_the_client_and_ssh(ssh, actor):
    actor.do("listener('l')")
    process = ssh.start("follow", "--json=short", start_new_session=True)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    finish(process, -signal.SIGINT)
    wait_for(lambda: not alive(ssh.pid()), "ssh to end")


def test_an_ssh_that_hears_nothing_ends_with_us(directory):
    """It connects, or asks something: it reads neither end of file nor anything else."""
    ssh = Ssh(directory, "/nonexistent/there", "exec sleep 1000")
    process = ssh.start("status")
    pid = ssh.pid()
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "ssh to hang")
    process.kill()
    finish(process, -signal.SIGKILL)
    wait_for(lambda: not alive(pid), "ssh to end")


def test_an_ssh_that_does_not_end_is_ended(directory):
    """The answer came, and its process stays, deaf to SIGTERM too: no answer is worth waiting for ever afterwards."""
    reply = json.dumps({"parameters": {"checks": []}})
    ssh = Ssh(directory, "/nonexistent/there", f"trap '' TERM; printf '%s\\0' '{reply}'; exec sleep 1000")
    result = ssh.run("doctor", "--json=short")
    assert result.returncode == 0 and not alive(ssh.pid())


def test_varlink_by_hand_through_the_stand_in(ssh):
    """What varlinkctl's ssh-exec: does."""
    result = subprocess.run([ssh.program, "-e", "none", "-T", "web1", "env", "SYSTEMD_VARLINK_LISTEN=-", "portledger"],
                            input=b'{"method":"org.varlink.service.GetInfo"}\0', capture_output=True, timeout=PATIENCE,
                            check=True)
    assert json.loads(result.stdout[:-1])["parameters"]["product"] == "portledgerd"
