"""Follows the audit log: finds new entries as they are committed, each once."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from django.db import DatabaseError, connection
from django.db.models import Max, QuerySet

from audit.models import Entry

POLL_SECONDS: Final = 1.0
# A number is given when an entry is written, and others see the entry when its transaction ends. No transaction takes longer.
_LATE_SECONDS: Final = 60.0
_LOOK_BACK: Final = 1_000  # entries before the newest one, among which a late one can appear
_AT_ONCE: Final = 500


class AuditFollower:
    """Finds the entries that were committed since the last look, also those with a lower number than others before them."""

    def __init__(self) -> None:
        newest = _newest()
        self._below = max(newest - _LOOK_BACK, 0)
        self._seen = set(Entry.objects.filter(pk__gt=self._below).values_list("pk", flat=True))
        self._newest_at = deque([(time.monotonic(), newest)])

    def skip(self, entries: Iterable[Entry]) -> None:
        """Take these entries as found."""
        self._seen.update(entry.pk for entry in entries)

    def new(self, entries: "QuerySet[Entry]") -> Iterator[Entry]:
        """Yield the new ones of these entries, the oldest first. Raises DatabaseError; then the next call yields the others."""
        self._newest_at.append((time.monotonic(), _newest()))
        later = entries.filter(pk__gt=self._below).order_by("pk").values_list("pk", flat=True)
        numbers = [pk for pk in later if pk not in self._seen]
        for n in range(0, len(numbers), _AT_ONCE):
            for entry in Entry.objects.filter(pk__in=numbers[n : n + _AT_ONCE]).order_by("pk"):
                self._seen.add(entry.pk)
                yield entry
        while time.monotonic() - self._newest_at[0][0] > _LATE_SECONDS and len(self._newest_at) > 1:
            self._below = max(self._below, self._newest_at.popleft()[1])
        self._seen = {pk for pk in self._seen if pk > self._below}


def follow(entries: "QuerySet[Entry]", follower: AuditFollower, say: Callable[[str], None]) -> Iterator[Entry | None]:
    """Yield new entries without an end, and None after each look. `say` receives why the database cannot be used."""
    said = ""
    while True:
        try:
            yield from follower.new(entries)
            said = ""
        except DatabaseError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            if not said:
                say(f"The database cannot be used: {reason}. Trying again.")
            said = reason
        yield None
        connection.close()
        time.sleep(POLL_SECONDS)


def _newest() -> int:
    return int(Entry.objects.aggregate(newest=Max("pk"))["newest"] or 0)
