"""The decision cache: the caller of each credential, and the compiled route table, as long as the policy revision is the same.

Everything here belongs to one policy revision (`revision.triggers`), which is read before each use. When the revision changes,
the whole cache is dropped. Only callers that were authenticated are cached, never a refusal, so strangers cannot fill the
cache.
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
from gateway import headers
from gateway.headers import Answer
from integrations.skypilot import role_sync
from rbac.principals import Principal
from rbac.routes import Table
from revision import last_used

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
    is in seconds since the epoch.
    """

    __slots__ = ("_answer", "_touch_at", "_touches", "principal", "role_synced", "valid_until")

    def __init__(self, identification: AuthenticationResult) -> None:
        self.principal: Principal = identification.principal
        self.valid_until = identification.until
        self.role_synced = not role_sync.needs_sync(identification.principal)
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
    """What is cached under one policy revision."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.route_table: Table | None = None
        self._callers: BoundedCache[Key, CachedCaller] = BoundedCache(MAX_CALLERS)
        self._signed: BoundedCache[tuple[CachedCaller, str], tuple[Answer, float]] = BoundedCache(MAX_SIGNED_ANSWERS)

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, key: Key, now: float) -> CachedCaller | None:
        """Return the caller under a key, or None when there is none that is valid at `now` (seconds since the epoch)."""
        caller = self._callers.get(key)
        if caller is None or caller.valid_until <= now:
            return None
        try:
            self._callers.move_to_end(key)
        except KeyError:  # a thread has just added another one, and this one was the oldest
            return None
        return caller

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
    """The snapshot of the policy revision that was read last."""

    def __init__(self) -> None:
        self.snapshot = CacheSnapshot("")

    def __len__(self) -> int:
        return len(self.snapshot)

    def at(self, revision: str) -> CacheSnapshot:
        """Return the snapshot of this revision: an empty one when the revision is not that of the last call."""
        if self.snapshot.revision != revision:
            self.snapshot = CacheSnapshot(revision)
        return self.snapshot
