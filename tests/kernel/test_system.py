# SPDX-License-Identifier: MIT
"""The system tests that are about the kernel, run in the guest as they are. Their cases are told by name, in kernel-system.xml."""
from conftest import BUILD, RESULTS, ROOT

SLOWNESS = 10  # how much longer than elsewhere something may take before it hangs
CLAIMS = 10_000
TESTS = ("test_claims.py", "test_sources.py", "test_units.py", "test_complete.py::test_nothing_escapes",
         "test_complete.py::test_udp_that_disconnects")
PRINTED = "/run/kernel-system.xml"


def test_they_pass_on_this_kernel(guest):
    result = guest.run("env", f"PORTLEDGER_SLOWNESS={SLOWNESS}", f"PORTLEDGER_BUILD={BUILD}", f"PORTLEDGER_CLAIMS={CLAIMS}",
                       "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=10", f"--junitxml={PRINTED}",
                       *(f"{ROOT}/tests/system/{name}" for name in TESTS), timeout=3600, check=False)
    print(result.stdout[-20_000:], result.stderr)
    (RESULTS / "kernel-system.xml").write_text(guest.run("cat", PRINTED).stdout, encoding="utf-8")
    assert result.returncode == 0
