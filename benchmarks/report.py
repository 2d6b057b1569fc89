"""What a benchmark tells: a table for the terminal, one for the docs, and every figure as JSON."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import BenchmarkError
from benchmarks.stats import Memory, Result, Verdict, ratio

BEGIN: Final = "<!-- measured: written by make bench -->"
END: Final = "<!-- end of what was measured -->"
REFERENCE: Final = "bearer"
_HEADINGS: Final = ("answers/s", "slowest", "fastest", "CPU us", "bearer is")


@dataclass(frozen=True, slots=True)
class Report:
    """A finished benchmark: when and where, with how many rounds of how many seconds, on how many tokens, and what came out."""

    date: str
    commit: str
    machine: str
    seconds: int
    rounds: int
    few: int
    many: int
    results: Sequence[Result]
    memory: Memory | None
    verdicts: Sequence[Verdict]

    def cells(self, result: Result) -> tuple[str, ...]:
        """Return a subject's row, without its title."""
        times = ratio({one.key: one for one in self.results}, REFERENCE, result.key)
        shown = "" if times is None or result.key == REFERENCE else f"{times:.2f}x" if times < 10 else f"{times:.0f}x"
        return f"{result.rate:,.0f}", f"{result.slowest:,.0f}", f"{result.fastest:,.0f}", f"{result.cpu:,.0f}", shown

    def sections(self) -> Iterable[tuple[str, list[Result]]]:
        """Yield the sections in order, with the subjects of each."""
        for section, members in groupby(self.results, key=lambda result: result.section):
            yield section, list(members)


def terminal(report: Report) -> str:
    """Return the report as text in columns."""
    width = max(len(result.title) for result in report.results) + 4
    lines = [" " * width + "".join(f"{heading:>12}" for heading in _HEADINGS)]
    for section, members in report.sections():
        lines += ["", section]
        lines += [f"  {one.title:<{width - 2}}" + "".join(f"{cell:>12}" for cell in report.cells(one)) for one in members]
    wide = max(len(verdict.text) for verdict in report.verdicts)
    lines += ["", f"{'Targets':<{wide + 4}}{'':>14}{'reached':>10}{'by CPU':>10}"]
    lines += [f"  {one.text:<{wide}}  {one.asked:>14}{one.reached:>10}{one.by_cpu:>10}  {one.word}" for one in report.verdicts]
    return "\n".join(lines)


def markdown(report: Report, chart: str) -> str:
    """Return the report as it stands in the docs; `chart` is where the picture is."""
    where = f"Measured on {report.date} at commit {report.commit}, on {report.machine}"
    lines = [
        f"{where}; {report.rounds} interleaved rounds of {report.seconds} seconds, medians.",
        "",
        f"![Answers per second of one worker, SkyAuth beside others; the same figures as in the table below.]({chart})",
        "",
        "| what is asked for | at least | reached | by CPU | |",
        "|---|---:|---:|---:|---|",
        *(
            f"| {one.text} | {one.asked.removeprefix('at least ')} | {one.reached} | {one.by_cpu} | {one.word} |"
            for one in report.verdicts
        ),
    ]
    for section, members in report.sections():
        lines += ["", f"| {section} | {' | '.join(_HEADINGS)} |", f"|---|{'---:|' * len(_HEADINGS)}"]
        lines += [f"| {one.title} | {' | '.join(report.cells(one))} |" for one in members]
    if report.memory is not None:
        before, after = report.memory.before / 1e6, report.memory.after / 1e6
        lines += [
            "",
            f"Memory of one worker: {before:.0f} MB when started, {after:.0f} MB after {report.memory.tokens:,} tokens.",
        ]
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Return every figure."""
    whole: dict[str, Any] = dataclasses.asdict(report)
    return json.dumps(whole, indent=2) + "\n"


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the markers in a page. Raises BenchmarkError unless both are there once and in order."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise BenchmarkError(f"{path.name} must have the lines {BEGIN} and {END}, once each.")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
