"""A sample of recent requests, for previews of policy changes: one row for each caller, method, host and path.

The newest RECENT_REQUESTS rows are kept. Under load some requests get no row, and no request waits for one. Only servers start
the sampler.
"""

import time
from datetime import datetime
from hashlib import sha256
from typing import Final

from django.conf import settings
from django.db import Error
from django.utils import timezone

from core.bounded_cache import BoundedCache
from core.flusher import Flusher
from core.lock_timeout import short_lock_timeout
from rbac.models import RecentRequest
from rbac.principals import Principal
from rbac.targets import Target

LONGEST: Final = 500  # characters of a path; requests with a longer one are skipped
_FLUSH_SECONDS: Final = 2.0
_AT_ONCE: Final = 100  # requests between two flushes; the others are skipped
_AGAIN_SECONDS: Final = 60.0  # after which the same request is sampled again
_WRITTEN: Final = 4_096

Key = tuple[str, str, str, str, str]  # kind and uid of the caller; method, host and path


class RequestSampler:
    """Collects requests in memory, and writes them every two seconds in a thread."""

    def __init__(self) -> None:
        self._waiting: dict[Key, tuple[str, bool, datetime]] = {}
        self._written: BoundedCache[Key, float] = BoundedCache(_WRITTEN)
        self._flusher = Flusher("recent", self.flush, _FLUSH_SECONDS)
        self._enabled = False

    def start(self) -> None:
        """Start the thread that writes until the process exits."""
        if settings.RECENT_REQUESTS:
            self._enabled = True
            self._flusher.start()

    def note(self, principal: Principal, target: Target, *, allowed: bool) -> None:
        """Add a request to the next write. It neither blocks nor uses the database, so the fast path can call it."""
        if not self._enabled or len(self._waiting) >= _AT_ONCE or len(target.text) > LONGEST:
            return
        if not allowed and not principal.is_authenticated:
            return  # anonymous clients would fill the table
        key = (principal.kind, principal.uid, target.method, target.host, target.text)
        if self._written.get(key, 0.0) <= time.monotonic():
            self._waiting.setdefault(key, (principal.name, allowed, timezone.now()))

    def flush(self) -> None:
        """Write the collected requests in one transaction and delete the oldest rows. A database error drops the requests."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            with short_lock_timeout():
                _write(waiting)
        except Error:
            return
        again = time.monotonic() + _AGAIN_SECONDS
        for key in waiting:
            self._written[key] = again


sample = RequestSampler()


def _write(waiting: dict[Key, tuple[str, bool, datetime]]) -> None:
    rows = [
        RecentRequest(
            key=sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest(),
            caller_kind=key[0],
            caller_uid=key[1],
            caller=name,
            method=key[2],
            host=key[3],
            path=key[4],
            allowed=allowed,
            at=at,
        )
        for key, (name, allowed, at) in sorted(waiting.items())  # in one order, so that replicas do not deadlock
    ]
    RecentRequest.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["key"], update_fields=["caller", "allowed", "at"]
    )
    beyond = RecentRequest.objects.order_by("-at", "-pk")[settings.RECENT_REQUESTS : settings.RECENT_REQUESTS + 1].first()
    if beyond is not None:
        RecentRequest.objects.filter(at__lte=beyond.at).delete()
