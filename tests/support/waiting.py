# SPDX-License-Identifier: MIT
"""Waits, each of which has an end."""
import os
import time

SLOWNESS = float(os.environ.get("PORTLEDGER_SLOWNESS", "1"))  # of the machine: by so much longer everything may take
PATIENCE = 20.0 * SLOWNESS  # seconds; the end of every wait


def wait_for(condition, what, patience=PATIENCE):
    """Looks until `condition()` is true; what a process does in its own time has no other sign."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"waited {patience} s in vain for {what}")
