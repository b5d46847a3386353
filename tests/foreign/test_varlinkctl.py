# SPDX-License-Identifier: MIT
"""systemd's own client, where there is one."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import IDL
from system import CLIENT, PATIENCE

NAME = "org.portledger.ledger"
pytestmark = pytest.mark.skipif(not shutil.which("varlinkctl"),
                                reason="cannot run here: varlinkctl comes with systemd 255")


def varlinkctl(*arguments, code=0, **environment):
    result = subprocess.run(["varlinkctl", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False,
                            env={**os.environ, **environment})
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stdout + result.stderr


def test_the_description(daemon):
    varlinkctl("validate-idl", IDL)
    assert "portledgerd" in varlinkctl("info", daemon.socket)
    assert NAME in varlinkctl("list-interfaces", daemon.socket).split()
    introspected = varlinkctl("introspect", daemon.socket, NAME)
    assert f"interface {NAME}\n" in introspected and "method Explain(" in introspected


def test_calls_and_errors(daemon, actor):
    port = actor.do("listener('l')")
    answer = json.loads(varlinkctl("call", "-j", daemon.socket, f"{NAME}.Explain", json.dumps({"port": port})))
    assert answer["now"][0]["pid"] == actor.pid
    assert f"{NAME}.InvalidRange" in varlinkctl("call", daemon.socket, f"{NAME}.Explain", '{"port":0}', code=1)
    assert "ExpectedMore" in varlinkctl("call", daemon.socket, f"{NAME}.Follow", "{}", code=1)
    stream = varlinkctl("call", "-j", "--more", daemon.socket, f"{NAME}.Claims", '{"open":true}')
    assert str(actor.pid) in stream


def test_through_ssh(daemon, directory):
    ssh = directory / "ssh"
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {directory}/argv\nexport PORTLEDGER_SOCKET={daemon.socket} '
                   f'PATH={CLIENT.parent}:$PATH\nshift 4\nexec "$@"\n')
    ssh.chmod(0o755)
    answer = varlinkctl("call", "-j", "ssh-exec:web1:portledger", f"{NAME}.Sync", "{}", SYSTEMD_SSH=str(ssh))
    assert json.loads(answer)["commit"] > 0
    # the words that portledger -H uses too
    assert (directory / "argv").read_text().split() == "-e none -T web1 env SYSTEMD_VARLINK_LISTEN=- portledger".split()
