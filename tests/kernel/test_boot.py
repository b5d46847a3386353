# SPDX-License-Identifier: MIT
"""The guest boots Debian's stock kernel and a systemd that starts the daemon; and that one did not boot is seen."""
import os
import pathlib
import time

import pytest

from conftest import BOOT, UNIT, Guest, GuestFailed


def test_it_is_the_kernel_that_debian_ships(guest):
    """... on a machine that has the controllers of cgroup v2 and the kernel's records of itself."""
    release = guest.text("uname", "-r")
    assert release.startswith("6.1.") and release.endswith("-amd64")
    assert "Debian" in guest.text("uname", "-v")
    assert guest.text("stat", "-f", "-c", "%T", "/sys/fs/cgroup") == "cgroup2fs"
    assert {"memory", "pids"} <= set(guest.text("cat", "/sys/fs/cgroup/cgroup.controllers").split())
    guest.run("test", "-e", "/sys/kernel/btf/vmlinux", "-a", "-e", "/sys/kernel/tracing/events/syscalls")


def test_nothing_of_the_service_is_to_be_complained_of(guest):
    entries = guest.journal()
    assert any("recording" in e["MESSAGE"] for e in entries)
    assert not [e["MESSAGE"] for e in entries if int(e["PRIORITY"]) <= 4 or "Landlock" in e["MESSAGE"]]


def mounts_and_children():
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8"), set(children)


@pytest.mark.parametrize("options, patience, words", [("rdinit=/nowhere", BOOT, "the guest died"), ("", 2, "did not answer in 2 s")],
                         ids=("panics", "hangs"))
def test_a_kernel_that_does_not_boot_is_a_failure_in_bounded_time(options, patience, words):
    before, start = mounts_and_children(), time.monotonic()
    with pytest.raises(GuestFailed, match=words) as failure:
        Guest("failing", options, patience)
    assert time.monotonic() - start < patience + 60
    assert mounts_and_children() == before
    assert "Kernel panic" in str(failure.value) or patience == 2


def test_a_command_that_does_not_end_is_ended(guest):
    result = guest.run("sleep", "1000", timeout=1, check=False)
    assert result.returncode == -9 and "killed after 1" in result.stderr
    assert guest.text("echo", "there") == "there" and guest.is_active(UNIT)
