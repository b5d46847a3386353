# SPDX-License-Identifier: MIT
"""Times as people write them: common/when against systemd's own parser, `systemd-analyze timestamp`.

What systemd takes we take, for the same microsecond; what it refuses we refuse, but for the documented extensions.
systemd-analyze reads the clock itself. So ours is asked twice, with the time before and the time after it: an absolute
expression must come out as one of the two (they differ only over midnight), a relative one between them.

A zone at the end of the text is asked as $TZ instead: systemd 252 parses such a text in a child whose renaming wipes its
arguments, so that it refuses every zone name that is a file.
"""

import calendar
import os
import pathlib
import random
import re
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("PORTLEDGER_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build-gcc"))
WHEN_PRINT = BUILD / "tests" / "support" / "when-print"
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]
# What hardly goes by the zone: before a commit in one.
ONE_ZONE = [ZONES[1], *(pytest.param(zone, marks=pytest.mark.long) for zone in ZONES if zone != ZONES[1])]
BATCH = 400
MOMENT_MAX = 253402214399_000000

DATES = [
    "2026-11-16", "26-11-16", "2026-1-2", "2024-02-29", "2026-02-31", "2026-03-29", "2026-10-25", "2026-03-08",
    "2026-11-01", "1970-01-01", "1970-01-02", "1969-12-31", "70-1-3", "69-1-1", "68-01-01", "2038-01-19", "9999-12-30",
    "9999-12-31", "2026-13-01", "2026-00-10", "2026-11-32", "2026-11", "2026/11/16", "16.11.2026",
]
TIMES = [
    "", " 08:30", " 8:5", " 00:00", " 24:00", " 23:59:59", " 23:59:60", " 23:59:61", " 23:59:62", " 02:30", " 01:30:00",
    " 08:30:15.5", " 08:30:15.000001", " 08:30:15.9999999", " 08:30:15.", " 08:30.5", "  08:30", "T08:30:00+01:00",
]
WORDS = [
    "today", "yesterday", "tomorrow", "Today", "today UTC", "yesterday utc", "tomorrow UTC", "noon", "midnight", "",
    " ", "now UTC", "now ", " now", "NOW", "08:30", "8:30", "08:30:15", "08:30:15.25", "25:00", "08:60", "08", "0830",
    " 08:30", "08:30 ", "08:30 UTC", "08:30 utc", "08:30UTC", "2026-11-16 UTC", "2026-11-1608:30", "Nov 16 08:00:00",
    "nov 16 08:00:00.5", "November 16 08:00:00", "Nov 16 08:00", "Foo 16 08:00:00", "Mon", "monday", "last monday",
    "now-8h", "2026-11-16 08:00 EDT", "2026-07-16 08:00 EDT", "2026-11-16 08:00 CEST", "2026-07-16 08:00 CEST",
    "2026-07-16 08:00 cest", "2026-10-25 02:30 CEST", "2026-11-01 01:30 EDT", "2026-11-16 08:00 IST", "yesterday IST",
    "2026-11-16 08:00 XYZ", "@0", "@123", "@123.5", "@123.5s", "@ 5", "@1h", "@-5", "@", "@253402214399", "@5 UTC",
    "@99999999999999999999", "@5 ago", "infinity", "5", "3h",
]
RELATIVE = [
    "now", "+3h", "+3h30min", "-5s", "-8h", "- 8h", "+ 8h", "+1.5h", "-2d 3h", "3h ago", "11min ago", "2 days ago",
    "3h left", "2 weeks left", "5 ago", "5 left", "1y ago", "500ms ago", "-0", "+0", "1 month ago", "-1M", "-1m",
]
REFUSED_RELATIVE = ["+", "-", "--5s", "+-5s", "-+5s ago", "3h ago ago", "3h AGO", "ago", " ago", "3hago", "-60y", "+8000y", "3h ago UTC"]

SPANS = [
    "5", "1.5", ".5", "5.", ".", "1.5s", "1. 5s", "1.5.5", "12.34 .56", "12.34s.56", "5 s", "1h30", "1h30min", "2 h",
    "2hours", "48hr", "1y 12month", "55s500ms", "300ms20s 5day", "5S", "5M", "5m", "5µs", "5μs", "5ns", "+5", "+ 5",
    "-5", "5 -5", "-0", "", " ", "5s ", "1e3", "0x10", "99999999999999999999", "18446744073709551615us",
    "9223372036854775807us", "9223372036854775808us", "584942y", "500000y 500000y", "5 5", "1.123456789s", "0.0000001s",
    "1.5us", "5seconds", "5secs", "5 minutes", "5hours2d", "5hr", "2w", "1.5w", "1.5M", "0.5y", "5mm", "+5s+3s", "5s,3s",
    "5.5.5s", "3.sec", "3.+1", "0.-0", "1. min", ".s", "+.5", "5\ts", "\t5", "1 2 3", "0", "5days3", "infinitys", "s",
    "1 s s", "8h 30min", "100ms", "2d", "30d", "1 month 2 months", "1usec2us",
]


def is_extension(text):
    """What we take and systemd does not: a day word or a day of the week in front of a time."""
    text = re.sub(r"(?i) utc$", "", text)
    day = r"(?:today|yesterday|tomorrow|(?i:sun(day)?|mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?))"
    return re.fullmatch(day + r" +\d{1,2}: *\d{1,2}(: *\d{1,2}(\.\d+)?)?", text) is not None


def is_zone_file(text):
    word = text.rsplit(" ", 1)[-1]
    return " " in text and word != "UTC" and bool(word) and os.path.isfile(f"/usr/share/zoneinfo/{word}")


def microseconds(text):
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 1_000_000 + int((fraction + "000000")[:6])


def ask(verb, texts, tz):
    run = subprocess.run(["systemd-analyze", verb, "--", *texts], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env={**os.environ, "TZ": tz, "LC_ALL": "C.UTF-8"}, text=True)
    fields = [line.partition(": ") for line in run.stdout.split("\n")]
    return [(name.strip(), value) for name, _, value in fields]


def systemd_timestamps(texts, tz):
    """What systemd-analyze takes of `texts`, as {text: µs}. It goes on after a refusal, and names what it took, but for
    blanks at the end: such a text is asked alone."""
    found = {}
    batch = [t for t in texts if t == t.rstrip()]
    for part in [batch[i:i + BATCH] for i in range(0, len(batch), BATCH)] + [[t] for t in texts if t != t.rstrip()]:
        text = None
        for name, value in ask("timestamp", part, tz):
            if name == "Original form":
                text = part[0] if len(part) == 1 else value
            elif name == "UNIX seconds":
                found[text] = microseconds(value.lstrip("@"))
    return found


def systemd_span(text):
    return next((int(value) for name, value in ask("timespan", [text], "UTC") if name == "μs"), None)


def ours(texts, tz, *options):
    answers = []
    for start in range(0, len(texts), BATCH):
        run = subprocess.run([WHEN_PRINT, *options, "--", *texts[start:start + BATCH]], stdout=subprocess.PIPE,
                             env={**os.environ, "TZ": tz}, text=True, check=True)
        answers += run.stdout.splitlines()
    assert len(answers) == len(texts)
    return [int(a) if a.isdigit() else a for a in answers]


def now():
    return str(time.time_ns() // 1000)


def compare(texts, tz, relative=False, ours_tz=None, suffix=""):
    """Fails for every text of which the two think differently. Returns how many both took."""
    texts = sorted(set(texts))
    before = now()
    theirs = systemd_timestamps(texts, tz)
    after = now()
    mine = [t + suffix for t in texts]
    low, high = (ours(mine, ours_tz or tz, "--now", n) for n in (before, after))
    windows = ours(mine, ours_tz or tz, "--now", before, "--windows")
    differences, taken = [], 0
    for text, a, b, window in zip(texts, low, high, windows):
        their = theirs.get(text)
        if their is None:
            if isinstance(a, int) and not is_extension(text):
                differences.append((text, "refused", a))
            continue
        if their > MOMENT_MAX:  # documented: past 9999-12-30, and infinity, we refuse
            if isinstance(a, int):
                differences.append((text, their, a))
            continue
        taken += 1
        starts = {int(w.split("..")[0]) for w in str(window).split()} if ".." in str(window) else set()
        if not isinstance(a, int) or not (a <= their <= b if relative else their in {a, b} | starts):
            differences.append((text, their, a, window))
    assert differences == [], differences
    return taken


def random_moments(seed, count):
    """Well-formed expressions from all over the epoch, every second one with a day of the week, some with a wrong one."""
    r = random.Random(seed)
    for _ in range(count):
        t = time.gmtime(r.randrange(2 * 86400, 2**31 + 2**30))
        text = time.strftime(r.choice(["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%y-%m-%d %H:%M", "%Y-%m-%d", "%b %d %H:%M:%S"]), t)
        if text.endswith(":%02d" % t.tm_sec) and text.count(":") == 2 and r.random() < 0.3:
            text += "." + "".join(r.choices("0123456789", k=r.randrange(1, 9)))
        day = (t.tm_wday + r.choice([0, 0, 0, 1])) % 7
        if r.random() < 0.5:
            text = r.choice([calendar.day_abbr, calendar.day_name])[day] + " " + text
        yield text + r.choice(["", "", " UTC"])


def mutations(seed, count):
    """Well-formed expressions with one character changed, taken away or put in."""
    r = random.Random(seed)
    sources = list(random_moments(seed, 40)) + [w for w in WORDS if w] + RELATIVE
    for _ in range(count):
        text = r.choice(sources)
        at = r.randrange(len(text) + 1)
        text = text[:at] + r.choice(["", *" 0159:-+.@sdhmTaz"]) + text[at + r.randrange(2):]
        if not is_zone_file(text):
            yield text


@pytest.mark.parametrize("zone", ZONES)
def test_dates_and_times(zone):
    texts = [d + t + s for d in DATES for t in TIMES for s in ("", " UTC")]
    assert compare(texts, zone) > 300


@pytest.mark.parametrize("zone", ONE_ZONE)
def test_words(zone):
    assert compare([t for t in WORDS if not is_zone_file(t)], zone) > 20


@pytest.mark.parametrize("zone", ONE_ZONE)
def test_days_of_the_week(zone):
    days = [d for names in (calendar.day_abbr, calendar.day_name) for d in names]
    dates = ["2026-11-16", "26-11-17", "2026-02-31", "2024-02-29 08:30", "2026-11-16 08:00:00.5 UTC", "08:30", "Nov 16 08:00:00"]
    texts = [f(d) + " " + t for d in days for t in dates for f in (str, str.lower, str.upper)]
    assert compare(texts + ["Mon, 2026-11-16", "Mond 2026-11-16", "Mon2026-11-16", "Mon  2026-11-16"], zone) > 15


@pytest.mark.parametrize("zone", ONE_ZONE)
def test_relative(zone):
    assert compare(RELATIVE, zone, relative=True) == len(RELATIVE)


@pytest.mark.parametrize("zone", ONE_ZONE)
def test_relative_refused(zone):
    assert compare(REFUSED_RELATIVE, zone, relative=True) == 0


@pytest.mark.parametrize("zone", ZONES)
def test_random(zone):
    assert compare(random_moments(zone, 400), zone) > 200


@pytest.mark.parametrize("zone", ZONES)
def test_mutations(zone):
    texts = set(mutations(zone, 600))
    relative = {t for t in texts if t.startswith(("+", "-", "now")) or t.endswith((" ago", " left"))}
    assert compare(texts - relative, zone) > 10
    compare(relative, zone, relative=True)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Havana", "Pacific/Apia"])
def test_zone_in_the_text(zone):
    texts = [d + t for d in DATES for t in TIMES] + ["today", "yesterday", "tomorrow", "08:30", "08:30:15.5", "Mon 2026-11-16"]
    assert compare(texts, ":" + zone, ours_tz="Asia/Tokyo", suffix=" " + zone) > 150


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Havana", "Pacific/Apia", "Australia/Lord_Howe"])
def test_changes_of_the_clock(zone):
    """Every half hour around the changes: twice, never, and once again."""
    days = ["2026-03-07", "2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2011-12-29",
            "2011-12-30", "2011-12-31"]
    assert compare([f"{d} {h:02}:{m:02}" for d in days for h in range(24) for m in (0, 30)] + days, zone) == 490


def test_spans():
    theirs = {t: v for t in SPANS if (v := systemd_span(t)) is not None}
    mine = dict(zip(SPANS, ours(SPANS, "UTC", "--span")))
    assert len(theirs) > 35
    assert {t: v for t, v in mine.items() if isinstance(v, int)} == theirs
