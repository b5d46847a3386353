# SPDX-License-Identifier: MIT
"""Waits, each of which has an end."""
import os
import time

SLOWNESS = float(os.environ.get("PORTLEDGER_SLOWNESS", "1"))  # of the machine: by so much longer everything may take
PATIENCE = 20.0 * SLOWNESS  # seconds; the end of every wait


def wait_for(condition, what, patience=PATIENCE):
    """Looks until `condition()` is true; what a process does in its own time has no other sign. The longer it takes, the less often:
    the look is a question that costs who is waited for."""
    end = time.monotonic() + patience
    pause = 0.004
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(pause)
        pause = min(1.3 * pause, 0.05)
    raise AssertionError(f"waited {patience} s in vain for {what}")


def within(seconds, act, tries=3):
    """What `act()` gave, once it took no longer than that: of a host that takes the processors away, one try says nothing."""
    for _ in range(tries):
        began = time.monotonic()
        result = act()
        took = time.monotonic() - began
        if took < seconds:
            return result
    raise AssertionError(f"{took} s, and no less than {seconds} s in {tries} tries")
