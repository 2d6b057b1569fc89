"""What the benchmark is asked to do, what it refuses, and one short run of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from benchmarks import registry, run, usage
from benchmarks.errors import BenchmarkError
from benchmarks.report import BEGIN, END, Report
from benchmarks.run import FULL, QUICK, choose, find_tools, main, publish, read_arguments, read_plan
from benchmarks.sites import bare_asgi
from benchmarks.stats import TARGETS, Result, Round, judge
from skyauth import server
from tests.requirements import need_program
from tests.servers import ROOT, wait_until

EVERYBODY = registry.entries(10_000, 1_000_000)


def test_no_two_subjects_have_the_same_key() -> None:
    keys = [entry.key for entry in EVERYBODY]
    assert len(keys) == len(set(keys))


def test_every_target_and_every_bar_is_somebody_who_is_measured() -> None:
    from benchmarks.chart import SHOWN

    keys = {entry.key for entry in EVERYBODY}
    assert {key for target in TARGETS for key in (target.above, target.below)} <= keys
    assert set(SHOWN) <= keys


def test_the_bare_application_is_served_as_skyauth_is(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda _, **profile: profiles.append(profile))
    bare_asgi.serve(port=1)
    ours, [bare] = server.profile("info"), profiles
    assert issubclass(ours.pop("http"), uvicorn.protocols.http.httptools_impl.HttpToolsProtocol)
    assert bare.pop("http") == "httptools"
    assert (ours.pop("lifespan"), bare.pop("lifespan")) == ("on", "off"), "the bare application collects nothing"
    where = {name: bare.pop(name) for name in ("host", "port", "workers", "reload")}
    assert where == {"host": "127.0.0.1", "port": 1, "workers": 1, "reload": False}
    assert bare == ours


def test_the_environment_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SECONDS", "3")
    monkeypatch.delenv("BENCH_ROUNDS", raising=False)
    assert (read_plan(False).seconds, read_plan(False).rounds) == (3, FULL.rounds)
    assert (read_plan(True).seconds, read_plan(True).many) == (3, QUICK.many)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "601", "٣"])
def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BENCH_SECONDS", text)
    with pytest.raises(BenchmarkError, match="BENCH_SECONDS"):
        read_plan(False)


def test_some_can_be_chosen_and_nobody_who_is_not_there() -> None:
    assert choose(EVERYBODY, "") == list(EVERYBODY)
    assert [entry.key for entry in choose(EVERYBODY, "asgi, bearer")] == ["bearer", "asgi"]
    with pytest.raises(BenchmarkError, match="no subject asgy"):
        choose(EVERYBODY, "asgy,bearer")


def test_a_missing_program_is_named_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--only", "bearer"]) == 1
    said = capsys.readouterr().err
    assert "needs wrk" in said
    assert "apt-get install wrk nginx postgresql" in said


def test_peers_without_their_environment_are_not_measured() -> None:
    need_program("wrk", hint=run.INSTALL)
    with pytest.raises(BenchmarkError, match="--peers"):
        find_tools(choose(EVERYBODY, "drf"), read_arguments([]))


@pytest.mark.parametrize("part", [["--quick"], ["--only", "bearer"]])
def test_part_of_a_run_is_not_written_into_the_docs(part: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", *part]) == 1
    assert "--write goes with a whole run" in capsys.readouterr().err


def test_a_whole_run_is_written_into_the_page_and_its_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = read_arguments(["--write", "--json", str(tmp_path / "var" / "bench.json")])
    page = tmp_path / "performance.md"
    page.write_text(f"Before\n{BEGIN}\n{END}\nAfter\n", encoding="utf-8")
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(run, "PAGE", page)
    bearer = Result("bearer", "bearer token", registry.SQLITE, (Round(40_000, 20, 500, 900, 80_000),))
    verdicts = judge({"bearer": bearer}, None, few=10_000, many=1_000_000)
    finished = Report("2026-11-25", "abc1234", "2 cores", 2, 5, 10_000, 1_000_000, [bearer], None, verdicts)
    publish(finished, asked)
    assert "| bearer token | 40,000 |" in page.read_text(encoding="utf-8")
    picture = re.search(r"!\[.*\]\((.*)\)", page.read_text(encoding="utf-8"))
    assert picture is not None
    assert "40,000" in (tmp_path / picture[1]).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "var" / "bench.json").read_text(encoding="utf-8"))["commit"] == "abc1234"


def test_what_a_program_uses_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) as program:
        try:
            before = usage.cpu_seconds([program.pid])
            wait_until(lambda: usage.cpu_seconds([program.pid]) > before, "it works")
            assert usage.resident_bytes([program.pid]) > 1_000_000
        finally:
            program.kill()
    assert usage.resident_bytes([]) == 0
    assert "cores" in usage.machine()


@pytest.mark.parametrize(
    ("words", "told", "not_told"),
    [
        ([], ["--write", "--skypilot .venv-skypilot/bin/python", "requirements-skypilot.txt"], ["--quick"]),
        (["ARGS=--quick"], ["--quick"], ["--write"]),
        (["SKYPILOT="], ["--write", "--peers .venv-bench/bin/python"], ["skypilot"]),
    ],
)
def test_make_bench_is_what_the_docs_say(words: list[str], told: list[str], not_told: list[str]) -> None:
    said = {name: value for name, value in os.environ.items() if name not in {"ARGS", "MAKEFLAGS"}}  # by whoever runs the tests
    done = subprocess.run(["make", "-n", "-B", "bench", *words], cwd=ROOT, env=said, capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in told)
    assert not any(word in done.stdout for word in not_told)


def test_the_subjects_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [entry.key for entry in EVERYBODY]


@pytest.mark.e2e
@pytest.mark.sqlite
@pytest.mark.xdist_group("bench")
def test_a_short_run_measures_answers_that_were_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_program("wrk", hint=run.INSTALL)
    told = tmp_path / "bench.json"
    assert main(["--quick", "--only", "bearer,nobody,asgi", "--json", str(told)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "round 1 of 1  SkyAuth on SQLite: bearer token" in shown
    whole = json.loads(told.read_text(encoding="utf-8"))
    assert [one["key"] for one in whole["results"]] == ["bearer", "nobody", "asgi"]
    assert all(one["rounds"][0]["requests"] > 0 and one["rounds"][0]["cpu"] > 0 for one in whole["results"])
    assert whole["verdicts"][0]["reached"] != ""


@pytest.mark.e2e
@pytest.mark.sqlite
@pytest.mark.xdist_group("bench")
def test_a_subject_that_lets_everybody_in_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bare application in the place of one that should refuse."""
    need_program("wrk", hint=run.INSTALL)
    from dataclasses import replace

    honest = registry.entries

    def swapped(few: int, many: int) -> tuple[registry.Entry, ...]:
        found = {entry.key: entry for entry in honest(few, many)}
        asgi = found["asgi"].start
        return (replace(found["nobody"], start=lambda harness: replace(asgi(harness), expected=401)),)

    monkeypatch.setattr(registry, "entries", swapped)
    assert main(["--quick", "--only", "nobody"]) == 1
    assert "every answer should be 401; there was 1000 times 200." in capsys.readouterr().err
