# SPDX-License-Identifier: MIT
"""A night as the daemon tells it to a report: many programs, names that hurt, a hole in the coverage, a range that fills."""
import math

from fakedaemon import claim, coverage

HOUR = 3_600_000_000
START = 1_795_370_400_000_000  # 2026-11-22 18:00:00 UTC
END = START + 15 * HOUR
LOW = 32768

HOSTILE = ("</title><script>document.title='taken'</script>", "\x1b]0;x\x07\u202egpj.exe", "'\" onload='x' &amp;", "名前が長いプログラムです名前が長いプログラム",
           "שרת-עברי", "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀", "a" * 300)
ORDINARY = (("/usr/bin/node", "node", "web-api.service", 33), ("/usr/lib/chromium/chromium", "chromium", "app-chromium.slice", 1000),
            ("/usr/bin/python3.11", "celery", "celery@default.service", 998), ("/usr/sbin/nginx", "nginx", "nginx.service", 33),
            ("/usr/bin/ssh", "ssh", "session-3.scope", 1000), ("/opt/beacond", "beacond", "cron.service", 0))


def noise(i):
    """0 to 1, the same each time."""
    return math.modf(abs(math.sin(i * 12.9898) * 43758.5453))[0]


def programs(steps):
    rows = []
    for n, (exe, comm, unit, uid) in enumerate(ORDINARY):
        counts = [int(3000 / 4 ** n * (0.2 + noise(n * 100 + i)) * (1 + 3 * (i == 8))) for i in range(steps)]
        if steps > 9:
            counts[9] = 0
        rows.append({"exe": exe, "comm": comm, "unit": unit, "uid": uid, "user": None, "before": 3 * n, "steps": counts,
                     "claims": sum(counts) + 3 * n})
    for n, name in enumerate(HOSTILE):
        counts = [int(noise(n + i * 7) * 9) for i in range(steps)]
        rows.append({"exe": None, "comm": name, "unit": name, "uid": 1000 + n, "user": None, "before": 0, "steps": counts,
                     "claims": sum(counts)})
    rows.append({"exe": None, "comm": None, "unit": None, "uid": None, "user": None, "before": 0,
                 "steps": [31 * (i == 3) for i in range(steps)], "claims": 31})
    return sorted(rows, key=lambda row: -row["claims"])


def receipt(**members):
    watched = [{**coverage(since, until)["stretches"][0], "source": "destroy", "interval_usec": 2_000_000}
               for since, until in ((START, START + 9 * HOUR), (START + 10 * HOUR, END))]
    gaps = [{"from_usec": START + 9 * HOUR, "until_usec": START + 10 * HOUR, "reason": "killed", "lost": None},
            {"from_usec": START + 3 * HOUR + 60_000_000, "until_usec": START + 3 * HOUR + 90_000_000, "reason": "ring-full", "lost": 12}]
    return coverage(START, END, **{"stretches": watched, "gaps": gaps, **members})


def activity(parameters):
    """The answer to Activity for these parameters."""
    origin, step = parameters["origin_usec"], parameters["step_usec"]
    steps = -(-(parameters["until_usec"] - origin) // step)
    rows = programs(steps)
    ports = [0] * (65536 - LOW)
    for i in range(LOW, 61000):
        if noise(i) > 0.55:
            ports[i - LOW] = int(1 / (1.001 - noise(i * 3)))
    for i in (61017, 62001, 65535):
        ports[i - LOW] = 2
    return {"origin_usec": origin, "step_usec": step, "programs": rows, "omitted": 0,
            "claims": sum(row["claims"] for row in rows), "before": sum(row["before"] for row in rows), "unattributed": 31,
            "steps": [sum(row["steps"][i] for row in rows) for i in range(steps)], "ports": sum(n > 0 for n in ports),
            "low": LOW, "port_claims": ports, "elsewhere": 0, "ephemeral": {"low": LOW, "high": 60999}, "coverage": receipt()}


def occupancy(parameters):
    """The answer to Occupancy."""
    origin, step = parameters["origin_usec"], parameters["step_usec"]
    steps = -(-(parameters["until_usec"] - origin) // step)
    series = []
    for n, (protocol, netns, name, height) in enumerate((("tcp", 4026531840, None, 21000), ("udp", 4026531840, None, 300),
                                                        ("tcp", 4026532000, HOSTILE[0], 7))):
        used = [int(height * (0.1 + 0.5 * math.exp(-((i - steps * .55) / steps * 9) ** 2) + .2 * noise(i + n))) for i in range(steps)]
        peak = max(used)
        series.append({"netns": netns, "netns_name": name, "protocol": protocol, "range": {"low": LOW, "high": 60999},
                       "peak": peak, "peak_usec": origin + used.index(peak) * step, "used": used,
                       "time_wait": [int(u * .4) if protocol == "tcp" else 0 for u in used]})
    return {"origin_usec": origin, "step_usec": step, "series": series, "omitted": 0, "ephemeral": {"low": LOW, "high": 60999},
            "coverage": receipt()}


def claims(ports=12, count=80):
    """Claims of a timeline: so many, on so many ports."""
    rows = []
    roles = ("connected", "accepted", "listening", "bound", None)
    for i in range(count):
        opened = START + int(noise(i) * 14.8 * HOUR)
        closed = opened + int(noise(i * 5) ** 4 * 2 * HOUR) + 1000
        wait = closed + 60_000_000 * (i % 3 == 0)
        still = i % 17 == 0
        rows.append(claim(port=50000 + i % ports, opened_usec=opened, opened_after_usec=opened - 2_000_000,
                          closed_usec=None if still else closed, closed_after_usec=None, released_usec=None if still else wait,
                          role=roles[i % 5], comm=HOSTILE[i % len(HOSTILE)], pid=1000 + i % 4))
    return {"claims": sorted(rows, key=lambda row: row["opened_usec"]), "cursor": None, "coverage": receipt()}


def answers(**members):
    """What a FakeDaemon answers."""
    return {"Activity": activity, "Occupancy": occupancy, "Claims": claims(), **members}
