"""What Prometheus is told of this process, or of all workers of one server.

Where requests are answered, plain numbers are counted: a counter of Prometheus' takes a lock and microseconds, and the whole
answer has not many more. They are carried over when they are asked for and, where several workers share a directory
(PROMETHEUS_MULTIPROC_DIR, which `skyauth.server` sets), once a second: a worker that is killed takes a second with it.

No label has a value that comes with a request: OUTCOMES names all reasons there are.
"""

import atexit
import fcntl
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import IO, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from authn import passwords
from core.histogram import BOUNDS, LatencyHistogram
from gateway.cache import DecisionCache
from gateway.headers import Answer, Cause
from rbac.policy import Reason
from revision import reader

OUTCOMES: Final[dict[str, str]] = {
    Reason.GRANTED: "allowed",
    Cause.BAD_CREDENTIAL: "unauthenticated",
    Cause.NO_CREDENTIAL: "unauthenticated",
    Reason.HEADERS_TOO_LARGE: "denied",
    Reason.NO_ROUTE: "denied",
    Reason.NOT_PERMITTED: "denied",
    Reason.UNKNOWN_PERMISSION: "denied",
    Reason.UNREADABLE_TARGET: "denied",
    Cause.UNAVAILABLE: "unavailable",
}
_FLUSH_SECONDS: Final = 1.0
_DIRECTORY: Final = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")  # prometheus_client reads it on import, too


class Way(LatencyHistogram):
    """What came of the questions that were answered in one way, and how long that took. Written by the event loop alone."""

    __slots__ = ("name", "reasons")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.reasons = dict.fromkeys(OUTCOMES, 0)

    def decided(self, answer: Answer, began: float) -> None:
        """Count an answer to a question that came at `began`, by `time.perf_counter`."""
        seconds = perf_counter() - began
        self.reasons[answer.reason] += 1
        self.counts[bisect_left(BOUNDS, seconds)] += 1  # `LatencyHistogram.add`, without the call
        self.total += seconds


MEMORY: Final = Way("memory")
DATABASE: Final = Way("database")


class _Bulk(Histogram):
    """A histogram to which many observations are added at a time."""

    def add(self, counts: Sequence[float], total: float) -> None:
        """Add `counts` observations to each bucket, and their sum."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


disable_created_metrics()  # type: ignore[no-untyped-call] # with several workers there are none
_registry: Final = CollectorRegistry()
_decisions: Final = Counter(
    "skyauth_decisions",
    "Answers of the verify endpoints. `way` says whether memory sufficed or the database was asked: cache hits and misses.",
    ["outcome", "reason", "way"],
    registry=_registry,
)
_decision_seconds: Final = _Bulk(
    "skyauth_decision_seconds",
    "From the arrival of a question at a verify endpoint to its answer.",
    ["way"],
    registry=_registry,
    buckets=BOUNDS,
)
_remembered: Final = Gauge(
    "skyauth_remembered_callers",
    "Callers who are recognised without the database while nothing that decides changes.",
    registry=_registry,
    multiprocess_mode="livesum",
)
_mark_seconds: Final = _Bulk(
    "skyauth_mark_read_seconds",
    "How long a read of the database's mark took, shared by all questions that waited for it. Nothing is notified and nothing"
    " lives by a time-to-live: this is the whole delay between a change and the answers that heed it.",
    registry=_registry,
    buckets=BOUNDS,
)
_mark_failed: Final = Counter(
    "skyauth_mark_reads_failed",
    "Reads of the mark that ended without it. Nothing remembered is used then, and the database is asked.",
    registry=_registry,
)
_hashing: Final = Gauge(
    "skyauth_password_hashing",
    "Passwords that are being checked (at most AUTH_HASHING_SLOTS for each worker), and those that wait for a place.",
    ["state"],
    registry=_registry,
    multiprocess_mode="livesum",
)
_busy: Final = Counter(
    "skyauth_password_busy",
    "Sign-ins that were answered with 503 because too many passwords were being checked.",
    registry=_registry,
)
# prometheus_client's own reader sees one process; of several workers, the sum is told, or the least of what has no sum.
_cpu: Final = Counter("process_cpu_seconds", "User and system CPU time spent, in seconds.", registry=_registry)
_process: Final = {
    gauge._name: gauge
    for gauge in (
        Gauge("process_virtual_memory_bytes", "Virtual memory.", registry=_registry, multiprocess_mode="livesum"),
        Gauge("process_resident_memory_bytes", "Resident memory.", registry=_registry, multiprocess_mode="livesum"),
        Gauge("process_open_fds", "Open file descriptors.", registry=_registry, multiprocess_mode="livesum"),
        Gauge("process_max_fds", "The limit of open file descriptors.", registry=_registry, multiprocess_mode="livemin"),
        Gauge("process_start_time_seconds", "Start, since the epoch.", registry=_registry, multiprocess_mode="livemin"),
    )
}
_reader: Final = ProcessCollector(registry=None)

_lock = threading.Lock()
_told: dict[Hashable, float] = {}
_memory: DecisionCache | None = None
_alive: IO[bytes] | None = None  # locked for as long as this process lives


def watch(memory: DecisionCache) -> None:
    """Tell the size of this memory."""
    global _memory  # noqa: PLW0603 - one process, one memory
    _memory = memory


def start() -> None:
    """Begin to carry over what is counted, where several workers share a directory."""
    global _alive  # noqa: PLW0603 - one process, one file
    if not _DIRECTORY or _alive is not None:
        return
    new = Path(_DIRECTORY) / f"{os.getpid()}.new"
    _alive = new.open("wb")
    fcntl.flock(_alive, fcntl.LOCK_EX)
    new.rename(new.with_suffix(".alive"))  # only now can others find it, and try its lock
    threading.Thread(target=_run, name="metrics", daemon=True).start()
    atexit.register(flush)


def collected() -> CollectorRegistry:
    """Return what was counted up to now, of all workers."""
    flush()
    if not _DIRECTORY:
        return _registry
    _bury_the_dead(Path(_DIRECTORY))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, _DIRECTORY)  # type: ignore[no-untyped-call]
    return registry


def flush() -> None:
    """Carry over what was counted since the last time."""
    with _lock:
        for way in (MEMORY, DATABASE):
            for reason, count in way.reasons.items():
                _decisions.labels(OUTCOMES[reason], reason, way.name).inc(_since((way.name, reason), count))
            _carry(way, _decision_seconds.labels(way.name), way.name)
        _carry(reader.reads, _mark_seconds, "mark")
        _mark_failed.inc(_since("mark failed", reader.reads.failed))
        _busy.inc(_since("busy", passwords.load.busy))
        _hashing.labels("running").set(passwords.load.running)
        _hashing.labels("waiting").set(passwords.load.waiting)
        _remembered.set(len(_memory) if _memory is not None else 0)
        for family in _reader.collect():
            if family.name in _process:
                _process[family.name].set(family.samples[0].value)
            elif family.name == "process_cpu_seconds":
                _cpu.inc(_since("cpu", family.samples[0].value))


def _since(key: Hashable, now: float) -> float:
    """Return by how much a number grew since it was last told."""
    before, _told[key] = _told.get(key, 0), now
    return now - before


def _carry(timings: LatencyHistogram, into: _Bulk, key: str) -> None:
    into.add(
        [_since((key, index), count) for index, count in enumerate(timings.counts)],
        _since((key, "total"), timings.total),
    )


def _run() -> None:
    while True:
        time.sleep(_FLUSH_SECONDS)
        flush()


def _bury_the_dead(directory: Path) -> None:
    """Forget the gauges of workers that are gone, which the kernel tells by letting go of their locks; their counts stay."""
    for path in directory.glob("*.alive"):
        with suppress(OSError), path.open("rb") as file:  # it is locked, or another scrape was here first
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark_process_dead(int(path.stem), directory)  # type: ignore[no-untyped-call]
            path.unlink()
