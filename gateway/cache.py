"""The decision cache: the caller of each credential, and the compiled route table, until something that they depend on changes.

Everything here belongs to one epoch (`revision.epoch`), and has the number of the policy revision at which it was read. The
revision is read before each use. What depends on a changed row is not used any more. When not every change is known, a new epoch
begins, and with it an empty cache. Only callers that were authenticated are cached, never a refusal, so strangers cannot fill
the cache.
"""

import hashlib
import secrets
import time
from typing import Final

from django.conf import settings
from django.utils import timezone

from authn.credentials import Basic, Bearer, Credential, ProxyHeader, SessionCookie
from authn.identify import AuthenticationResult
from core.bounded_cache import BoundedCache
from core.watched import ROUTES
from gateway import headers
from gateway.headers import Answer
from integrations.skypilot import role_sync
from rbac.principals import Principal
from rbac.routes import Table
from revision import last_used
from revision.epoch import Epoch

MAX_CALLERS: Final = 50_000  # about a kilobyte each; the least recently used is evicted
# Answers with an assertion, about three kilobytes each. The oldest is evicted, for it expires first. Callers choose the host, and
# so how many they have.
MAX_SIGNED_ANSWERS: Final = 16_384
_KEYED: Final = hashlib.blake2b(digest_size=24, key=secrets.token_bytes(32))  # to copy it takes half the time of a new one

Key = tuple[bytes, str]


def cache_key(credential: Credential, client: str) -> Key:
    """Return the cache key of a credential sent by a client: a keyed digest, of no use outside this process."""
    message: bytes
    match credential:
        case Bearer():
            message = b"t" + credential.token
        case Basic():
            message = f"b{len(credential.username)}:{credential.username}{credential.password}".encode()
        case ProxyHeader():
            groups = "" if credential.groups is None else f"{len(credential.subject)}:{credential.groups}"
            groups = f"!{credential.groups_fault}" if credential.groups_fault else groups  # each fault is logged
            message = f"p{groups}\0{credential.subject}".encode()
        case SessionCookie():
            message = b"s" + credential.session_key.encode()
    digest = _KEYED.copy()
    digest.update(message)
    return digest.digest(), client


class CachedCaller:
    """An authenticated caller, with the 200 for their allowed requests.

    `role_synced` says whether the SkyPilot API server has confirmed the caller's role, or need not (`role_sync`). `valid_until`
    is in seconds since the epoch of Unix. `number` is that of a policy revision at which the caller was correct, and `depends_on`
    says on which rows; an answer to the caller depends on the routes too.
    """

    __slots__ = (
        "_answer", "_touch_at", "_touches", "answer_depends_on", "depends_on", "number", "principal", "role_synced",
        "valid_until",
    )  # fmt: skip

    def __init__(self, identification: AuthenticationResult, number: int = 0) -> None:
        self.principal: Principal = identification.principal
        self.valid_until = identification.until
        self.number = number
        self.depends_on = identification.depends_on
        self.role_synced = not role_sync.needs_sync(identification.principal)
        if self.depends_on is not None and not self.role_synced:
            self.depends_on += (role_sync.tag(identification.principal),)
        self.answer_depends_on = None if self.depends_on is None else (ROUTES, *self.depends_on)
        self._touches = identification.touches
        self._touch_at = time.time() + last_used.EVERY.total_seconds()
        self._answer: Answer | None = None

    def allowed(self) -> Answer:
        """Return the 200 with the caller's identity headers, which is made once."""
        if self._answer is None:
            self._answer = headers.allowed(self.principal, shared=settings.SKYPILOT_SHARED_BASIC)
        return self._answer

    def touch(self, now: float) -> None:
        """Update the last-used timestamps, once a minute; `now` is in seconds since the epoch."""
        if now >= self._touch_at:
            self._touch_at = now + last_used.EVERY.total_seconds()
            for touch in self._touches:
                last_used.writer.add(touch, timezone.now())


class CacheSnapshot:
    """What is cached in one epoch."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self._routes: tuple[Table, int] | None = None
        self._callers: BoundedCache[Key, CachedCaller] = BoundedCache(MAX_CALLERS)
        self._signed: BoundedCache[tuple[CachedCaller, str], tuple[Answer, float]] = BoundedCache(MAX_SIGNED_ANSWERS)

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, key: Key, now: float) -> CachedCaller | None:
        """Return the caller under a key, or None when there is none that is valid at `now` (seconds since the epoch)."""
        caller = self._callers.get(key)
        if caller is None or caller.valid_until <= now:
            return None
        number = self.epoch.number
        if caller.number != number:
            if not self.epoch.is_current(caller.number, caller.depends_on):
                return None
            caller.number = number
        try:
            self._callers.move_to_end(key)
        except KeyError:  # a thread has just added another one, and this one was the oldest
            return None
        return caller

    @property
    def route_table(self) -> Table | None:
        """The compiled route table, or None when there is none or the routes have changed."""
        if self._routes is None:
            return None
        table, read_at = self._routes
        number = self.epoch.number
        if read_at != number:
            if not self.epoch.is_current(read_at, (ROUTES,)):
                return None
            self._routes = table, number
        return table

    def add_route_table(self, table: Table, number: int) -> None:
        """Cache a route table that was read after the policy revision had this number."""
        self._routes = table, number

    def add_caller(self, key: Key, caller: CachedCaller) -> None:
        """Cache a caller, unless the identification must be made again each time."""
        if caller.valid_until > time.time():
            self._callers[key] = caller

    def signed_answer(self, caller: CachedCaller, audience: str, now: float) -> Answer | None:
        """Return the answer with an assertion of the caller for an audience, if there is one that is valid at `now`."""
        answer, valid_until = self._signed.get((caller, audience), (None, 0.0))
        return answer if now < valid_until else None

    def add_signed_answer(self, caller: CachedCaller, audience: str, answer: Answer, valid_until: float) -> None:
        """Cache the answer with an assertion of a cached caller for an audience."""
        if caller.valid_until > time.time():
            self._signed[caller, audience] = answer, valid_until


class DecisionCache:
    """The snapshot of the current epoch."""

    def __init__(self) -> None:
        self.snapshot = CacheSnapshot(Epoch())

    def __len__(self) -> int:
        return len(self.snapshot)

    def of(self, epoch: Epoch) -> CacheSnapshot:
        """Return the snapshot of this epoch: an empty one when the epoch is not that of the last call."""
        if self.snapshot.epoch is not epoch:
            self.snapshot = CacheSnapshot(epoch)
        return self.snapshot
