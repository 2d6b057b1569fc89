"""Measures SkyAuth beside others in one interleaved run. `make bench` runs it; docs/performance.md says how to read it.

Every subject has one worker. In each round all of them are measured in turn, so that what the machine does meanwhile
meets all of them. Before its turn each is asked its working set once, and every answer must be the right one.
"""

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from benchmarks import chart, registry, report, stats, usage
from benchmarks.errors import BenchmarkError
from benchmarks.harness import Harness, Subject, Tools
from benchmarks.load import CONNECTIONS, check, drive, require
from benchmarks.registry import Entry
from benchmarks.report import Report
from benchmarks.stats import Memory, Result, Round
from benchmarks.subjects import skyauth
from tests.requirements import need_program
from tests.servers import ROOT

PAGE: Final = ROOT / "docs" / "performance.md"
CHART: Final = "images/performance.svg"
SHOWING_SECONDS: Final = 5  # of each piece, while every token is shown
INSTALL: Final = "install it with: apt-get install wrk nginx postgresql"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a benchmark is run, and on how many tokens."""

    seconds: int
    rounds: int
    few: int
    many: int
    memory: bool


FULL: Final = Plan(seconds=2, rounds=5, few=10_000, many=1_000_000, memory=True)
QUICK: Final = Plan(seconds=1, rounds=1, few=10_000, many=100_000, memory=False)


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.run", description="Measure SkyAuth beside others. BENCH_SECONDS and BENCH_ROUNDS set how long."
    )
    parser.add_argument("--quick", action="store_true", help="one round of a second, fewer tokens: to see that it runs")
    parser.add_argument("--only", metavar="KEY,...", default="", help="measure these subjects alone; --list names them")
    parser.add_argument("--list", action="store_true", help="name the subjects and end")
    parser.add_argument("--peers", metavar="PYTHON", default="", help="the Python of an environment with requirements-bench.txt")
    parser.add_argument("--skypilot", metavar="PYTHON", default="", help="the Python of one with requirements-skypilot.txt")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure to this file")
    parser.add_argument("--write", action="store_true", help=f"write the table and the chart into {PAGE.relative_to(ROOT)}")
    return parser.parse_args(words)


def read_plan(quick: bool) -> Plan:
    """Return the plan that the arguments and the environment ask for. Raises BenchmarkError."""
    plan = QUICK if quick else FULL
    seconds, rounds = _number("BENCH_SECONDS", plan.seconds), _number("BENCH_ROUNDS", plan.rounds)
    return Plan(seconds, rounds, plan.few, plan.many, plan.memory)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 600):
        raise BenchmarkError(f"{name}={text!r} is not a number from 1 to 600. Write, say, {name}={default}.")
    return int(text)


def choose(everybody: Sequence[Entry], only: str) -> list[Entry]:
    """Return the subjects of these comma-separated keys, or everybody. Raises BenchmarkError for a key that nobody has."""
    keys = [key.strip() for key in only.split(",") if key.strip()]
    if unknown := sorted(set(keys) - {entry.key for entry in everybody}):
        raise BenchmarkError(f"There is no subject {', '.join(unknown)}. --list names those that there are.")
    return [entry for entry in everybody if not keys or entry.key in keys]


def find_tools(chosen: Sequence[Entry], asked: argparse.Namespace) -> Tools:
    """Return the programs that those who were chosen need. Raises BenchmarkError naming one that is missing."""
    needs = {need for entry in chosen for need in entry.needs}
    found = {name: _program(name) for name in ("wrk", *sorted(needs & {"nginx", "postgres"}))}
    if "peers" in needs and not asked.peers:
        raise BenchmarkError("The peers need an environment of their own, which make bench makes: --peers .venv-bench/bin/python")
    return Tools(found["wrk"], found.get("nginx", ""), asked.peers, asked.skypilot)


def _program(name: str) -> str:
    try:
        return need_program(name, hint=INSTALL)
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        raise BenchmarkError(f"the benchmark {missing}") from None


def prepare(harness: Harness, chosen: Sequence[Entry]) -> dict[Entry, Subject]:
    """Seed the databases, two at a time, and start everybody."""
    shapes = list(dict.fromkeys(entry.shape for entry in chosen if entry.shape is not None))
    if any("postgres" in entry.needs for entry in chosen):
        harness.cluster()
    largest_first = sorted(shapes, key=lambda shape: -shape.tokens)
    with ThreadPoolExecutor(2) as pool:
        for shape in pool.map(lambda shape: _seeded(harness, shape), largest_first):
            say(f"  seeded: {shape.database}, {shape.tokens:,} tokens, {shape.routes:,} routes")
    started = {}
    for entry in chosen:
        started[entry] = entry.start(harness)
        say(f"  started: {entry.section}: {entry.title}")
    return started


def _seeded(harness: Harness, shape: skyauth.Shape) -> skyauth.Shape:
    harness.once(("seeded", shape), lambda: skyauth.seed(harness, shape))
    return shape


def measure(wrk: str, who: str, subject: Subject, seconds: int) -> Round:
    """Ask what must be answered rightly, then as much as wrk can. Raises BenchmarkError at a wrong answer."""
    require(subject.port, subject.requests.one_by_one(), (subject.expected,), who)
    for also in subject.also:
        require(subject.port, [also.request], also.expected, f"{who}, the other way round")
    usage.settle()
    before = usage.cpu_seconds(subject.sessions)
    with subject.during():
        load = drive(wrk, subject.port, subject.requests, seconds)
    cpu = usage.cpu_seconds(subject.sessions) - before
    check(load, subject.expected, who)
    if subject.requests.walks:
        show_tail(subject, who)
    return Round(load.rate, cpu / load.requests * 1e6, load.p50, load.p99, load.requests)


def show_tail(subject: Subject, who: str) -> None:
    """Show the last credentials of a walk again: when wrk ends, some of its requests are not yet answered."""
    count = min(2 * CONNECTIONS, subject.requests.position)
    last = subject.requests.take(subject.requests.position - count, count)
    require(subject.port, last, (subject.expected,), who)


def show_all(wrk: str, subject: Subject, many: int, before: int) -> Memory:
    """Show a worker the tokens that are left of `many`, and return what memory it has then. Raises BenchmarkError."""
    while subject.requests.position < many:
        load = drive(wrk, subject.port, subject.requests, SHOWING_SECONDS)
        if load.failed or load.refused or not load.requests:
            raise BenchmarkError(f"showing every token: {load.refused} were refused and {load.failed} requests failed.")
        subject.requests.position = min(subject.requests.position, many)
        show_tail(subject, "showing every token")
        say(f"  {subject.requests.position:,} of {many:,} tokens shown, {load.rate:,.0f}/s")
    return Memory(before, usage.resident_bytes(subject.sessions), many)


def run(harness: Harness, plan: Plan, chosen: Sequence[Entry]) -> tuple[list[Result], Memory | None]:
    """Measure everybody, and the memory of a worker."""
    say("Preparing")
    started = prepare(harness, chosen)
    rounds: dict[Entry, list[Round]] = {entry: [] for entry in chosen}
    held = {entry: usage.resident_bytes(subject.sessions) for entry, subject in started.items()}

    def measure_all(entries: Sequence[Entry]) -> None:
        for n in range(1, plan.rounds + 1):
            for entry in entries:
                one = measure(harness.tools.wrk, entry.title, started[entry], plan.seconds)
                rounds[entry].append(one)
                say(f"  round {n} of {plan.rounds}  {entry.section}: {entry.title}  {one.rate:,.0f}/s")

    say("Measuring")
    measure_all([entry for entry in chosen if not entry.last])
    memory = None
    shown = next((entry for entry in chosen if entry.key == "miss"), None)
    if plan.memory and shown is not None:
        say("Showing every token to one worker")
        memory = show_all(harness.tools.wrk, started[shown], plan.many, held[shown])
        measure_all([entry for entry in chosen if entry.last])
    return [Result(entry.key, entry.title, entry.section, tuple(found)) for entry, found in rounds.items() if found], memory


def commit() -> str:
    """Return the commit that is measured, with a + when the files are not as it has them."""
    named = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return named.stdout.strip() or "unknown"


def say(text: str) -> None:
    """Print at once: the reader may be a pipe."""
    print(text, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    asked = read_arguments(words)
    began = time.monotonic()
    try:
        plan = read_plan(asked.quick)
        everybody = registry.entries(plan.few, plan.many)
        if asked.list:
            say("\n".join(f"{entry.key:<20}{entry.section}: {entry.title}" for entry in everybody))
            return 0
        chosen = choose([entry for entry in everybody if "skypilot" not in entry.needs or asked.skypilot], asked.only)
        if asked.write and (asked.quick or asked.only):
            raise BenchmarkError("--write goes with a whole run: no --quick, no --only.")
        tools = find_tools(chosen, asked)
        measured = commit()  # now: who starts the servers may go on working meanwhile
        with ExitStack() as stack:
            results, memory = run(Harness(stack, tools, few=plan.few, many=plan.many), plan, chosen)
        verdicts = stats.judge({result.key: result for result in results}, memory, few=plan.few, many=plan.many)
        finished = Report(
            datetime.datetime.now(datetime.UTC).date().isoformat(),
            measured,
            usage.machine(),
            plan.seconds,
            plan.rounds,
            plan.few,
            plan.many,
            results,
            memory,
            verdicts,
        )
        publish(finished, asked)
    except BenchmarkError as error:
        print(f"make bench: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"\nIt took {(time.monotonic() - began) / 60:.1f} minutes.")
    return 0


def publish(finished: Report, asked: argparse.Namespace) -> None:
    """Print the report, and write what was asked for."""
    say("\n" + report.terminal(finished))
    if asked.json is not None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(report.as_json(finished), encoding="utf-8")
    if asked.write:
        (PAGE.parent / CHART).write_text(chart.draw(finished.results), encoding="utf-8")
        report.write_between(PAGE, report.markdown(finished, CHART))


if __name__ == "__main__":
    sys.exit(main())
