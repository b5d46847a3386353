# SPDX-License-Identifier: MIT
"""Debian's Go implementation of Varlink: its client drives every method, its certification tests our codec and server."""
import json
import os
import re
import signal
import subprocess

import pytest

import idl
from conftest import IDL
from system import BUILD, PATIENCE, wait_for

# Errors that no test here can provoke; each is said to be one.
UNPROVOKED = {"org.portledger.ledger.QueryTooLong": "a query that works for 20 s",
              "org.varlink.service.PermissionDenied": "who may connect may ask everything"}


def run(namespace, drive, *arguments):
    result = subprocess.run(namespace.enter(drive, *arguments), capture_output=True, text=True, timeout=3 * PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_method_is_driven_and_every_error_met(drive, namespace, daemon):
    """A method or an error that is added to the description and not to the program makes this fail."""
    told = run(namespace, drive, f"unix:{daemon.socket}")
    # no ledger, and nobody to start another: it cannot look
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        os.kill(daemon.child("pl-ledger"), signal.SIGKILL)
        told["errors"].update(run(namespace, drive, "-unavailable", f"unix:{daemon.socket}")["errors"])
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    wait_for(daemon.answers, "the ledger to be back")
    ours = idl.Interface(IDL.read_text(encoding="utf-8"))
    service = idl.Interface(daemon.call("org.varlink.service.GetInterfaceDescription",
                                        {"interface": "org.varlink.service"})["description"])
    assert set(told["driven"]) == {f"{i.name}.{method}" for i in (ours, service) for method in i.methods}
    assert set(told["errors"]) | set(UNPROVOKED) == {f"{i.name}.{error}" for i in (ours, service) for error in i.errors}
    assert not set(told["errors"]) & set(UNPROVOKED)


def certify(directory, *wrong):
    """What the certification client says of our server, and what that says of the client."""
    path = directory / "certification"
    with subprocess.Popen([BUILD / "tests/foreign/certify-server", path, *wrong], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        client = subprocess.run(["varlink-go-certification", "-client", "-varlink", f"unix:{path}"], capture_output=True, text=True,
                                timeout=PATIENCE, check=True)
        _, said = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0, said
    path.unlink()
    return client.stdout, said


def test_certification(directory):
    told, said = certify(directory)
    assert told.splitlines()[-1] == "End: 'true'" and said == ""
    assert len(re.findall(r"^  Receive: 'Reply number \d+'$", told, re.M)) == 10
    for number in range(1, 12):
        assert re.search(rf"^Test{number:02}: ", told, re.M)


@pytest.mark.parametrize("method", ["Start", *(f"Test{n:02}" for n in range(1, 11)), "End"])
def test_a_wrong_reply_is_not_certified(directory, method):
    told, _ = certify(directory, method)
    assert "End: 'true'" not in told and ("failed" in told or "End: 'false'" in told)
