# SPDX-License-Identifier: MIT
"""What bench/sweep, bench/rest and bench/soak share: a network namespace of their own, processes that hold sockets in
it, the daemon, what a process costs, and tables. All that is started here ends with the bench, however that ends."""
import contextlib
import datetime
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
subprocess.run([ROOT / "scripts/install-packages", "check"], check=True)
sys.path.insert(0, str(ROOT / "tests/system"))
import conftest  # noqa: E402  (the daemon and the actors of the system tests)

SOCKETS_PER_ACTOR = 2500  # within the limit of 4096 descriptors below
STATUS = "org.portledger.ledger.Status"


def end_in_order(number, _frame):
    """Ended from outside, we clean up as well."""
    sys.exit(128 + number)


def enter_own_namespace():
    """Goes on in a network namespace that ends with us, where every socket is one of the bench's own."""
    if os.environ.get("PORTLEDGER_BENCH_NETNS") != os.readlink("/proc/self/ns/net"):
        if "PORTLEDGER_BENCH_NETNS" in os.environ:
            os.environ["PORTLEDGER_BENCH_NETNS"] = os.readlink("/proc/self/ns/net")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            return
        os.environ["PORTLEDGER_BENCH_NETNS"] = ""
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


signal.signal(signal.SIGTERM, end_in_order)
signal.signal(signal.SIGINT, end_in_order)


class Here:
    """The namespace that we are in, in the place of conftest.Namespace."""

    def enter(self, *command):
        return ["setpriv", "--pdeathsig", "TERM", *map(str, command)]


@contextlib.contextmanager
def running_daemon(directory, interval, config="CpuBudget=100%\n", options=()):
    """A daemon that is stopped in order, or killed where the bench fails."""
    daemon = conftest.Daemon(Here(), directory, interval=interval, config=config, options=options)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.kill()


class Crowd:
    """Processes that hold loopback connections (both ends) and UDP sockets."""

    def __init__(self, pairs, udp, first_port=20000):
        count = max(1, -(-(2 * pairs + udp) // SOCKETS_PER_ACTOR))
        self.actors = []
        self.first_port = first_port
        try:
            for i in range(count):
                a = conftest.Actor(Here(), prefix=("prlimit", "--nofile=4096:4096"))
                self.actors.append(a)
                a.do(f"listener('here', at={first_port + i})")
                a.do(f"crowd_pairs('here', 'c', 0, {part(pairs, count, i)})")
                a.do(f"crowd_udp('c', 0, {part(udp, count, i)})")
        except BaseException:
            self.close()
            raise

    def renew(self, pairs, udp):
        for i, a in enumerate(self.actors):
            a.do(f"crowd_renew('here', 'c', {part(pairs, len(self.actors), i)}, {part(udp, len(self.actors), i)})")

    def close(self):
        for a in self.actors:
            a.close()


def part(whole, count, i):
    """The i-th of `count` nearly equal parts of a number."""
    return whole * (i + 1) // count - whole * i // count


def cpu_seconds(pid):
    """User and system time of a process since its start, to the nanosecond: its own CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def cpu_of(command):
    """Runs it to its end, its output away; the seconds of CPU that it took, its start included."""
    with open(os.devnull, "r+b") as null:
        p = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    assert p.returncode == 0, f"{command}: {p.returncode}"
    return usage.ru_utime + usage.ru_stime


def memory_of(pid):
    """Kilobytes of smaps_rollup by name: Pss, Rss, Pss_Anon, ..."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return {line.split()[0][:-1]: int(line.split()[1]) for line in list(f)[1:]}


def kernel_memory_of(pid):
    """Kilobytes that the kernel keeps for the BPF programs and maps behind a process's descriptors: part of no process's memory."""
    programs, maps = set(), {}
    for entry in os.scandir(f"/proc/{pid}/fdinfo"):
        with open(entry.path, encoding="ascii") as f:
            programs |= {int(line.split()[1]) for line in f if line.startswith("prog_id:")}
    size = 0
    for program in programs:
        shown = bpftool("prog", program)
        size += shown["bytes_memlock"] + shown["bytes_jited"]
        maps |= {i: bpftool("map", i)["bytes_memlock"] for i in shown.get("map_ids", []) if i not in maps}
    return (size + sum(maps.values())) // 1024


def bpftool(kind, number):
    out = subprocess.run(["bpftool", "-j", kind, "show", "id", str(number)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def processes_of(daemon):
    """pids by name."""
    return {"capture": daemon.process.pid, "ledger": daemon.child("pl-ledger"), "control": daemon.child("pl-control")}


def settle(daemon):
    """Until every socket that is there has been attributed, so that what follows is the steady state."""
    return conftest.wait_for(lambda: (s := daemon.call(STATUS)) and s["unattributed"] == 0 and s["watching"] and s,
                             "all sockets to be attributed")


def median(values):
    return statistics.median(values)


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        model = next((line.partition(":")[2].strip() for line in f if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo", encoding="ascii") as f:
        gigabytes = int(f.readline().split()[1]) / 2**20
    return (f"{datetime.date.today()}, {os.cpu_count()} cores ({model}), {gigabytes:.0f} GiB, "
            f"Linux {'.'.join(platform.release().split('.')[:2])}, "
            f"{sum(name.isdigit() for name in os.listdir('/proc'))} processes")


def print_table(rows):
    """The first row is the heading, the first column is text, all others numbers."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths))))
    print(flush=True)
