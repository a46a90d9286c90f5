"""The JSON document and the HTML page of made-up reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.bench.figures import SSD, link, machine, store
from tests.browser import needs_browser, shown

from pbs_push.bench.html import html_page
from pbs_push.bench.report import BenchReport, bench_document
from pbs_push.bench.tables import tables
from pbs_push.bench.verdict import judge
from pbs_push.bench.words import number_text, time_text
from pbs_push.errors import ConnectError

SVG = "{http://www.w3.org/1999/xhtml}svg"


def parsed(page: str) -> ElementTree.Element:
    """The page as XML; the first line is the document type."""
    return ElementTree.fromstring(page.partition("\n")[2])  # noqa: S314


def full_report() -> BenchReport:
    made = BenchReport(2.0, began="2026-11-22T12:00:00Z", notes=["<b>odd</b> & strange"])
    made.machine, made.store = machine(), store(SSD)
    made.link = link(1, {1: 115, 2: 117, 4: 117, 8: 117})
    made.verdict = judge(made.machine, made.store, made.link, 8)
    return made


def machine_report() -> BenchReport:
    made = BenchReport(2.0)
    made.machine = machine()
    made.verdict = judge(made.machine, None, None, 4)
    return made


def test_document_has_every_part() -> None:
    made = json.loads(json.dumps(bench_document(full_report(), 0, None)))
    assert (made["format"], made["format-version"]) == ("pbs-push-bench", 1)
    assert (made["exit-status"], made["error"]) == (0, None)
    assert set(made["software"]) == {"system", "python", "openssl", "zstd"}
    assert made["machine"]["tls"] == 2000 << 20
    assert made["machine"]["tls-cipher"].startswith("TLSv1.3")
    assert made["machine"]["digests-inserted-per-s"] == 25_000_000
    assert made["datastore"]["cold"][0] == {
        "readers": 1,
        "bytes-per-s": 800 << 20,
        "chunks-per-s": 400.0,
    }
    assert [item["readers"] for item in made["datastore"]["warm"]] == [1, 2, 4, 8, 16]
    assert made["target"]["round-trip-s"] == 0.001
    assert [item["connections"] for item in made["target"]["uploads"]] == [1, 2, 4, 8]
    assert made["verdict"]["limit"] == "link"
    assert made["verdict"]["ceilings"][0] == {"limit": "link", "bytes-per-s": 117 << 20}
    assert (made["verdict"]["parallel"], made["verdict"]["read-ahead"]) == (8, 8)
    assert made["notes"] == ["<b>odd</b> & strange"]


def test_document_keys_do_not_depend_on_what_was_measured() -> None:
    full, bare = bench_document(full_report(), 0, None), bench_document(BenchReport(1.0), 0, None)
    assert set(full) == set(bare)
    assert bare["machine"] is bare["datastore"] is bare["target"] is bare["verdict"] is None


def test_document_of_a_failure() -> None:
    report = BenchReport(1.0)
    report.store = store(SSD)
    made = bench_document(report, 1, ConnectError("no way"))
    assert made["exit-status"] == 1
    assert made["error"] == {
        "kind": "ConnectError",
        "message": "no way",
        "exit-status": 1,
        "retryable": True,
    }
    assert made["datastore"] is not None


@pytest.mark.parametrize("report", [full_report(), machine_report(), BenchReport(1.0)])
def test_page_is_well_formed(report: BenchReport) -> None:
    root = parsed(html_page(report))
    charts = list(root.iter(SVG))
    expected = list(tables(report))
    with_ceilings = report.verdict is not None and len(report.verdict.ceilings) > 1
    assert len(charts) == len(expected) + with_ceilings
    for chart in charts:
        bars = [item for item in chart if item.tag.endswith("rect")]
        texts = [item.text for item in chart if item.tag.endswith("text")]
        assert len(texts) == 2 * len(bars) > 0
        assert all(0 < float(bar.attrib["width"]) <= 480 for bar in bars)


def test_page_shows_every_figure_and_escapes_names() -> None:
    report = full_report()
    page = html_page(report)
    text = " ".join(parsed(page).itertext())
    for table in tables(report):
        assert table.title in text
        for row in table.rows:
            assert row.text in text
    assert report.verdict is not None
    for sentence in report.verdict.sentences:
        assert sentence in text
    assert "<datastore>" not in page
    assert "<b>odd</b>" not in page
    assert "<b>odd</b> & strange" in text


def test_page_needs_nothing_from_elsewhere() -> None:
    page = html_page(full_report())
    page = page.replace('xmlns="http://www.w3.org/1999/xhtml"', "")
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|src=|href=|https?:", page)
    assert "prefers-color-scheme: dark" in page


@needs_browser
def test_page_in_a_browser(tmp_path: Path) -> None:
    report = full_report()
    found = shown(html_page(report), tmp_path)
    assert len(found["charts"]) == len(list(tables(report))) + 1
    assert all(width > 300 and height > 20 for _, width, height in found["charts"])
    assert (found["outside"], found["wide"]) == ([], False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number_text(1234567), "1,234,567"),
        (number_text(9.96), "10.0"),
        (number_text(1.25), "1.2"),
        (number_text(0.125), "0.12"),
        (time_text(0.0123), "12 ms"),
        (time_text(0.00035), "0.35 ms"),
        (time_text(1.44), "1.4 s"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert text == expected
