"""The page of a push: what it shows, that it is well-formed, and how a browser shows it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.browser import needs_browser, shown

from pbs_push.cli.private_file import write_private
from pbs_push.cli.push_page import push_page
from pbs_push.cli.sampling import Sampling
from pbs_push.errors import ConfigError, ConnectError, StatusError
from pbs_push.pages.curve import rate_curve
from pbs_push.push.outcome import Outcome, Problem, Result, Skip, TransferStats
from pbs_push.push.report import Report

from .conftest import Cli, Place
from .event_samples import MIB, Clock, item, progress, pushed, skipped, started
from .test_results import SIDES, full_report

SVG = "{http://www.w3.org/2000/svg}svg"
A, B = item(), item("ct/7/2026-05-28T20:30:03Z", "prod")


def parsed(page: str) -> ElementTree.Element:
    """The page as XML; the first line is the document type."""
    return ElementTree.fromstring(page.partition("\n")[2])  # noqa: S314


def sampling() -> Sampling:
    """Of a push of two groups, for ten seconds at 1 MiB/s and ten at 3."""
    clock = Clock()
    made = Sampling(clock)
    made(started(A))
    for second in range(11):
        made(progress(A, second * MIB, second, 10))
        clock.now += 1
    made(pushed(A, 10 * MIB))
    made(started(B))
    for second in range(10):
        made(progress(B, second * 3 * MIB, second, 10))
        clock.now += 1
    made(pushed(B, 30 * MIB))
    made(skipped(B, Skip.NOT_NEWER))
    made.end()
    return made


def large_report() -> Report:
    """With more than fits, and with names and errors of all kinds."""
    report = full_report()
    for number in range(300):
        one = item(
            f"vm/{number + 1000}/2026-05-28T20:30:03Z", "a/" * 6 + "long-name-of-a-namespace"
        )
        stats = TransferStats(sent_bytes=number * MIB)
        report.add(Outcome.of(one.namespace, one.snapshot, Result.PUSHED, stats=stats))
        skip = Skip.NOT_OWNED
        report.add(
            Outcome.of(
                one.namespace, one.snapshot, Result.SKIPPED, skip=skip, detail="<b>&\x07\ufffe"
            )
        )
        report.add_problem(Problem(f"group {number}", StatusError("GET x", 400, "x" * 300)))
    report.error = ConnectError("it <said> \x1b[31m no & \ud800")
    return report


def test_samples_and_times_of_groups() -> None:
    made = sampling()
    assert made.samples[0] == (0.0, 0)
    assert made.samples[-1] == (21.0, 40 * MIB)
    assert len(made.samples) == 23
    assert dict(made.seconds) == {
        (A.namespace, A.snapshot.group): 11.0,
        (B.namespace, B.snapshot.group): 10.0,
    }


def test_nothing_is_heard_after_the_end() -> None:
    made = sampling()
    before = list(made.samples), dict(made.seconds)
    made(started(A))
    made(pushed(A, 10 * MIB))
    assert (made.samples, made.seconds) == before


def test_long_pushes_have_samples_of_all_their_time() -> None:
    clock = Clock()
    made = Sampling(clock)
    made(started(A))
    for second in range(5000):
        made(progress(A, second * MIB, second, 5000))
        clock.now += 1
    assert 150 <= len(made.samples) <= 400
    moments = [moment for moment, _ in made.samples]
    assert moments == sorted(moments)
    assert moments[-1] > 4900
    gaps = [after - before for before, after in pairwise(moments)]
    assert max(gaps) <= 4 * min(gaps)


def test_a_curve_shows_the_rates() -> None:
    chart = rate_curve("a <b>", sampling().samples)
    root = ElementTree.fromstring(chart)  # noqa: S314
    points = root.find("polyline")
    assert points is not None
    heights = [float(point.split(",")[1]) for point in points.attrib["points"].split()]
    assert len(heights) == 2 * 21
    low, high = heights[4], heights[-10]
    assert (176 - high) == pytest.approx(3 * (176 - low), rel=0.01)
    assert "3.0 MiB/s" in "".join(root.itertext())
    assert "21 s" in "".join(root.itertext())
    assert "polygon" not in rate_curve("nothing", [(0.0, 0)])
    assert "polygon" not in rate_curve("nothing", [])


@pytest.mark.parametrize("report", [full_report(), large_report(), Report(SIDES), Report()])
def test_a_page_is_well_formed_and_alone(report: Report) -> None:
    page = push_page(report, sampling())
    root = parsed(page)
    assert root.find(".//{*}h1") is not None
    page = page.replace('xmlns="http://www.w3.org/1999/xhtml"', "")
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|src=|href=|https?:", page)
    assert "<b>" not in page


def test_a_page_tells_all_of_it() -> None:
    text = " ".join(" ".join(parsed(push_page(full_report(), sampling())).itertext()).split())
    for words in (
        "/store → root@pam!p@h:8007:store",
        "1 snapshot pushed, 2 failed, 8.0 MiB sent in 4.0 s",
        "exit status 3: partly failed",
        "Rate over time",
        "Groups by bytes sent",
        "Groups by time",
        "ct/7",
        "To look at",
        "GET groups",
        "in full",
        "not removed: the push had errors",
        "Left out",
        Skip.IN_PROGRESS.value,
        "chunks",
    ):
        assert words in text, words


def test_a_page_of_what_is_left() -> None:
    report = Report(SIDES)
    report.remains = 3
    report.counts[Result.PUSHED] = 2
    page = push_page(report, sampling())
    assert "2 snapshots pushed, 3 snapshots still to push" in page
    assert 'class="verdict good"' in page


def test_a_page_of_much_says_that_there_is_more() -> None:
    text = " ".join(parsed(push_page(large_report(), sampling())).itertext())
    assert "the first 20 of 300" in text
    assert "and 280 more" in text, "groups that were left out for one reason"
    assert "and 104 more" in text, "problems"
    assert "Rate over time" not in " ".join(parsed(push_page(Report(SIDES), sampling())).itertext())


def test_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("before")
    path.chmod(0o644)
    write_private(path, "ä", "--html")
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("ä", 0o600)
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800", "--html")
    assert path.read_text(encoding="utf-8") == "ä"
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]
    with pytest.raises(ConfigError, match=r"--html .*b.html: No such file"):
        write_private(tmp_path / "nowhere" / "b.html", "", "--html")


def test_a_push_writes_its_page(cli: Cli, place: Place, small_source: Path, tmp_path: Path) -> None:
    path = tmp_path / "push.html"
    cli("push", small_source, place.repository, "--html", path).succeeded()
    text = " ".join(parsed(path.read_text(encoding="utf-8")).itertext())
    assert "26 snapshots pushed" in text
    assert "Groups by time" in text
    assert path.stat().st_mode & 0o777 == 0o600
    nowhere = tmp_path / "nowhere" / "x"
    cli("push", small_source, place.repository, "--html", nowhere).failed(2, "no such folder")


@needs_browser
@pytest.mark.parametrize("width", [500, 1200])
def test_a_page_in_a_browser(tmp_path: Path, width: int) -> None:
    found = shown(push_page(large_report(), sampling()), tmp_path, width)
    assert found["width"] == width
    assert [name for name, _, _ in found["charts"]] == [
        "Rate over time",
        "Groups by bytes sent",
        "Groups by time",
    ]
    assert all(wide > 300 and high > 30 for _, wide, high in found["charts"])
    assert (found["outside"], found["wide"]) == ([], False)
    assert found["headings"][1:] == [
        "To look at",
        "Rate over time",
        "Groups by bytes sent",
        "Groups by time",
        "Left out",
        "In numbers",
    ]
    assert "not removed: the push had errors" in found["cells"]
