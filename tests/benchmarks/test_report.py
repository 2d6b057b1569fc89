"""Medians, ratios, verdicts, and the table and picture that are made of them."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import chart, report
from benchmarks.errors import BenchmarkError
from benchmarks.report import BEGIN, END, Report
from benchmarks.stats import TARGETS, Memory, Result, Round, judge, ratio, ratio_by_cpu

SVG = "{http://www.w3.org/2000/svg}"


def result(key: str, *rates: float, title: str = "", section: str = "SkyAuth on SQLite") -> Result:
    """Return a subject that answered so often in each round."""
    return Result(key, title or key, section, tuple(Round(rate, 1e6 / rate, 500, 900, int(rate)) for rate in rates))


def finished(*results: Result, memory: Memory | None = None) -> Report:
    """Return a report of these results."""
    verdicts = judge({one.key: one for one in results}, memory, few=10_000, many=1_000_000)
    return Report("2026-11-25", "abc1234", "2 cores", 2, 5, 10_000, 1_000_000, results, memory, verdicts)


BEARER = result("bearer", 40_000, 50_000, 10_000, title="bearer token")
DRF = result("drf", 2_000, 1_000, 4_000, title="DRF", section="Others")


def test_a_median_is_not_moved_by_one_bad_round() -> None:
    assert (BEARER.rate, BEARER.slowest, BEARER.fastest) == (40_000, 10_000, 50_000)
    assert BEARER.cpu == pytest.approx(25)


def test_a_ratio_is_that_of_two_medians_and_none_without_both() -> None:
    found = {"bearer": BEARER, "drf": DRF}
    assert ratio(found, "bearer", "drf") == 20
    assert ratio(found, "drf", "bearer") == 0.05
    assert ratio(found, "bearer", "knox") is None


def test_a_ratio_by_processor_time_counts_answers_for_the_same_time() -> None:
    dear = Result("drf", "DRF", "Others", (Round(2_000, 600, 1, 1, 2_000), Round(2_000, 400, 1, 1, 2_000)))
    assert ratio_by_cpu({"bearer": BEARER, "drf": dear}, "bearer", "drf") == pytest.approx(20)
    assert ratio_by_cpu({"bearer": BEARER}, "bearer", "drf") is None
    idle = Result("asgi", "asgi", "Others", (Round(1, 0, 1, 1, 1),))
    assert ratio_by_cpu({"asgi": idle, "drf": dear}, "asgi", "drf") is None


def test_a_target_is_met_from_its_figure_on() -> None:
    verdicts = {one.text: one for one in judge({"bearer": BEARER, "drf": DRF}, None, few=1, many=2)}
    met = verdicts["bearer / DRF TokenAuthentication"]
    assert (met.asked, met.reached, met.met, met.word) == ("at least 20", "20.00", True, "met")
    almost = judge({"bearer": result("bearer", 39_900), "drf": result("drf", 2_000)}, None, few=1, many=2)
    assert [one.word for one in almost if one.text == met.text] == ["NOT MET"]
    assert verdicts["bearer / django-rest-knox"].word == "not measured"


@pytest.mark.parametrize(("after", "word"), [(299_000_000, "met"), (300_000_000, "NOT MET")])
def test_memory_is_judged_by_what_a_worker_has_in_the_end(after: int, word: str) -> None:
    last = judge({}, Memory(90_000_000, after, 1_000_000), few=10_000, many=1_000_000)[-1]
    assert (last.text, last.word) == ("memory of a worker after 1,000,000 tokens", word)
    assert judge({}, None, few=10_000, many=1_000_000)[-1].word == "not measured"


def test_there_are_the_figures_that_were_asked_for() -> None:
    assert len(TARGETS) == 13
    assert len(judge({}, None, few=10_000, many=1_000_000)) == 14
    assert "1,000,000 tokens / 10,000 tokens" in {one.text for one in judge({}, None, few=10_000, many=1_000_000)}


def test_the_terminal_shows_every_subject_and_every_target() -> None:
    lines = report.terminal(finished(BEARER, DRF)).splitlines()
    row = next(line for line in lines if "DRF  " in line)
    assert row.split() == ["DRF", "2,000", "1,000", "4,000", "500", "20x"]
    targets = next(n for n, line in enumerate(lines) if line.startswith("Targets"))
    assert lines.index("SkyAuth on SQLite") < lines.index("Others") < targets
    assert sum("not measured" in line for line in lines) == 13


def test_the_docs_get_when_where_what_and_whether_it_is_enough() -> None:
    text = report.markdown(finished(BEARER, DRF, memory=Memory(90_000_000, 250_000_000, 1_000_000)), "images/x.svg")
    assert "Measured on 2026-11-25 at commit abc1234, on 2 cores; 5 interleaved rounds of 2 seconds" in text
    assert "(images/x.svg)" in text
    assert "| bearer token | 40,000 | 10,000 | 50,000 | 25 |  |" in text
    assert "| DRF | 2,000 | 1,000 | 4,000 | 500 | 20x |" in text
    assert "| bearer / DRF TokenAuthentication | 20 | 20.00 | 20.00 | met |" in text
    assert "90 MB when started, 250 MB after 1,000,000 tokens" in text


def test_json_has_every_round() -> None:
    whole = json.loads(report.as_json(finished(BEARER, DRF)))
    assert [one["rate"] for one in whole["results"][0]["rounds"]] == [40_000, 50_000, 10_000]
    assert whole["verdicts"][0].keys() == {"text", "asked", "reached", "by_cpu", "met"}


def test_what_stands_around_the_markers_stays(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{BEGIN}\n\nold\n\n{END}\n\nAfter.\n", encoding="utf-8")
    for text in ("first", "second"):
        report.write_between(page, text)
        assert page.read_text(encoding="utf-8") == f"# Before\n\n{BEGIN}\n\n{text}\n\n{END}\n\nAfter.\n"


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}\n{END}\n{END}"])
def test_a_page_without_its_markers_is_left_as_it_is(tmp_path: Path, page: str) -> None:
    path = tmp_path / "performance.md"
    path.write_text(page, encoding="utf-8")
    with pytest.raises(BenchmarkError, match="once each"):
        report.write_between(path, "text")
    assert path.read_text(encoding="utf-8") == page


def test_the_picture_has_a_bar_for_each_subject_as_long_as_its_rate() -> None:
    odd = result("pg-bearer", 20_000, title='<&"', section="SkyAuth on PostgreSQL")
    root = ET.fromstring(chart.draw([BEARER, odd, DRF]))  # noqa: S314 - our own
    bars = [one for one in root.iter(f"{SVG}rect") if one.get("class") in {"ours", "other"}]
    lengths = [float(bar.get("width", 0)) for bar in bars]
    assert [bar.get("class") for bar in bars] == ["ours", "ours", "other"]
    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=0.01)
    assert lengths[2] == pytest.approx(lengths[0] / 20, rel=0.01)
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert texts[1:] == ["SkyAuth, bearer token", "40,000", 'SkyAuth, <&", PostgreSQL', "20,000", "DRF", "2,000"]
    assert "SkyAuth, bearer token 40,000" in root.get("aria-label", "")


def test_the_page_in_the_docs_has_the_markers() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert page.index(BEGIN) < page.index(END)
