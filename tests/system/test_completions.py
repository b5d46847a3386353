# SPDX-License-Identifier: MIT
"""Completions of three shells, each run by its shell: verbs and options as the program's help has them, values that a daemon
has seen, and names of others that no shell may take for its own language."""
import os
import pty
import shutil
import signal
import subprocess

import pytest

from conftest import CLIENT, PATIENCE, ROOT, wait_for

pytestmark = pytest.mark.any_rung

HOSTILE = b"$(>hacked) `>h`"[:15]


@pytest.fixture(name="place")
def make_place(daemon, make_actor, directory):
    """A directory with the program in it under its name, and a daemon that has seen two programs."""
    (directory / "bin").mkdir()
    (directory / "bin/portledger").symlink_to(CLIENT)
    plain, hostile = make_actor(), make_actor()
    plain.do(f"set_name('{b'plain-name'.hex()}')")
    hostile.do(f"set_name('{HOSTILE.hex()}')")
    port = plain.do("bound('u', 'udp')")
    hostile.do("bound('u', 'udp')")
    daemon.call("org.portledger.ledger.Sync")
    environment = {**os.environ, "PATH": f"{directory / 'bin'}:{os.environ['PATH']}", "PORTLEDGER_SOCKET": daemon.socket,
                   "HOME": str(directory), "LC_ALL": "C.UTF-8", "TERM": "vt100"}
    return directory, environment, port


def bash(place, line):
    """What readline would offer: its words, split as it splits them."""
    directory, environment, _ = place
    words = line.replace("=", " = ").split(" ")
    script = (f"source {ROOT / 'completions/portledger.bash'}; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); "
              "_portledger portledger; printf '%s\\n' \"${COMPREPLY[@]}\"")
    result = subprocess.run(["bash", "--norc", "-c", script, "bash", *words], capture_output=True, text=True, timeout=PATIENCE,
                            env=environment, cwd=directory, check=False)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return [word.rstrip("=") for word in result.stdout.split("\n") if word]


def fish_of_each(place, lines):
    """For each line what it offers; by one fish, since it takes long to start."""
    directory, environment, _ = place
    script = f"source {ROOT / 'completions/portledger.fish'}" + "".join(f"; complete -C '{line}'; echo -END-" for line in lines)
    result = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=PATIENCE,
                            env=environment, cwd=directory, check=False)
    assert result.returncode == 0 and not result.stderr, result.stderr
    *parts, rest = result.stdout.split("-END-\n")
    assert rest == "" and len(parts) == len(lines)
    return [[offered.split("\t")[0].rstrip("=") for offered in part.splitlines()] for part in parts]


def fish(place, line):
    return fish_of_each(place, [line])[0]


def of_each(shell, place, *lines):
    return fish_of_each(place, lines) if shell is fish else [shell(place, line) for line in lines]


class Zsh:
    """An interactive zsh; what a line is completed to is written to a file."""

    def __init__(self, place):
        directory, environment, _ = place
        self.said, self.out = b"", directory / "buffer"
        (directory / ".zshrc").write_text(
            f"fpath=({ROOT / 'completions'} $fpath); autoload -U compinit; compinit -u -D; unsetopt automenu; setopt list_ambiguous\n"
            f"tell() {{ print -r -- \"$BUFFER\" >{self.out}.new; mv {self.out}.new {self.out}; BUFFER= }}; zle -N tell; bindkey '^X' tell\n"
            "PS1='READY'; LISTMAX=1000\n")
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.execvpe("zsh", ["zsh", "-i"], {**environment, "ZDOTDIR": str(directory)})
        os.set_blocking(self.terminal, False)
        wait_for(lambda: self.read().endswith(b"READY") or b"READY" in self.said, "zsh's prompt")

    def read(self):
        try:
            while data := os.read(self.terminal, 65536):
                self.said += data
        except OSError:
            pass  # nothing there yet, or the end
        return self.said

    def complete(self, line):
        if self.out.exists():
            self.out.unlink()
        os.write(self.terminal, line.encode() + b"\t\x18")
        wait_for(lambda: self.read() is not None and self.out.exists(), f"zsh to complete {line}")
        return self.out.read_text(encoding="utf-8").rstrip("\n")

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.mark.parametrize("shell", [bash, fish])
def test_verbs_options_and_words(place, shell):
    verbs = {line.split()[0] for line in subprocess.run([CLIENT, "help"], capture_output=True, text=True, check=True).stdout.split(
        "\n\n")[1].splitlines()} - {"portledger"}
    first, begun, helped, offered, option, words, word, used = of_each(
        shell, place, "portledger ", "portledger aud", "portledger help ", "portledger audit --", "portledger audit --overn",
        "portledger audit --by ", "portledger --utc audit --by po", "portledger audit ")
    assert set(first) == verbs and begun == ["audit"] and set(helped) == verbs
    assert {"--overnight", "--by", "--diff", "--json"} <= set(offered) and "--format" not in offered and len(offered) == len(set(offered))
    assert option == ["--overnight"] and word == ["port"]
    assert set(words) == {"program", "unit", "user", "port", "hour", "netns"}
    assert "audit" not in used


@pytest.mark.parametrize("shell", [bash, pytest.param(fish, marks=pytest.mark.long)])
def test_values_are_those_of_the_daemon(place, shell):
    directory, environment, port = place
    assert "plain-name" in shell(place, "portledger now --app pl")
    assert shell(place, "portledger history --proto ud") == ["udp", "udplite"]
    assert str(port) in shell(place, f"portledger who {str(port)[:2]}")
    assert str(port) in shell(place, f"portledger failures {str(port)[:2]}")
    assert shell(place, "portledger app pl") == ["plain-name"] and shell(place, "portledger doctor 4") == []
    assert "opened_usec" in shell(place, "portledger now -F opened_u")
    assert "busiest_usec" in shell(place, "portledger audit --columns bus")
    # another socket, on the line
    environment["PORTLEDGER_SOCKET"] = "/nonexistent"
    assert shell(place, "portledger now --app pl") == []
    assert "plain-name" in shell(place, f"portledger --socket {directory / 'control'} now --app pl")


@pytest.mark.parametrize("shell", [bash, fish])
def test_names_are_nobodys_language(place, shell):
    directory, environment, _ = place
    if shell is bash:  # readline inserts it as it is given: it has to be quoted
        offered = shell(place, "portledger now --app $")
        assert len(offered) == 1, offered
        said = subprocess.run(["bash", "--norc", "-c", f"printf %s {offered[0]}"], capture_output=True, cwd=directory, check=True)
        assert said.stdout == HOSTILE
    else:
        assert HOSTILE.decode() in shell(place, "portledger now --app ")
    assert not (directory / "hacked").exists() and not (directory / "h").exists()
    assert environment["PORTLEDGER_SOCKET"]


def test_bash_splits_at_the_equals_sign(place):
    assert bash(place, "portledger audit --by=po") == ["port"]
    assert "plain-name" in bash(place, "portledger now --app=pl")
    assert bash(place, f"portledger --socket={place[0] / 'control'} now --app=plain") == ["plain-name"]


def test_zsh(place):
    directory, _, port = place
    zsh = Zsh(place)
    try:
        assert zsh.complete("portledger aud") == "portledger audit "
        assert zsh.complete("portledger audit --overn") == "portledger audit --overnight "
        assert zsh.complete("portledger audit --by po") == "portledger audit --by port "
        assert zsh.complete("portledger audit --by=po") == "portledger audit --by=port "
        assert zsh.complete("portledger now --app pl") == "portledger now --app plain-name "
        assert zsh.complete("portledger app pl") == "portledger app plain-name "
        assert zsh.complete("portledger now -F opened_u").startswith("portledger now -F opened_usec")
        assert zsh.complete(f"portledger who {str(port)[:4]}").startswith(f"portledger who {str(port)[:4]}")
        assert zsh.complete("portledger now --app \\$") == "portledger now --app \\$\\(\\>hacked\\)\\ \\`\\>h\\` "
        assert not (directory / "hacked").exists() and not (directory / "h").exists()
    finally:
        zsh.close()


def test_the_program_need_not_answer(directory):
    """Without a daemon there are verbs and options, and no message."""
    (directory / "bin").mkdir()
    (directory / "bin/portledger").symlink_to(CLIENT)
    environment = {**os.environ, "PATH": f"{directory / 'bin'}:{os.environ['PATH']}", "PORTLEDGER_SOCKET": "/nonexistent",
                   "HOME": str(directory)}
    place = (directory, environment, 0)
    for shell in (bash, fish):
        assert of_each(shell, place, "portledger audit --overn", "portledger now --app ") == [["--overnight"], []]
    assert shutil.which("zsh")
