"""The one writer of audit entries."""

import logging
import secrets
import string
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from django.conf import settings
from django.db import Error

from audit.events import Event
from audit.models import Entry
from core.bounded_cache import BoundedCache
from core.lock_timeout import short_lock_timeout
from core.text import clean

REFERENCE_LENGTH: Final = 12
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase

Key = tuple[str, ...]  # what makes two refusals one

logger = logging.getLogger("skyauth.audit")


class Actor(Protocol):
    """Whoever an entry is about; `rbac.principals.Principal` is the one implementation."""

    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def peer(self) -> str: ...


def record(
    event: Event,
    *,
    actor: Actor,
    target: str = "",
    reason: str = "",
    data: Mapping[str, Any] | None = None,
    reference: str = "",
) -> Entry:
    """Append one entry and return it. Called inside the transaction of the change, so both happen or neither does."""
    return Entry.objects.create(
        event=event,
        actor=clean(actor.name, 320),
        actor_uid=clean(actor.uid, 64),
        method=clean(actor.method, 16),
        peer=clean(actor.peer, 64),
        target=clean(target, 512),
        reason=clean(reason, 512),
        data=dict(data or {}),
        reference=reference,
    )


class Slot(NamedTuple):
    """What a sampler says to a refusal: what it is called, and how many were left out since the last one that was written.

    `left_out` None: this one is left out too. Then `reference` is that of its like which was written, or of nothing.
    """

    reference: str
    left_out: int | None = None


class _Minute:
    """What one event has used up of the minute that began at `since`."""

    __slots__ = ("left_out", "since", "written")

    def __init__(self) -> None:
        self.since = float("-inf")
        self.written = 0
        self.left_out = 0


class RefusalSampler:
    """How many refusals may be written: one a minute for each key, and `AUDIT_REFUSALS_PER_MINUTE` for each event.

    What is left out is counted and told by the event's next entry that is written, so a flood is visible and cannot fill the
    disk; and a flood of one event leaves the others what is theirs.
    """

    MAX_KEYS = 1_000  # a stranger chooses the keys, so the memory they take is bounded; the oldest is forgotten

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: BoundedCache[tuple[str, Key], tuple[float, str]] = BoundedCache(self.MAX_KEYS)
        self._minutes: dict[str, _Minute] = {}

    def take(self, event: str, key: Key, limit: int) -> Slot:
        """Take a place for a refusal, if there is one."""
        with self._lock:
            return self._left_out(event, key, limit) or self._taken(event, key)

    def suppress(self, event: str, key: Key, limit: int) -> Slot | None:
        """Return the place of a refusal that is left out, or None when it is to be written. Never waits: None then, too."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._left_out(event, key, limit)
        finally:
            self._lock.release()

    def _left_out(self, event: str, key: Key, limit: int) -> Slot | None:
        now = time.monotonic()
        minute = self._minutes.setdefault(event, _Minute())
        if now - minute.since >= 60:
            minute.since, minute.written = now, 0
        at, reference = self._seen.get((event, key), (float("-inf"), ""))
        if now - at >= 60:
            if minute.written < limit:
                return None
            reference = new_reference()
        minute.left_out += 1
        return Slot(reference)

    def _taken(self, event: str, key: Key) -> Slot:
        reference = new_reference()
        self._seen[event, key] = time.monotonic(), reference
        minute = self._minutes[event]
        minute.written += 1
        left_out, minute.left_out = minute.left_out, 0
        return Slot(reference, left_out)


sampler = RefusalSampler()


def new_reference() -> str:
    """Return a new name for a refusal: short enough to be typed, and not to be guessed."""
    return "".join(secrets.choice(_BASE62) for _ in range(REFERENCE_LENGTH))


def record_refusal(
    event: Event,
    *,
    actor: Actor,
    target: str = "",
    reason: str = "",
    key: Key = (),
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Append a refused sign-in or a denied request, within the sampler. Never raises: a refusal stays a refusal.

    Refusals with the same `key` count as one; unless given, it is actor, address and target. With `facts`, which are kept as
    the entry's data, the entry is found by the reference that is returned.
    """
    place = sampler.take(event, key or (actor.name, actor.peer, target), settings.AUDIT_REFUSALS_PER_MINUTE)
    if place.left_out is None:
        return place.reference
    _log(event, actor, target, reason, place)
    data = {**(facts or {}), **({"suppressed": place.left_out} if place.left_out else {})}
    reference = "" if facts is None else place.reference
    try:
        with short_lock_timeout():
            record(event, actor=actor, target=target, reason=reason, data=data, reference=reference)
    except Error:
        logger.warning("A refusal could not be written to the audit log: %s %s", event, clean(reason, 200))
    return place.reference


def suppress(event: Event, key: Key) -> str | None:
    """Count a refusal for which nothing is to be written and return its reference, or None: then it is `record_refusal`'s.

    Touches no database and waits for nobody, so an event loop may call it.
    """
    place = sampler.suppress(event, key, settings.AUDIT_REFUSALS_PER_MINUTE)
    return place.reference if place is not None else None


def _log(event: Event, actor: Actor, target: str, reason: str, place: Slot) -> None:
    """Log a refusal, too: in words, and in the fields that LOG_FORMAT=json shows."""
    fields = {
        "event": str(event),
        "caller": clean(actor.name, 320),
        "method": clean(actor.method, 16),
        "client": clean(actor.peer, 64),
        "target": clean(target, 512),
        "reason": clean(reason, 512),
        "suppressed": place.left_out,
        "decision": place.reference,
    }
    told = "%(event)s: %(caller)s (%(method)s) from %(client)s: " + ("%(target)s: " if target else "") + "%(reason)s"
    logger.info(told, fields, extra=fields)
