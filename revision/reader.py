"""Reads the policy revision (`revision.triggers`) in an event loop: one read serves all callers that wait for it.

As in a database's group commit, a caller joins those that wait for the next read, and a read serves only callers that were
waiting when it began. The revision that a caller receives is therefore never older than its call. There is no time-to-live.
"""

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from django.db import connection

from core.histogram import LatencyHistogram
from revision.epoch import Callback, Epoch
from revision.postgres_source import PostgresSource
from revision.sqlite_source import SqliteSource

logger = logging.getLogger("skyauth.gateway")


class ReadTimes(LatencyHistogram):
    """How long this process's reads of the revision took, and how many failed."""

    __slots__ = ("failed",)

    def __init__(self) -> None:
        super().__init__()
        self.failed = 0


read_times = ReadTimes()


class RevisionSource(Protocol):
    """Reads the revision from one kind of database, without blocking the event loop."""

    def begin(self, callback: Callback) -> None:
        """Begin a read, which ends with one call of `callback`."""
        ...

    def close(self) -> None: ...


class RevisionReader:
    """Gives the current epoch to any number of callers. None instead of an epoch means: do not use the cache."""

    def __init__(self, make_source: Callable[[], RevisionSource] | None = None) -> None:
        self._make_source = make_source or _source
        self._source: RevisionSource | None = None
        self._waiting: list[Callback] = []
        self._reading: list[Callback] = []  # the callers of the read that is running
        self._started = 0.0

    def read(self, callback: Callback) -> None:
        """Call `callback` soon and once, with the epoch at a moment after this call."""
        self._waiting.append(callback)
        if len(self._waiting) == 1 and not self._reading:
            # Not at once, so that requests whose bytes the loop has already received can join this read.
            asyncio.get_running_loop().call_soon(self._begin)

    async def epoch(self) -> Epoch | None:
        """Return the epoch, or None when the revision cannot be read."""
        future: asyncio.Future[Epoch | None] = asyncio.get_running_loop().create_future()
        self.read(lambda epoch: None if future.done() else future.set_result(epoch))
        return await future

    def close(self) -> None:
        """Close the source; the next read makes another."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _begin(self) -> None:
        if self._reading or not self._waiting:
            return
        self._reading, self._waiting = self._waiting, []
        if self._source is None:
            self._source = self._make_source()
        self._started = perf_counter()
        self._source.begin(self._finish)

    def _finish(self, epoch: Epoch | None) -> None:
        if epoch is None:
            read_times.failed += 1
        else:
            read_times.add(perf_counter() - self._started)
        callbacks, self._reading = self._reading, []
        for callback in callbacks:
            try:
                callback(epoch)
            except Exception:  # one that fails must not stop the others
                logger.exception("A request failed after the policy revision was read.")
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._begin)


def _source() -> RevisionSource:
    return SqliteSource(str(connection.settings_dict["NAME"])) if connection.vendor == "sqlite" else PostgresSource()
