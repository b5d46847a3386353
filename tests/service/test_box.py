# SPDX-License-Identifier: MIT
"""The box itself: a machine on which the service was disabled boots without it, and nothing of a box is left behind."""
import pathlib

from conftest import SOCKET, UNIT, Box


def mentions(path, name):
    try:
        return name in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # it ended meanwhile


def traces(name):
    """What there is of a box on the outside: directories, processes, mounts that some process sees, and cgroups."""
    processes = [p for p in pathlib.Path("/proc").iterdir() if p.name.isdecimal()]
    roots = {line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
             if " - cgroup2 " in line}
    return {
        "directories": sorted(str(p) for p in pathlib.Path("/run").glob(f"{name}*")),
        "processes": [p.name for p in processes if mentions(p / "cgroup", name)],
        "mounts": [p.name for p in processes if mentions(p / "mountinfo", name)],
        "cgroups": [root for root in roots if (pathlib.Path(root) / name).exists()],
    }


def test_a_box_in_which_it_is_disabled_boots_without_it_and_leaves_nothing_behind():
    box = Box(enable=False)
    try:
        assert [box.show("ActiveState", unit) for unit in (UNIT, SOCKET)] == ["inactive"] * 2
        assert box.portledger().returncode == 3
        there = traces(box.path.name)
        assert there["directories"] and len(there["processes"]) > 3 and there["mounts"] and there["cgroups"]
    finally:
        box.down()
    assert traces(box.path.name) == {kind: [] for kind in there}
