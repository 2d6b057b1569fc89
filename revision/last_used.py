"""Writes when a token, user or session was last used: at most once a minute each, and a failure never fails a request.

A server collects the touches and writes them together once a second and at shutdown, outside the requests. Elsewhere each is
written at once.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import Error, connection, models
from django.utils import timezone

from accounts.models import Session, Token, User
from core.flusher import Flusher
from core.lock_timeout import is_lock_timeout, short_lock_timeout

EVERY: Final = timedelta(minutes=1)
_FLUSH_SECONDS: Final = 1.0
_MAX_WAITING: Final = 20_000  # further touches are dropped; the next use is another one

logger = logging.getLogger("skyauth.database")


@dataclass(frozen=True, slots=True)
class LastUsedColumns:
    """Where a model stores its last use: the column of the time, and that of the client's address if there is one."""

    model: type[models.Model]
    time_column: str
    address_column: str = ""

    @property
    def statement(self) -> str:
        """The UPDATE of one row, which does nothing when another process has updated it less than EVERY ago."""
        table, column = self.model._meta.db_table, self.time_column
        address = f", {self.address_column} = %s" if self.address_column else ""
        where = f"{self.model._meta.pk.column} = %s AND ({column} IS NULL OR {column} <= %s)"
        return f"UPDATE {table} SET {column} = %s{address} WHERE {where}"  # noqa: S608 - names of ours alone # nosec B608


TOKEN: Final = LastUsedColumns(Token, "last_used_at", "last_used_from")
USER: Final = LastUsedColumns(User, "last_seen_at")
GROUPS: Final = LastUsedColumns(User, "groups_seen_at")
SESSION: Final = LastUsedColumns(Session, "last_used_at", "address")


@dataclass(frozen=True, slots=True)
class Touch:
    """A use of the row `pk` from the address `client`; `last_used` is the row's timestamp when it was read."""

    columns: LastUsedColumns
    pk: int | str
    last_used: datetime | None
    client: str = ""


def due(last_used: datetime | None, now: datetime) -> bool:
    """Return whether the timestamp is old enough to be written again."""
    return last_used is None or now - last_used >= EVERY


class TouchWriter:
    """Collects touches and writes them in the background, once started."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[LastUsedColumns, int | str], tuple[Touch, datetime]] = {}
        self._lock = threading.Lock()
        self._flusher = Flusher("last-used", self.flush, _FLUSH_SECONDS)

    @property
    def running(self) -> bool:
        return self._flusher.running

    def start(self) -> None:
        """Collect touches from now on, and write them once a second until the process ends."""
        self._flusher.start()

    def add(self, touch: Touch, at: datetime) -> None:
        """Collect a touch. Of several touches of one row, the first is kept."""
        with self._lock:
            if len(self._waiting) < _MAX_WAITING:
                self._waiting.setdefault((touch.columns, touch.pk), (touch, at))

    def flush(self) -> None:
        """Write the collected touches in one transaction. Touches that cannot be written are dropped."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if waiting:
            _write(waiting.values())


writer = TouchWriter()


def touch(use: Touch) -> None:
    """Write a touch, at once or through the running writer, unless the row was touched less than EVERY ago."""
    now = timezone.now()
    if not due(use.last_used, now):
        return
    if writer.running:
        writer.add(use, now)
    else:
        _write([(use, now)])


def _write(touches: Iterable[tuple[Touch, datetime]]) -> None:
    """Write each touch by one conditional UPDATE. When several processes touch one row, the first one wins."""
    rows: dict[LastUsedColumns, list[tuple[Any, ...]]] = {}
    adapt = connection.ops.adapt_datetimefield_value
    for use, at in sorted(touches, key=lambda item: str(item[0].pk)):  # in the same order in all replicas, against deadlocks
        address = (use.client,) if use.columns.address_column else ()
        rows.setdefault(use.columns, []).append((adapt(at), *address, use.pk, adapt(at - EVERY)))
    try:
        with short_lock_timeout(), connection.cursor() as cursor:
            for columns, values in rows.items():
                cursor.executemany(columns.statement, values)
    except Error as error:
        if not is_lock_timeout(error):
            line = (str(error).strip().splitlines() or [""])[0]
            logger.warning("The times of last uses could not be written: %s", line, extra={"seldom": True})
