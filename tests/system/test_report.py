# SPDX-License-Identifier: MIT
"""report: one file, whole or not at all, in which a name is only ever a name. What a browser makes of it is in
test_report_browser.py."""
import html.parser
import os
import re
import stat
import subprocess
import xml.etree.ElementTree as xml

import pytest

import nightly
from conftest import CLIENT, PATIENCE
from fakedaemon import FakeDaemon, coverage, error
from test_client_answers import run

pytestmark = pytest.mark.any_rung

NIGHT = ("-S", "2026-11-22 18:00", "-U", "2026-11-23 09:00")


class Page(html.parser.HTMLParser):
    """The tables of a report, by their captions, as lists of rows; and whether every element that was begun is ended."""

    EMPTY = {"meta"}  # what else has no end says so itself

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.tables, self.table, self.cell = [], [], {}, None, None
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "table":
            self.table = []
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th", "caption"):
            self.cell = ""

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "caption":
            self.tables[self.cell] = self.table
        elif tag in ("td", "th"):
            self.table[-1].append(self.cell)
        self.cell = None if tag in ("td", "th", "caption") else self.cell

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def number(cell):
    return int(cell.replace(",", "") or 0)


@pytest.fixture(name="fake")
def make_fake(directory):
    with FakeDaemon(directory / "control", nightly.answers()) as f:
        yield f


def test_figures_and_their_numbers(fake, directory):
    path = directory / "night.html"
    result = run(fake, "report", "-o", path, *NIGHT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == f"{path}: 45,962 claims"
    assert result.stdout.splitlines()[1].startswith("Coverage: 2026-11-22 18:00:00 to ")
    page = Page(path.read_text(encoding="utf-8"))
    told = nightly.activity(fake.calls[0]["parameters"])
    rows = page.tables["Claims per program, and how many it opened in each step"]
    assert len(rows[0]) == 5 + 15 and rows[0][5] == "18:00:00"
    assert [list(map(number, row[3:])) for row in rows[1:-1]] == \
        [[p["claims"], p["before"], *p["steps"]] for p in told["programs"]]
    assert list(map(number, rows[-1][1:])) == [told["claims"], told["before"], *told["steps"]]
    rows = page.tables["Claims by port, 256 ports a line"]
    assert sum(number(row[2]) for row in rows[1:]) == sum(told["port_claims"])
    assert sum(number(row[1]) for row in rows[1:]) == told["ports"]
    rows = page.tables["Ports that the kernel does not hand out"]
    assert [row[0] for row in rows[1:]] == ["61017", "62001", "65535"]
    told = nightly.occupancy(fake.calls[1]["parameters"])
    captions = [c for c in page.tables if "in use at once" in c]
    assert len(captions) == 3
    for caption, series in zip(captions, told["series"]):
        rows = page.tables[caption][1:]
        assert [(number(r[1]), number(r[2])) for r in rows] == list(zip(series["used"], series["time_wait"]))
    rows = page.tables["Gaps, in which claims may have been missed"]
    assert [row[2:] for row in rows[1:]] == [["killed", "not known"], ["ring-full", "12"]]
    assert [tag for tag, _ in page.tags].count("figure") == 3
    assert "Claims" not in [call["method"].rpartition(".")[2] for call in fake.calls]


def test_steps_are_hours_of_the_local_clock(fake, directory):
    path = directory / "night.html"
    result = run(fake, "report", "-o", path, "-S", "@1795372245", "-U", "@1795424400", TZ="Asia/Kathmandu")  # +05:45
    assert result.returncode == 0, result.stderr
    asked = fake.calls[0]["parameters"]
    assert asked["since_usec"] == 1795372245_000000 and asked["step_usec"] == nightly.HOUR
    # 18:30:45 UTC is 00:15:45 there
    assert asked["origin_usec"] == asked["since_usec"] - (15 * 60 + 45) * 1_000_000
    page = Page(path.read_text(encoding="utf-8"))
    heads = page.tables["Claims per program, and how many it opened in each step"][0][5:]
    assert heads[:3] == ["00:15:45", "01:00:00", "02:00:00"]


def test_nothing_in_it_is_fetched_or_run(fake, directory):
    for name in ("night.html", "night.svg"):
        run(fake, "report", "-o", directory / name, "--app", "x", *NIGHT)
        page = Page((directory / name).read_text(encoding="utf-8"))
        for tag, attributes in page.tags:
            assert tag not in ("script", "img", "link", "iframe", "object", "embed", "image", "use", "a", "foreignobject", "animate")
            for attribute, value in attributes.items():
                assert not attribute.startswith("on") and attribute not in ("src", "href", "xlink:href"), (tag, attribute)
                assert "url(" not in (value or "") and "javascript:" not in (value or "")
    policy = [a["content"] for t, a in Page((directory / "night.html").read_text(encoding="utf-8")).tags
              if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1 and policy[0].startswith("default-src 'none';")
    style = re.findall(r"<style>(.*?)</style>", (directory / "night.html").read_text(encoding="utf-8"), re.S)
    assert len(style) == 1 and re.findall(r"url\(([^)]*)", style[0]) == ["#hatch"] and "@import" not in style[0]


def test_hostile_names_are_names(fake, directory):
    path = directory / "night.html"
    assert run(fake, "report", "-o", path, "--app", "x", *NIGHT).returncode == 0
    raw = path.read_bytes()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)  # line breaks are ours
    assert "\u202e" not in raw.decode()
    page = Page(raw.decode())
    names = [row[0] for row in page.tables["Claims per program, and how many it opened in each step"][1:-1]]
    for name in nightly.HOSTILE:
        assert name.replace("\x1b", "\\x1b").replace("\x07", "\\x07").replace("\u202e", "\\xe2\\x80\\xae") in names
    assert [tag for tag, _ in page.tags].count("title") > 10  # of the document, the pictures, and tips
    assert len(page.tables["Claims"]) == 81


def test_svg_is_one_document(fake, directory):
    path = directory / "night.svg"
    assert run(fake, "report", "-o", path, "--app", "x", *NIGHT).returncode == 0
    root = xml.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert [g.get("id") for g in root if g.get("id")] == ["programs", "pressure", "ports", "timeline"]
    words = " ".join("".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "Coverage: 2026-11-22 18:00:00 to Nov 23 09:00:00" in words and "(killed)" in words
    assert "</title><script>document" in words


@pytest.mark.parametrize("arguments,row", [(["--app", "x"], "50000/tcp"), (["60530"], "1000")])
def test_timeline_of_what_was_asked_for(fake, directory, arguments, row):
    path = directory / "one.html"
    assert run(fake, "report", "-o", path, *arguments, *NIGHT).returncode == 0
    call = fake.calls[-1]
    assert call["method"].endswith(".Claims") and call["parameters"]["limit"] == 600
    assert call["parameters"]["filter"] == ({"app": "x"} if "--app" in arguments else {"ports": [60530]})
    text = path.read_text(encoding="utf-8")
    assert text.count("<g class='role-") == 80 + 6  # a bar for each claim, and the legend
    assert row in text.partition("id='timeline'")[2].partition("<details>")[0]


def test_a_timeline_of_many_ports_is_packed(directory):
    with FakeDaemon(directory / "control", nightly.answers(Claims=nightly.claims(ports=500, count=600))) as fake:
        assert run(fake, "report", "-o", directory / "many.html", "--app", "x", *NIGHT).returncode == 0
    text = (directory / "many.html").read_text(encoding="utf-8")
    assert "too many for a row each" in text and text.count("<g class='role-") == 600 + 6


def test_same_question_same_bytes(fake, directory):
    for name in ("one.html", "two.html"):
        assert run(fake, "report", "-o", directory / name, "--app", "x", *NIGHT).returncode == 0
    assert (directory / "one.html").read_bytes() == (directory / "two.html").read_bytes()


def test_a_locale_with_commas_changes_nothing(fake, directory):
    run(fake, "report", "-o", directory / "one.svg", *NIGHT)
    run(fake, "report", "-o", directory / "two.svg", *NIGHT, LC_ALL="de_DE.UTF-8")
    assert (directory / "one.svg").read_bytes() == (directory / "two.svg").read_bytes()


def test_a_window_too_long_for_the_pressure(directory):
    with FakeDaemon(directory / "control", nightly.answers(Occupancy=error("org.portledger.ledger.QueryTooLong", limit_usec=1))) as fake:
        result = run(fake, "report", "-o", directory / "long.html", *NIGHT)
    assert result.returncode == 0, result.stderr
    assert "The window is too long for this picture" in (directory / "long.html").read_text(encoding="utf-8")


def test_nothing_and_not_watching(directory):
    empty = {"programs": [], "claims": 0, "before": 0, "unattributed": 0, "ports": 0}

    def nothing(parameters):
        told = nightly.activity(parameters)
        return {**told, **empty, "steps": [0] * len(told["steps"]), "port_claims": [0] * 32768,
                "coverage": coverage(nightly.START, nightly.END, stretches=[], degraded=["full <i>\x1b; make room"])}

    def unused(parameters):
        return {**nightly.occupancy(parameters), "series": []}
    with FakeDaemon(directory / "control", nightly.answers(Activity=nothing, Occupancy=unused)) as fake:
        result = run(fake, "report", "-o", directory / "none.html", *NIGHT)
        assert result.returncode == 1, result.stderr
        strict = run(fake, "report", "-o", directory / "none.html", *NIGHT, "--strict")
        assert strict.returncode == 6
    text = (directory / "none.html").read_text(encoding="utf-8")
    assert "; degraded: full &lt;i&gt;\\x1b; make room" in text and "degraded: full <i>\\x1b; make room" in result.stdout
    assert "No claim matched." in text and "not watching at that time" in text and "No port of the kernel" in text


def test_no_answer_no_file(directory):
    with FakeDaemon(directory / "control", nightly.answers(Activity=error("org.portledger.ledger.StoreUnavailable", reason="x"))) as fake:
        result = run(fake, "report", "-o", directory / "x.html", *NIGHT)
    assert result.returncode == 5 and os.listdir(directory) == []


@pytest.mark.parametrize("arguments,said", [
    ([], "to which file"), (["-o", "x.png"], "neither .html nor .svg"), (["-o", ".html"], "neither .html nor .svg"),
    (["-o", "x.html", "--json=short"], "HTML or SVG"), (["-o", "x.html", "-U", "today"], "needs a --since"),
    (["-o", "x.html", "-n", "5"], "does not go with report")])
def test_usage(fake, arguments, said):
    result = run(fake, "report", *arguments)
    assert result.returncode == 2 and said in result.stderr and not fake.calls


def test_what_is_no_regular_file_stays(fake, directory):
    target = directory / "target"
    target.write_text("mine")
    (directory / "link.html").symlink_to(target)
    os.mkfifo(directory / "pipe.html")
    (directory / "folder.html").mkdir()
    before = sorted(os.listdir(directory))
    for name in ("link.html", "pipe.html", "folder.html"):
        result = run(fake, "report", "-o", directory / name, *NIGHT)
        assert result.returncode == 5 and "no regular file" in result.stderr, result.stderr
    assert target.read_text() == "mine" and sorted(os.listdir(directory)) == before


def test_a_file_that_may_not_grow_leaves_nothing(fake, directory):
    result = subprocess.run(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", CLIENT, "--socket", fake.path, "report", "-o",
                             directory / "night.html", *NIGHT], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 5 and "File too large" in result.stderr, result
    assert not list(directory.glob("night*"))


def test_an_older_report_is_replaced_whole(fake, directory):
    path = directory / "night.html"
    path.write_text("old")
    path.chmod(0o600)
    held = path.open(encoding="utf-8")
    assert run(fake, "report", "-o", path, *NIGHT).returncode == 0
    assert held.read() == "old"  # who reads the old one reads all of it
    held.close()
    assert path.stat().st_size > 10000 and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(os.listdir(directory)) == ["control", "night.html"]


def test_a_place_that_takes_nothing(fake, directory):
    result = run(fake, "report", "-o", directory / "nowhere" / "x.html", *NIGHT)
    assert result.returncode == 5 and "No such file" in result.stderr
    result = run(fake, "report", "-o", "/proc/x.html", *NIGHT)
    assert result.returncode == 5


def test_of_a_real_daemon(daemon, actor, directory):
    """The counts are what the actor made, by program and by port."""
    ports = [actor.do(f"bound('u{i}', 'udp')") for i in range(40)]
    path = directory / "now.html"
    result = daemon.client("report", "-o", path, "-S", "-5min", "--pid", actor.pid)
    assert result.returncode == 0, result.stderr
    page = Page(path.read_text(encoding="utf-8"))
    rows = page.tables["Claims per program, and how many it opened in each step"]
    assert len(rows) == 3 and number(rows[1][3]) == number(rows[2][1]) == len(ports)
    rows = page.tables["Claims by port, 256 ports a line"]
    assert sum(number(row[1]) for row in rows[1:]) == len(set(ports))
    assert sorted(int(row[0].partition("/")[0]) for row in page.tables["Claims"][1:]) == sorted(ports)
    caption, = [c for c in page.tables if "in use at once" in c]
    assert max(number(row[1]) for row in page.tables[caption][1:]) == len(set(ports))
