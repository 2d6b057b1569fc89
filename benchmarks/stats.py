"""From what was counted to medians, ratios and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MEMORY_LIMIT: Final = 300  # MB of one worker


@dataclass(frozen=True, slots=True)
class Round:
    """One subject in one round. `cpu` are microseconds of processor time for an answer; `p50` and `p99` too, of waiting."""

    rate: float
    cpu: float
    p50: int
    p99: int
    requests: int


@dataclass(frozen=True, slots=True)
class Result:
    """A subject and all its rounds."""

    key: str
    title: str
    section: str
    rounds: tuple[Round, ...]

    @property
    def rate(self) -> float:
        """Answers per second, the median of the rounds."""
        return median(one.rate for one in self.rounds)

    @property
    def slowest(self) -> float:
        """Answers per second in the worst round."""
        return min(one.rate for one in self.rounds)

    @property
    def fastest(self) -> float:
        """Answers per second in the best round."""
        return max(one.rate for one in self.rounds)

    @property
    def cpu(self) -> float:
        """Microseconds of processor time for an answer, the median of the rounds."""
        return median(one.cpu for one in self.rounds)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one worker had in RAM when it started, and after it was shown so many tokens. In bytes."""

    before: int
    after: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio to reach: the rate of one subject divided by that of another. The text may name the numbers of tokens."""

    text: str
    above: str
    below: str
    least: float


TARGETS: Final = (
    Target("bearer / bare ASGI app on the same server", "bearer", "asgi", 0.70),
    Target("bearer / bare Django view on its fastest safe server", "bearer", "view", 3.0),
    Target("bearer / DRF TokenAuthentication", "bearer", "drf", 20),
    Target("bearer / django-rest-knox", "bearer", "knox", 25),
    Target("{many:,} tokens / {few:,} tokens", "bearer-many", "bearer", 0.95),
    Target("1,000 routes / 10 routes", "bearer-1000-routes", "bearer", 0.90),
    Target("100 changes a second / none, SQLite", "changes-100", "changes-0", 0.80),
    Target("100 changes a second / none, PostgreSQL", "pg-changes-100", "pg-changes-0", 0.80),
    Target("PostgreSQL / SQLite", "pg-bearer", "bearer", 0.50),
    Target("bearer / SkyPilot's own server, cheapest authenticated GET", "bearer", "skypilot", 200),
    Target("nginx auth_request to SkyAuth / to a static 200", "nginx-skyauth", "nginx", 0.20),
    Target("Basic (remembered) / bearer", "basic", "bearer", 0.80),
    Target("first sight of a token / DRF TokenAuthentication", "miss", "drf", 2.0),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, what it asks for, what was reached in words, and whether that is enough; None: not measured.

    `by_cpu` is the same ratio in processor time for an answer, which decides nothing: it says whether the machine was busy.
    """

    text: str
    asked: str
    reached: str
    by_cpu: str
    met: bool | None

    @property
    def word(self) -> str:
        """The verdict in words."""
        return "not measured" if self.met is None else "met" if self.met else "NOT MET"


def ratio(results: Mapping[str, Result], above: str, below: str) -> float | None:
    """Return the rate of one subject divided by that of another, None where one of them was not measured."""
    if above not in results or below not in results:
        return None
    return results[above].rate / results[below].rate


def ratio_by_cpu(results: Mapping[str, Result], above: str, below: str) -> float | None:
    """Return how many answers one subject gives in the processor time that another spends on one, None without both."""
    if above not in results or below not in results or not results[above].cpu:
        return None
    return results[below].cpu / results[above].cpu


def judge(results: Mapping[str, Result], memory: Memory | None, *, few: int, many: int) -> Sequence[Verdict]:
    """Return a verdict on each target, and on the memory of a worker that was shown `many` tokens."""
    verdicts = []
    for target in TARGETS:
        reached = ratio(results, target.above, target.below)
        by_cpu = ratio_by_cpu(results, target.above, target.below)
        met = None if reached is None else reached >= target.least
        text = target.text.format(few=few, many=many)
        verdicts.append(Verdict(text, f"at least {target.least:.4g}", _shown(reached), _shown(by_cpu), met))
    after = None if memory is None else memory.after / 1e6
    verdicts.append(
        Verdict(
            f"memory of a worker after {many:,} tokens",
            f"under {MEMORY_LIMIT} MB",
            "" if after is None else f"{after:.0f} MB",
            "",
            None if after is None else after < MEMORY_LIMIT,
        )
    )
    return verdicts


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"
