# SPDX-License-Identifier: MIT
"""What a browser makes of a report: nothing to complain about, nothing to fetch, no text over another, on a wide screen and on
a small one, in the dark and in print."""
import pytest

import browser
import nightly
from fakedaemon import FakeDaemon
from test_client_answers import run

pytestmark = pytest.mark.skipif(not browser.PROGRAM, reason="cannot run here: no chromium (scripts/install-packages full)")

NIGHT = ("-S", "2026-11-22 18:00", "-U", "2026-11-23 09:00")

# Texts that are in each other's way, and texts that leave their picture. A line's box is higher than its letters are.
OVERLAPS = """(() => {
  const wrong = [];
  for (const svg of document.querySelectorAll('figure svg, svg:root')) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]).filter(b => b[1].width);
    boxes.forEach(([text, a], i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
        wrong.push('leaves its picture: ' + text);
      for (const [other, b] of boxes.slice(i + 1))
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 &&
            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > (a.height + b.height) * 0.12)
          wrong.push(text + ' / ' + other);
    });
  }
  return wrong;
})()"""

# Numbers that are wider than their cells.
WIDE = """[...document.querySelectorAll('text.number')].filter(t => {
  const cell = t.parentNode.querySelector('rect').getBoundingClientRect(), text = t.getBoundingClientRect();
  return text.left < cell.left || text.right > cell.right;
}).map(t => t.textContent)"""

# Contrast of each number with its cell, as WCAG 2 has it; the worst.
CONTRAST = """(() => {
  const light = css => {
    const [r, g, b] = css.match(/[\\d.]+/g).map(Number).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  return Math.min(...[...document.querySelectorAll('text.number')].map(t => {
    const a = light(getComputedStyle(t).fill), b = light(getComputedStyle(t.parentNode.querySelector('rect')).fill);
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  }));
})()"""


@pytest.fixture(name="page", scope="module")
def open_browser():
    with browser.Browser() as b:
        yield b


def write(directory, name, *arguments, **members):
    with FakeDaemon(directory / "control", nightly.answers(**members)) as fake:
        result = run(fake, "report", "-o", directory / name, *NIGHT, *arguments)
    assert result.returncode == 0, result.stderr
    return directory / name


def check(page):
    assert page.console == [] and page.requests == []
    assert page.run(OVERLAPS) == []


@pytest.mark.parametrize("media,width,scheme", [
    ("screen", 360, "light"), *(pytest.param(*p, marks=pytest.mark.long) for p in (
        ("screen", 1100, "light"), ("screen", 1100, "dark"), ("screen", 2000, "light"), ("print", 794, "dark")))])
def test_looks(page, directory, media, width, scheme):
    path = write(directory, "night.html", "--app", "x")
    page.open(path, width=width, media=media, scheme=scheme)
    check(page)
    # all of it is there, and only pictures and tables are scrolled sideways, never the page
    assert page.run("document.querySelectorAll('figure svg text.name').length") >= 14 + 3 + 12
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(WIDE) == []
    assert page.run(CONTRAST) >= 4.5
    # at a size that can be read
    assert page.run("Math.min(...[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width))") >= \
        (860 if media == "screen" else 700)
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    assert dark == ("rgb(20, 23, 28)" if (media, scheme) == ("screen", "dark") else "rgb(255, 255, 255)")


@pytest.mark.long
def test_numbers_are_there_to_open(page, directory):
    page.open(write(directory, "night.html", "--app", "x"), width=360)
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    check(page)
    assert page.run("document.querySelectorAll('details[open] table').length") == 9
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.run("[...document.querySelectorAll('details')].every(d => d.getBoundingClientRect().height > 60)")


@pytest.mark.long
@pytest.mark.parametrize("arguments", [(), ("60530",)])
def test_svg(page, directory, arguments):
    page.open(write(directory, "night.svg", *arguments))
    check(page)
    assert page.run("document.querySelectorAll('svg > g').length") == 3 + bool(arguments)
    assert page.run(WIDE) == []


@pytest.mark.long
def test_packed_and_long(page, directory):
    """A timeline of many ports, a window of weeks, a range of nearly all ports."""
    def all_ports(parameters):
        told = nightly.activity(parameters)
        return {**told, "low": 1024, "port_claims": [1] * (65536 - 1024), "ephemeral": {"low": 1024, "high": 65000}, "omitted": 700}
    many = {"Claims": nightly.claims(ports=500, count=600), "Activity": all_ports}
    page.open(write(directory, "many.html", "--app", "x", **many))
    check(page)
    with FakeDaemon(directory / "control", nightly.answers(**many)) as fake:
        for days in (2, 9, 40, 400):
            result = run(fake, "report", "-o", directory / "long.html", "-S", f"-{days}d")
            assert result.returncode == 0, result.stderr
            page.open(directory / "long.html")
            check(page)
            assert page.run(WIDE) == []


@pytest.mark.long
def test_when_clocks_change(page, directory):
    """Twice 02:00 in the night of 25 October: the columns are hours that were, and their labels the clock's."""
    with FakeDaemon(directory / "control", nightly.answers()) as fake:
        result = run(fake, "report", "-o", directory / "autumn.html", "-S", "2025-10-25 18:00", "-U", "2025-10-26 09:00", TZ="Europe/Berlin")
    assert result.returncode == 0, result.stderr
    page.open(directory / "autumn.html")
    check(page)
    assert page.run("document.querySelectorAll('#programs th[scope=col]').length") == 5 + 16


def test_no_name_is_markup(page, directory):
    """No script of a name has run, and no element of one is there."""
    page.open(write(directory, "night.html", "--app", "x"))
    assert page.run("document.title").startswith("Ports: Sun 22 Nov 2026 18:00")
    assert page.run("document.scripts.length") == 0
    assert page.run("[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on')).length") == 0
