# SPDX-License-Identifier: MIT
"""What the daemon does, and says, where it may not have the events. The last file: the kernel cannot be unlocked again."""
import pytest

from conftest import changed, restarted, status

RIGHTS = "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\nAmbientCapabilities={0}\nCapabilityBoundingSet={0}\n"
FILES = "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
LOCKDOWN = "/sys/kernel/security/lockdown"


@pytest.mark.parametrize("rights, reasons", [(FILES, 1), ("", 2)], ids=("no events", "none"))
def test_without_capabilities_it_is_a_rung_lower_and_says_why(guest, rights, reasons):
    with changed(guest, RIGHTS.format(rights)):
        s = status(guest)
        assert s["rung"] == "destroy" and s["watching"] and len(s["degraded"]) == reasons, s
        assert "no kernel events: missing capabilities: CAP_BPF CAP_PERFMON" in s["degraded"][-1]
        assert "AmbientCapabilities=" in s["degraded"][-1]
        assert (s["udp_connect"], s["failures"]) == (False, False)
    assert status(guest)["rung"] == "events"


def test_under_lockdown(guest):
    """integrity takes nothing away here, confidentiality does."""
    guest.write(LOCKDOWN, "integrity")
    restarted(guest)
    s = status(guest)
    assert (s["rung"], s["udp_connect"], s["failures"], s["degraded"]) == ("events", True, True, [])
    guest.write(LOCKDOWN, "confidentiality")
    restarted(guest)
    s = status(guest)
    assert s["rung"] == "destroy" and s["watching"], s
    (reason,) = s["degraded"]
    assert "no kernel events: the kernel is locked down (confidentiality)" in reason and "lockdown=integrity" in reason
