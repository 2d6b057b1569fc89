"""What changed in the database since this process began to follow it: which cached data is still valid.

An epoch lasts as long as every change is known. A reader that finds a new policy revision takes the log of the changes since the
one it knows (`revision.triggers`). The log must be an unbroken chain: each change names the random value before it, which no
other history of the database has. Otherwise a new epoch begins, and nothing that was cached before is used.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Final, NamedTuple

from core.watched import EVERYTHING, Tag

MAX_CHANGES: Final = 1_000  # logged rows in one read; a reader that has missed more begins a new epoch
READ_SECONDS: Final = 1.0  # then the request takes the slow path, which has a time-out of its own
_MAX_TAGS: Final = 50_000  # whose last change an epoch remembers

logger = logging.getLogger("skyauth.gateway")


class Position(NamedTuple):
    """The policy revision: the number of changes, and the random value that belongs to it alone."""

    number: int
    value: str


class LoggedChange(NamedTuple):
    """One row of the log: the number of the change, the random values before and after it, and what changed."""

    number: int
    previous: str
    value: str
    kind: str
    key: str


class Epoch:
    """The changes since an epoch began. Cached data belongs to one epoch and has the number at which it was read.

    The number must be known before the data is read, so that a change in between counts. One thread advances an epoch; any can
    ask it, because `number` is written last.
    """

    __slots__ = ("_changed", "_valid_from", "number")

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._valid_from = number  # what was read at a lower number is not valid any more
        self._changed: dict[Tag, int] = {}  # the number of the last change of each tag, the lowest first

    def is_current(self, number: int, tags: Collection[Tag] | None) -> bool:
        """Return whether nothing that data depends on has changed since this number; None for `tags` is everything."""
        if tags is None:
            return number == self.number
        if number < self._valid_from:
            return False
        changed = self._changed
        for tag in tags:  # noqa: SIM110 - each cached answer after a change comes through here, and `all` takes twice as long
            if changed.get(tag, 0) > number:
                return False
        return True

    def advance(self, number: int, changes: Sequence[LoggedChange]) -> None:
        """Add the changes up to this number. A change of a kind that this version does not know is one of everything."""
        for change in changes:
            if change.kind == EVERYTHING:
                self._valid_from = change.number
                continue
            tag = (change.kind, change.key)
            self._changed.pop(tag, None)
            self._changed[tag] = change.number
        while len(self._changed) > _MAX_TAGS:
            oldest = next(iter(self._changed))
            self._valid_from = max(self._valid_from, self._changed[oldest])
            del self._changed[oldest]
        self.number = number


Callback = Callable[[Epoch | None], None]
"""Receives the epoch, whose number is that of the policy revision, or None when that could not be read."""


class PendingRead:
    """The read that a source is making, which ends with one call of its callback: with what was read, or after a time-out."""

    def __init__(self) -> None:
        self._callback: Callback | None = None
        self._timeout: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return self._callback is not None

    def begin(self, callback: Callback, on_timeout: Callable[[], None]) -> None:
        """Begin a read. `on_timeout` is called if it takes longer than READ_SECONDS."""
        self._callback = callback
        self._timeout = asyncio.get_running_loop().call_later(READ_SECONDS, self._overdue, on_timeout)

    def _overdue(self, on_timeout: Callable[[], None]) -> None:
        logger.warning("The policy revision was not read in time: requests do not use the cache.", extra={"seldom": True})
        on_timeout()

    def finish(self, epoch: Epoch | None) -> None:
        """Give the epoch to the callback, unless the read has ended."""
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(epoch)


def is_chain(known: Position, now: Position, changes: Sequence[LoggedChange]) -> bool:
    """Return whether these are all changes from one revision to another, without a gap and of one history."""
    number, previous, value = known.number, "", known.value
    for change in changes:
        if change.number == number + 1 and change.previous == value:
            number, previous, value = change[:3]
        elif change[:3] != (number, previous, value):
            return False
    return (number, value) == now and len(changes) < MAX_CHANGES


class Follower:
    """Follows the policy revision of one database, from read to read."""

    def __init__(self) -> None:
        self.known: Position | None = None
        self._epoch = Epoch()
        self._history: Hashable = None

    def follow(self, now: Position, changes: Sequence[LoggedChange], history: Hashable) -> Epoch:
        """Return the epoch after a read. `changes` are those above the known number, up to MAX_CHANGES of them.

        `history` identifies the database as far as its contents do not: the open file, or the server. With another one, a new
        epoch begins.
        """
        if self.known is None or history != self._history or not is_chain(self.known, now, changes):
            self._epoch = Epoch(now.number)
        elif changes:
            self._epoch.advance(now.number, changes)
        self.known, self._history = now, history
        return self._epoch
