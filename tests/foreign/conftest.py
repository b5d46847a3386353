# SPDX-License-Identifier: MIT
"""Programs of other people against our daemon. The fixtures are those of the system tests."""
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("system", ROOT / "tests/system/conftest.py")
system = importlib.util.module_from_spec(_spec)
sys.modules["system"] = system
_spec.loader.exec_module(system)

from system import actor, daemon, directory, make_actor, make_daemon, namespace  # noqa: E402,F401 (fixtures)

IDL = ROOT / "daemon/control/org.portledger.ledger.varlink"
WORK = ROOT / "build-foreign"  # kept: Go's cache and its programs, made again when something changed


@pytest.fixture
def rung():
    """What drive.go holds the answers against: a rung that every kernel has."""
    return "destroy"


@pytest.fixture(scope="session", name="drive")
def build_drive():
    """The Go program, with a client that Debian's generator makes of our interface description."""
    package = WORK / "src/orgportledgerledger"
    package.mkdir(parents=True, exist_ok=True)
    source = package / IDL.name
    source.write_text(IDL.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(["varlink-go-interface-generator", source], check=True)
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{WORK}:/usr/share/gocode", "GOFLAGS": "",
                   "GOCACHE": str(WORK / "cache"), "GOTOOLCHAIN": "local"}
    program = ROOT / "tests/foreign/drive.go"
    unformatted = subprocess.run(["gofmt", "-l", program], capture_output=True, text=True, check=True).stdout
    assert unformatted == "", unformatted
    subprocess.run(["go", "vet", program], check=True, env=environment)
    subprocess.run(["go", "build", "-o", WORK / "drive", program], check=True, env=environment)
    return WORK / "drive"
