"""Write audit entries, and limit how many denied requests and failed sign-ins are written."""

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

Key = tuple[str, ...]  # refusals with the same key count as the same

logger = logging.getLogger("skyauth.audit")


class Actor(Protocol):
    """The caller that an entry is about, such as a `rbac.principals.Principal`."""

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
    """Append one entry and return it. Call it in the transaction of the change, so that both are committed or neither is."""
    row = entry(event, actor=actor, target=target, reason=reason, data=data, reference=reference)
    row.save(force_insert=True)
    return row


def entry(
    event: Event,
    *,
    actor: Actor,
    target: str = "",
    reason: str = "",
    data: Mapping[str, Any] | None = None,
    reference: str = "",
) -> Entry:
    """Return an entry that is not stored yet, for changes that insert many at once (`core.bulk`) in their transaction."""
    return Entry(
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
    """The decision id of a refusal, and whether it is written.

    `suppressed_before` is the number of refusals of its event that were suppressed since the last written one. None: this one is
    suppressed too; its `reference` is then that of the written entry with the same key, if any.
    """

    reference: str
    suppressed_before: int | None = None


class _Minute:
    """How many entries of one event were written and suppressed in the minute that began at `since`."""

    __slots__ = ("since", "suppressed", "written")

    def __init__(self) -> None:
        self.since = float("-inf")
        self.written = 0
        self.suppressed = 0


class RefusalSampler:
    """Limits written refusals: one per minute for each key, and `AUDIT_REFUSALS_PER_MINUTE` for each event.

    The next written entry of the event has the number of the suppressed ones, so a flood is visible but cannot fill the disk. A
    flood of one event does not displace another event.
    """

    MAX_KEYS = 1_000  # anonymous clients choose keys, so their number is limited; the oldest is dropped

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: BoundedCache[tuple[str, Key], tuple[float, str]] = BoundedCache(self.MAX_KEYS)
        self._minutes: dict[str, _Minute] = {}

    def take(self, event: str, key: Key, limit: int) -> Slot:
        """Return the slot of a refusal: to be written, or suppressed."""
        with self._lock:
            return self._suppressed(event, key, limit) or self._written(event, key)

    def suppress(self, event: str, key: Key, limit: int) -> Slot | None:
        """Return the slot of a refusal that is suppressed; None if it is to be written, or if the lock is taken."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._suppressed(event, key, limit)
        finally:
            self._lock.release()

    def _suppressed(self, event: str, key: Key, limit: int) -> Slot | None:
        now = time.monotonic()
        minute = self._minutes.setdefault(event, _Minute())
        if now - minute.since >= 60:
            minute.since, minute.written = now, 0
        at, reference = self._seen.get((event, key), (float("-inf"), ""))
        if now - at >= 60:
            if minute.written < limit:
                return None
            reference = new_reference()
        minute.suppressed += 1
        return Slot(reference)

    def _written(self, event: str, key: Key) -> Slot:
        reference = new_reference()
        self._seen[event, key] = time.monotonic(), reference
        minute = self._minutes[event]
        minute.written += 1
        suppressed, minute.suppressed = minute.suppressed, 0
        return Slot(reference, suppressed)


class LostWrites:
    """How many refusals were to be written and could not be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self) -> None:
        """Count one."""
        with self._lock:
            self.count += 1


sampler = RefusalSampler()
lost_writes: Final = LostWrites()


def new_reference() -> str:
    """Return a new decision id: short enough to type, and not guessable."""
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
    """Append a failed sign-in or a denied request, within the limits of the sampler, and return its decision id.

    Refusals with the same `key` count as the same; the default key is actor, address and target. With `facts`, the data of the
    entry, the entry can be found by the returned id. Never raises: a refusal stays a refusal if it cannot be written.
    """
    slot = sampler.take(event, key or (actor.name, actor.peer, target), settings.AUDIT_REFUSALS_PER_MINUTE)
    if slot.suppressed_before is None:
        return slot.reference
    _log(event, actor, target, reason, slot)
    data = {**(facts or {}), **({"suppressed": slot.suppressed_before} if slot.suppressed_before else {})}
    reference = "" if facts is None else slot.reference
    try:
        with short_lock_timeout():
            record(event, actor=actor, target=target, reason=reason, data=data, reference=reference)
    except Error:
        lost_writes.add()
        logger.warning("A refusal could not be written to the audit log: %s %s", event, clean(reason, 200))
    return slot.reference


def suppress(event: Event, key: Key) -> str | None:
    """Count a refusal that is left out and return its decision id, or None if `record_refusal` has to be called.

    It neither blocks nor uses the database, so the event loop can call it.
    """
    slot = sampler.suppress(event, key, settings.AUDIT_REFUSALS_PER_MINUTE)
    return slot.reference if slot is not None else None


def _log(event: Event, actor: Actor, target: str, reason: str, slot: Slot) -> None:
    """Log a refusal, as text and as the fields of LOG_FORMAT=json."""
    fields = {
        "event": str(event),
        "caller": clean(actor.name, 320),
        "method": clean(actor.method, 16),
        "client": clean(actor.peer, 64),
        "target": clean(target, 512),
        "reason": clean(reason, 512),
        "suppressed": slot.suppressed_before,
        "decision": slot.reference,
    }
    message = "%(event)s: %(caller)s (%(method)s) from %(client)s: " + ("%(target)s: " if target else "") + "%(reason)s"
    logger.info(message, fields, extra=fields)
