"""The one writer of audit entries."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from django.conf import settings
from django.db import Error

from audit.events import Event
from audit.models import Entry
from audit.patience import briefly
from audit.text import clean

logger = logging.getLogger("skyauth.audit")


class Actor(Protocol):
    """Whoever an entry is about; `accounts.principals.Principal` is the one implementation."""

    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def peer(self) -> str: ...


def record(event: Event, *, actor: Actor, target: str = "", reason: str = "", data: Mapping[str, Any] | None = None) -> Entry:
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
    )


class Budget:
    """How many refusals may be written: one a minute for each key, and `AUDIT_REFUSALS_PER_MINUTE` for the process.

    What is left out is counted and told by the next entry that is written, so a flood is visible and cannot fill the disk.
    """

    MAX_KEYS = 1_000  # a stranger chooses the keys, so the memory they take is bounded; the oldest is forgotten

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._window = 0.0
        self._written = 0
        self._suppressed = 0

    def take(self, key: tuple[str, ...], limit: int) -> int | None:
        """Return how many were left out since the last one written, or None when this one is to be left out too."""
        now = time.monotonic()
        with self._lock:
            if now - self._window >= 60:
                self._window, self._written = now, 0
            last = self._seen.get(key)
            if self._written >= limit or (last is not None and now - last < 60):
                self._suppressed += 1
                return None
            self._seen[key] = now
            self._seen.move_to_end(key)
            if len(self._seen) > self.MAX_KEYS:
                self._seen.popitem(last=False)
            self._written += 1
            suppressed, self._suppressed = self._suppressed, 0
            return suppressed


budget = Budget()


def record_refusal(event: Event, *, actor: Actor, target: str = "", reason: str = "", key: tuple[str, ...] = ()) -> None:
    """Append a refused sign-in or a denied request, within the budget. Never raises: a refusal stays a refusal.

    Refusals with the same `key` count as one; unless given, it is actor, address and target.
    """
    suppressed = budget.take((event, *(key or (actor.name, actor.peer, target))), settings.AUDIT_REFUSALS_PER_MINUTE)
    if suppressed is None:
        return
    _log(event, actor, target, reason, suppressed)
    try:
        with briefly():
            record(event, actor=actor, target=target, reason=reason, data={"suppressed": suppressed} if suppressed else {})
    except Error:
        logger.warning("A refusal could not be written to the audit log: %s %s", event, clean(reason, 200))


def _log(event: Event, actor: Actor, target: str, reason: str, suppressed: int) -> None:
    """Log a refusal, too: in words, and in the fields that LOG_FORMAT=json shows."""
    fields = {
        "event": str(event),
        "caller": clean(actor.name, 320),
        "method": clean(actor.method, 16),
        "client": clean(actor.peer, 64),
        "target": clean(target, 512),
        "reason": clean(reason, 512),
        "suppressed": suppressed,
    }
    told = "%(event)s: %(caller)s (%(method)s) from %(client)s: " + ("%(target)s: " if target else "") + "%(reason)s"
    logger.info(told, fields, extra=fields)
