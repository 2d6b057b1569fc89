"""Notes when a token was last used and a user last seen: at most once a minute each, and its failure never fails a request.

A server collects notes and writes them together, once a second, beside the requests. Elsewhere each is written at once.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import Error, close_old_connections, connection, models
from django.utils import timezone

from accounts.models import Session, Token, User
from core.lock_timeout import short_lock_timeout

logger = logging.getLogger("skyauth.uses")

EVERY: Final = timedelta(minutes=1)
_FLUSH_SECONDS: Final = 1.0
_MOST: Final = 20_000  # notes that wait; beyond that, a use is noted at the next one


@dataclass(frozen=True, slots=True)
class Noted:
    """What is noted: in which column of which table, and in which one the client's address, if any."""

    model: type[models.Model]
    column: str
    address_column: str = ""

    @property
    def statement(self) -> str:
        """The UPDATE that notes a use, unless another one was noted lately."""
        table, column = self.model._meta.db_table, self.column
        address = f", {self.address_column} = %s" if self.address_column else ""
        where = f"{self.model._meta.pk.column} = %s AND ({column} IS NULL OR {column} <= %s)"
        return f"UPDATE {table} SET {column} = %s{address} WHERE {where}"  # noqa: S608 - names of ours alone # nosec B608


TOKEN: Final = Noted(Token, "last_used_at", "last_used_from")
USER: Final = Noted(User, "last_seen_at")
SESSION: Final = Noted(Session, "last_used_at", "address")


@dataclass(frozen=True, slots=True)
class Touch:
    """That a row was used, and from where; `noted_at` is when that was noted last."""

    noted: Noted
    pk: int | str
    noted_at: datetime | None
    client: str = ""


def due(used_at: datetime | None, now: datetime) -> bool:
    """Return whether a use is to be noted again."""
    return used_at is None or now - used_at >= EVERY


class Collector:
    """Uses that wait to be written."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Noted, int | str], tuple[Touch, datetime]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        """Begin to collect, and write once a second until the process ends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="uses", daemon=True)
            self._thread.start()

    def add(self, use: Touch, at: datetime) -> None:
        """Have a use written soon. Of several of one row, the first."""
        with self._lock:
            if len(self._waiting) < _MOST:
                self._waiting.setdefault((use.noted, use.pk), (use, at))

    def flush(self) -> None:
        """Write what waits, in one transaction. What cannot be written is forgotten."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if waiting:
            _write(waiting.values())

    def _run(self) -> None:
        while True:
            time.sleep(_FLUSH_SECONDS)
            try:
                close_old_connections()
                self.flush()
                close_old_connections()
            except Exception:  # the next second is another try
                logger.exception("Uses could not be noted.")


collector = Collector()


def note(use: Touch) -> None:
    """Note a use, unless one was noted less than a minute ago."""
    now = timezone.now()
    if not due(use.noted_at, now):
        return
    if collector.running:
        collector.add(use, now)
    else:
        _write([(use, now)])


def _write(uses: Iterable[tuple[Touch, datetime]]) -> None:
    """Write uses, each by one conditional UPDATE: of several processes that noted one, the first wins."""
    rows: dict[Noted, list[tuple[Any, ...]]] = {}
    adapt = connection.ops.adapt_datetimefield_value
    for use, at in sorted(uses, key=lambda one: str(one[0].pk)):  # in one order, so that replicas do not wait for each other
        address = (use.client,) if use.noted.address_column else ()
        rows.setdefault(use.noted, []).append((adapt(at), *address, use.pk, adapt(at - EVERY)))
    try:
        with short_lock_timeout(), connection.cursor() as cursor:
            for noted, values in rows.items():
                cursor.executemany(noted.statement, values)
    except Error:
        return
