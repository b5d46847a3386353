# SPDX-License-Identifier: MIT
"""What the compiler and the linker were asked for is in the programs that they made: read from the ELF files themselves, of this build
and of the one that is installed. A program that was made with all of it off is refused, point by point."""
import json
import os
import pathlib
import re
import subprocess

import pytest

from conftest import BUILD, CLIENT, DAEMON

ROOT = pathlib.Path(__file__).resolve().parents[2]
INSTALLED = pathlib.Path(os.environ.get("PORTLEDGER_INSTALL", ROOT / "build-results/install"))
SOFT = ["-O2", "-no-pie", "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0", "-fcf-protection=none", "-Wl,-z,norelro",
        "-Wl,-z,lazy", "-Wl,-z,execstack", "-Wl,-rpath,/tmp"]
HARD = ["-O2", "-pie", "-fPIE", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fcf-protection",
        "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
ENDBR64 = b"\xf3\x0f\x1e\xfa"
FUNCTIONS = 20
PROGRAM = """#include <stdio.h>
#include <string.h>
""" + "".join(f"int f{i}(void);\nint f{i}(void) {{ return {i}; }}\n" for i in range(FUNCTIONS)) + """
int main(int argc, char **argv) { char b[64]; if (argc > 1) strcpy(b, argv[1]); else b[0] = 0; return printf("%s", b) < 0; }
"""


def readelf(path, *options):
    return subprocess.run(["readelf", "-W", *options, path], capture_output=True, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout


def softness(path):
    """What is missing."""
    headers, dynamic = readelf(path, "-hl"), readelf(path, "-d")
    symbols = readelf(path, "--dyn-syms")
    segments = re.findall(r"^  (LOAD|GNU_STACK|GNU_RELRO) .* ([R ][W ][E ]) 0x", headers, re.M)
    found = {
        "PIE": "Type:" in headers and re.search(r"Type: +DYN", headers) and re.search(r"FLAGS_1.*\bPIE\b", dynamic),
        "RELRO": any(kind == "GNU_RELRO" for kind, _ in segments),
        "BIND_NOW": re.search(r"BIND_NOW|FLAGS_1.*\bNOW\b", dynamic),
        "no executable stack": any(kind == "GNU_STACK" and "E" not in flags for kind, flags in segments),
        "nothing writable and executable": all(not ("W" in flags and "E" in flags) for kind, flags in segments),
        "stack protector": "__stack_chk_fail" in symbols,
        "FORTIFY": re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", "")),
        "no RPATH": not re.search(r"\((RPATH|RUNPATH)\)", dynamic),
        "no TEXTREL": "TEXTREL" not in dynamic,
    }
    if os.uname().machine == "x86_64":
        # Debian's own start files are without, so the note of the whole is not there: what we compiled counts
        found["CET"] = pathlib.Path(path).read_bytes().count(ENDBR64) >= FUNCTIONS
    return {name for name, there in found.items() if not there}


def build_option(name):
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text(encoding="utf-8"))
    return next(o["value"] for o in options if o["name"] == name)


@pytest.mark.parametrize("program", [DAEMON, CLIENT], ids=["daemon", "client"])
def test_of_this_build(program):
    soft = softness(program)
    if build_option("optimization") in ("0", "plain") or build_option("b_sanitize") != "none":
        soft -= {"FORTIFY"}  # is of no use there
    assert not soft


@pytest.mark.parametrize("program", ["usr/sbin/portledgerd", "usr/bin/portledger"])
def test_of_a_packagers_build(program):
    """His flags come on top: FORTIFY and the optimisation are his."""
    if not (INSTALLED / program).exists():
        pytest.skip("cannot run here: nothing is installed, check does that")
    assert softness(INSTALLED / program) <= {"FORTIFY"}


def test_what_is_soft_is_seen(directory):
    source, soft, hard = directory / "program.c", directory / "soft", directory / "hard"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", *SOFT, "-o", soft, source], check=True)
    subprocess.run(["gcc", *HARD, "-o", hard, source], check=True)
    assert softness(hard) == set()
    expected = {"PIE", "RELRO", "BIND_NOW", "no executable stack", "stack protector", "FORTIFY", "no RPATH", "CET",
                "nothing writable and executable"}
    assert softness(soft) == expected - ({"CET"} if os.uname().machine != "x86_64" else set())
