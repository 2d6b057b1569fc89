"""The metrics of this process, or of all workers of one server.

Requests increment plain numbers, because a Prometheus counter takes a lock and microseconds, and a whole answer takes hardly
longer. The numbers are copied into Prometheus' metrics at each scrape and, where several workers share a directory
(PROMETHEUS_MULTIPROC_DIR, which `skyauth.server` sets), once a second. A worker that is killed loses its last second.

No label has a value that comes from a request: OUTCOMES lists all reasons.
"""

import atexit
import fcntl
import os
import threading
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import IO, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from audit.record import lost_writes
from authn import passwords
from core.flusher import Flusher
from core.histogram import BOUNDS, LatencyHistogram
from core.postgresql.outage import outage
from gateway import requests
from gateway.cache import DecisionCache
from gateway.headers import Answer, Cause
from gateway.threads import VerifyThreads
from rbac.policy import Reason
from revision import reader

OUTCOMES: Final[dict[str, str]] = {
    Reason.GRANTED: "allowed",
    Cause.BAD_CREDENTIAL: "unauthenticated",
    Cause.NO_CREDENTIAL: "unauthenticated",
    Reason.CROSS_ORIGIN: "denied",
    Reason.HEADERS_TOO_LARGE: "denied",
    Reason.NO_ROUTE: "denied",
    Reason.NOT_PERMITTED: "denied",
    Reason.ROLE_REFUSED: "denied",
    Reason.UNKNOWN_PERMISSION: "denied",
    Reason.UNREADABLE_TARGET: "denied",
    Cause.UNAVAILABLE: "unavailable",
}
_FLUSH_SECONDS: Final = 1.0
_DIRECTORY: Final = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")  # prometheus_client reads it on import, too


class PathMetrics(LatencyHistogram):
    """The answers of the fast or the slow path by reason, and how long they took. Only the event loop writes them.

    `name` is the value of the label `way`.
    """

    __slots__ = ("name", "reasons")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.reasons = dict.fromkeys(OUTCOMES, 0)

    def count(self, answer: Answer, started: float) -> None:
        """Count the answer to a request that arrived at `started`, by `time.perf_counter`."""
        seconds = perf_counter() - started
        self.reasons[answer.reason] += 1
        self.counts[bisect_left(BOUNDS, seconds)] += 1  # `LatencyHistogram.add`, without the call
        self.total += seconds


FAST_PATH: Final = PathMetrics("memory")
SLOW_PATH: Final = PathMetrics("database")


class _BulkHistogram(Histogram):
    """A histogram that takes many observations at a time."""

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
    "Answers of the forward-auth endpoints. `way` is `memory` for a cache hit, `database` for a cache miss.",
    ["outcome", "reason", "way"],
    registry=_registry,
)
_decision_seconds: Final = _BulkHistogram(
    "skyauth_decision_seconds",
    "Seconds from the arrival of a request at a forward-auth endpoint to its answer.",
    ["way"],
    registry=_registry,
    buckets=BOUNDS,
)
_cached_callers: Final = Gauge(
    "skyauth_remembered_callers",
    "Callers in the decision cache.",
    registry=_registry,
    multiprocess_mode="livesum",
)
_revision_seconds: Final = _BulkHistogram(
    "skyauth_mark_read_seconds",
    "Seconds to read the policy revision, once for all requests that wait for it. This is the whole delay until a change applies:"
    " there are no notifications and there is no time-to-live.",
    registry=_registry,
    buckets=BOUNDS,
)
_revision_failures: Final = Counter(
    "skyauth_mark_reads_failed",
    "Failed reads of the policy revision. The requests that wait for it are answered from the database, not from the cache.",
    registry=_registry,
)
_hashing: Final = Gauge(
    "skyauth_password_hashing",
    "Password checks: running (at most AUTH_HASHING_SLOTS for each worker), and waiting for a slot.",
    ["state"],
    registry=_registry,
    multiprocess_mode="livesum",
)
_requests: Final = Counter(
    "skyauth_requests",
    "Responses of the APIs and of pages by the class of their status.",
    ["interface", "status"],
    registry=_registry,
)
_request_seconds: Final = _BulkHistogram(
    "skyauth_request_seconds",
    "Seconds from a request to an API or a page to the beginning of the response.",
    ["interface"],
    registry=_registry,
    buckets=BOUNDS,
)
_threads: Final = Gauge(
    "skyauth_verify_threads",
    "Threads that answer forward-auth requests from the database: busy, and overdue.",
    ["state"],
    registry=_registry,
    multiprocess_mode="livesum",
)
_connections: Final = Gauge(
    "skyauth_database_connections",
    "Connections of the pool (PostgreSQL): idle, and used.",
    ["state"],
    registry=_registry,
    multiprocess_mode="livesum",
)
_connection_waits: Final = Gauge(
    "skyauth_database_waiting",
    "Threads that wait for a connection of the pool (PostgreSQL).",
    registry=_registry,
    multiprocess_mode="livesum",
)
_lost: Final = Gauge(
    "skyauth_database_lost",
    "1 while a worker cannot make a connection (PostgreSQL), else 0.",
    registry=_registry,
    multiprocess_mode="livemax",
)
_ready: Final = Gauge(
    "skyauth_ready",
    "0 if the last probe of /readyz failed, else 1.",
    registry=_registry,
    multiprocess_mode="livemin",
)
_audit_lost: Final = Counter(
    "skyauth_audit_writes_lost",
    "Denied requests and failed sign-ins that could not be written to the audit log.",
    registry=_registry,
)
_busy: Final = Counter(
    "skyauth_password_busy",
    "Sign-ins that got 503 because too many password checks were waiting.",
    registry=_registry,
)
# prometheus_client's own collector reads one process. With several workers this is the sum, or the minimum for the
# last two.
_cpu: Final = Counter("process_cpu_seconds", "User and system CPU time spent, in seconds.", registry=_registry)
_process: Final = {
    gauge._name: gauge
    for gauge in (
        Gauge("process_virtual_memory_bytes", "Virtual memory.", registry=_registry, multiprocess_mode="livesum"),
        Gauge("process_resident_memory_bytes", "Resident memory.", registry=_registry, multiprocess_mode="livesum"),
        Gauge("process_open_fds", "Open file descriptors.", registry=_registry, multiprocess_mode="livesum"),
        Gauge("process_max_fds", "Maximum number of open file descriptors.", registry=_registry, multiprocess_mode="livemin"),
        Gauge(
            "process_start_time_seconds",
            "Start time, in seconds since the epoch.",
            registry=_registry,
            multiprocess_mode="livemin",
        ),
    )
}
_reader: Final = ProcessCollector(registry=None)

_lock = threading.Lock()
_copied: dict[Hashable, float] = {}  # the values at the last flush
_cache: DecisionCache | None = None
_verify_threads: VerifyThreads | None = None
_is_ready = True
_alive: IO[bytes] | None = None  # locked until this process ends


def watch(cache: DecisionCache, threads: VerifyThreads) -> None:
    """Report the size of this cache, and the state of these threads."""
    global _cache, _verify_threads
    _cache, _verify_threads = cache, threads


def report_ready(*, ready: bool) -> None:
    """Report the result of a probe of /readyz."""
    global _is_ready  # noqa: PLW0603 - one process, one state
    _is_ready = ready


def start() -> None:
    """Start the flusher, where several workers share a directory."""
    global _alive  # noqa: PLW0603 - one process, one file
    if not _DIRECTORY or _alive is not None:
        return
    new = Path(_DIRECTORY) / f"{os.getpid()}.new"
    _alive = new.open("wb")
    fcntl.flock(_alive, fcntl.LOCK_EX)
    new.rename(new.with_suffix(".alive"))  # only now can others find it, and try its lock
    Flusher("metrics", flush, _FLUSH_SECONDS).start()
    atexit.register(flush)


def collected() -> CollectorRegistry:
    """Return the current metrics of all workers."""
    flush()
    if not _DIRECTORY:
        return _registry
    _remove_dead_workers(Path(_DIRECTORY))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, _DIRECTORY)  # type: ignore[no-untyped-call]
    return registry


def flush() -> None:
    """Add to Prometheus' metrics what was counted since the last flush."""
    with _lock:
        for path in (FAST_PATH, SLOW_PATH):
            for reason, count in path.reasons.items():
                _decisions.labels(OUTCOMES[reason], reason, path.name).inc(_growth((path.name, reason), count))
            _add(path, _decision_seconds.labels(path.name), path.name)
        _add(reader.read_times, _revision_seconds, "revision")
        _revision_failures.inc(_growth("revision failures", reader.read_times.failed))
        _busy.inc(_growth("busy", passwords.load.busy))
        _hashing.labels("running").set(passwords.load.running)
        _hashing.labels("waiting").set(passwords.load.waiting)
        _cached_callers.set(len(_cache) if _cache is not None else 0)
        _flush_server()
        for family in _reader.collect():
            if family.name in _process:
                _process[family.name].set(family.samples[0].value)
            elif family.name == "process_cpu_seconds":
                _cpu.inc(_growth("cpu", family.samples[0].value))


def _flush_server() -> None:
    for interface in (requests.API, requests.PAGES):
        for status, count in interface.statuses.items():
            _requests.labels(interface.name, status).inc(_growth((interface.name, status), count))
        _add(interface, _request_seconds.labels(interface.name), interface.name)
    _threads.labels("busy").set(_verify_threads.busy if _verify_threads is not None else 0)
    _threads.labels("overdue").set(_verify_threads.overdue if _verify_threads is not None else 0)
    idle, used, waiting = outage.connections()
    _connections.labels("idle").set(idle)
    _connections.labels("used").set(used)
    _connection_waits.set(waiting)
    _lost.set(bool(outage.fault))
    _ready.set(_is_ready)
    _audit_lost.inc(_growth("audit lost", lost_writes.count))


def _growth(key: Hashable, value: float) -> float:
    """Return by how much a number grew since the last flush."""
    before, _copied[key] = _copied.get(key, 0), value
    return value - before


def _add(times: LatencyHistogram, into: _BulkHistogram, key: str) -> None:
    into.add(
        [_growth((key, index), count) for index, count in enumerate(times.counts)],
        _growth((key, "total"), times.total),
    )


def _remove_dead_workers(directory: Path) -> None:
    """Remove the gauges of workers that have ended, whose file locks the kernel has released. Their counters stay."""
    for path in directory.glob("*.alive"):
        with suppress(OSError), path.open("rb") as file:  # it is locked, or another scrape came first
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark_process_dead(int(path.stem), directory)  # type: ignore[no-untyped-call]
            path.unlink()
