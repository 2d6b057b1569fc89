"""What was found out while nothing that decides changed: who shows which credential, and the compiled route table.

Everything here hangs on one mark of the database's state (`revision.triggers`), which is read before each use. When the mark
is another one, all of it is forgotten at once. Only what was *found* is remembered: no refusal is, so no stranger fills it.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import Final

from django.conf import settings
from django.utils import timezone

from authn.credentials import Basic, Bearer, Credential, ProxyHeader, Session
from authn.identify import Identification
from gateway import headers
from gateway.headers import Answer
from integrations.skypilot import role_sync
from rbac.principals import Principal
from rbac.routes import Table
from revision import last_used

MOST: Final = 50_000  # callers; the least recently seen goes first. About a kilobyte each.
# Answers with an assertion; the oldest goes first, for it ends first. Callers choose the host, and so how many they have.
# About three kilobytes each.
MOST_SIGNED: Final = 16_384
_KEYED: Final = hashlib.blake2b(digest_size=24, key=secrets.token_bytes(32))  # a copy of it is half as dear as another one

Key = tuple[bytes, str]


def key_of(credential: Credential, client: str) -> Key:
    """Return what stands for a credential shown by a client: a keyed digest, of no use outside this process."""
    shown: bytes
    match credential:
        case Bearer():
            shown = b"t" + credential.token
        case Basic():
            shown = f"b{len(credential.username)}:{credential.username}{credential.password}".encode()
        case ProxyHeader():
            groups = "" if credential.groups is None else f"{len(credential.subject)}:{credential.groups}"
            shown = f"p{groups}\0{credential.subject}".encode()
        case Session():
            shown = b"s" + credential.session_key.encode()
    digest = _KEYED.copy()
    digest.update(shown)
    return digest.digest(), client


class CachedCaller:
    """A recognised caller, with the answer that lets their requests through.

    `told` says that the upstream has been told what it must know of the caller before it gets a request of theirs.
    """

    __slots__ = ("_answer", "_note_at", "_uses", "principal", "told", "until")

    def __init__(self, found: Identification) -> None:
        self.principal: Principal = found.principal
        self.until = found.until
        self.told = not role_sync.needed(found.principal)
        self._uses = found.touches
        self._note_at = time.time() + last_used.EVERY.total_seconds()
        self._answer: Answer | None = None

    def allowed(self) -> Answer:
        """Return the 200 that tells who it is; made once."""
        if self._answer is None:
            self._answer = headers.allowed(self.principal, shared=settings.SKYPILOT_SHARED_BASIC)
        return self._answer

    def note(self, now: float) -> None:
        """Note another use, once a minute."""
        if now >= self._note_at:
            self._note_at = now + last_used.EVERY.total_seconds()
            for use in self._uses:
                last_used.collector.add(use, timezone.now())


class CacheSnapshot:
    """What is known under one mark."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.table: Table | None = None
        self._callers: OrderedDict[Key, CachedCaller] = OrderedDict()
        self._signed: OrderedDict[tuple[CachedCaller, str], tuple[Answer, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, key: Key, now: float) -> CachedCaller | None:
        """Return the caller behind a key, if it is known and still stands at `now` (seconds since the epoch)."""
        found = self._callers.get(key)
        if found is None or found.until <= now:
            return None
        try:
            self._callers.move_to_end(key)
        except KeyError:  # a thread has just added another, and this one was the oldest
            return None
        return found

    def add(self, key: Key, caller: CachedCaller) -> None:
        """Remember a caller that stands for a while."""
        if caller.until > time.time():
            self._callers[key] = caller
            if len(self._callers) > MOST:
                self._callers.popitem(last=False)

    def signed(self, caller: CachedCaller, audience: str, now: float) -> Answer | None:
        """Return the answer that asserts the caller to an audience, if there is one that may still be given at `now`."""
        answer, until = self._signed.get((caller, audience), (None, 0.0))
        return answer if now < until else None

    def add_signed(self, caller: CachedCaller, audience: str, answer: Answer, until: float) -> None:
        """Remember the answer that asserts a remembered caller to an audience; it may be given until then."""
        if caller.until > time.time():
            self._signed.pop((caller, audience), None)
            self._signed[caller, audience] = answer, until
            if len(self._signed) > MOST_SIGNED:
                self._signed.popitem(last=False)


class DecisionCache:
    """What is known under the mark that was read last."""

    def __init__(self) -> None:
        self.known = CacheSnapshot("")

    def __len__(self) -> int:
        return len(self.known)

    def at(self, mark: str) -> CacheSnapshot:
        """Return what is known under this mark: nothing, when it is another one than the last time."""
        if self.known.mark != mark:
            self.known = CacheSnapshot(mark)
        return self.known
