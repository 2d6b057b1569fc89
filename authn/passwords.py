"""Verifies a name and a password: a user's own, or the shared one of AUTH_STRING.

A verified pair is cached for AUTH_REMEMBER_SECONDS as a keyed digest of name, password *and the stored hash*. The cache saves the
hashing and nothing else: the stored hash and the failures of the client's address are read for each verification. So a changed
password, a disabled user and a locked-out client are refused immediately, on every replica.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.utils.crypto import salted_hmac

from accounts import selectors
from accounts.hashers import MAX_PASSWORD
from accounts.identifiers import BadName, canonical_username
from accounts.models import SignIn
from accounts.selectors import UserRecord
from accounts.shared_credential import htpasswd, shared_hash
from authn import lockout
from authn.credentials import Basic, InvalidCredential
from core.bounded_cache import BoundedCache


class Busy(Exception):
    """Too many passwords are being hashed: the client should retry. A failure of SkyAuth (503), not of the credential."""


class VerifiedPasswords:
    """A cache of digests of verified pairs, at most MAX; the least recently used one is removed first."""

    MAX: Final = 10_000

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._until: BoundedCache[bytes, float] = BoundedCache(self.MAX)  # by `time.monotonic`
        self._lock = threading.Lock()

    def digest(self, credential: Basic, stored: str) -> bytes:
        """Return the digest of a pair and the stored hash that it matches. Its key is this process's own."""
        parts = (credential.username, credential.password, stored)
        message = b"".join(len(raw).to_bytes(4) + raw for raw in (part.encode("utf-8") for part in parts))
        return hmac.digest(self._key, message, hashlib.sha256)

    def hit(self, digest: bytes) -> bool:
        """Return whether the pair is cached, and mark it as used."""
        with self._lock:
            until = self._until.get(digest)
            if until is None or until <= time.monotonic():
                self._until.pop(digest, None)
                return False
            self._until.move_to_end(digest)
            return True

    def seconds_left(self, digest: bytes) -> float:
        """Return for how many more seconds the pair is cached."""
        with self._lock:
            return max(0.0, self._until.get(digest, 0.0) - time.monotonic())

    def add(self, digest: bytes) -> None:
        """Cache a verified pair."""
        if settings.AUTH_REMEMBER_SECONDS == 0:
            return
        with self._lock:
            self._until[digest] = time.monotonic() + settings.AUTH_REMEMBER_SECONDS


verified = VerifiedPasswords()
_slots = threading.BoundedSemaphore(settings.AUTH_HASHING_SLOTS)
# A request that waits holds a thread that could serve others, so at most twice as many wait as are hashed.
_queue = threading.BoundedSemaphore(2 * settings.AUTH_HASHING_SLOTS)
WAIT_SECONDS: Final = 2.0
_MAX_BCRYPT: Final = 72  # bytes; libpass raises for a longer password


class HashingLoad:
    """How many passwords this process is hashing, how many wait for a slot, and how many were refused as Busy since the start."""

    def __init__(self) -> None:
        self.queued = 0  # waiting or running
        self.running = 0
        self.busy = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return max(0, self.queued - self.running)

    def count(self, *, queued: int = 0, running: int = 0, busy: int = 0) -> None:
        """Add to the numbers."""
        with self._lock:
            self.queued += queued
            self.running += running
            self.busy += busy


load = HashingLoad()


@contextmanager
def _slot() -> Iterator[None]:
    """Hold a slot for hashing. Raises Busy when none is free within WAIT_SECONDS."""
    if not _queue.acquire(blocking=False):
        load.count(busy=1)
        raise Busy("Too many passwords are waiting to be checked.")
    load.count(queued=1)
    try:
        if not _slots.acquire(timeout=WAIT_SECONDS):
            load.count(busy=1)
            raise Busy("Too many passwords are being checked.")
        load.count(running=1)
        try:
            yield
        finally:
            load.count(running=-1)
            _slots.release()
    finally:
        load.count(queued=-1)
        _queue.release()


@lru_cache(maxsize=1)
def _dummy_hash() -> str:
    """Return the hash of a random password, to hash against where the name is unknown."""
    return make_password(secrets.token_urlsafe(24))


def verify(credential: Basic, client: str) -> UserRecord | None:
    """Return the user of a name and a password, or None for the shared credential.

    Raises Busy, and InvalidCredential, with which the caller cannot distinguish an unknown name, a wrong password, a disabled
    user and a lockout.
    """
    shared = shared_hash(credential.username)
    user = None if shared else _find_user(credential.username)
    stored = _stored_hash(shared, user)
    claimed = user.username if user is not None else credential.username if shared else ""
    counted_name = claimed or _pseudonym(credential.username)
    if lockout.is_locked_out(counted_name, client):
        raise InvalidCredential("too many failures; must wait", method="basic", claimed=claimed)
    digest = verified.digest(credential, stored)
    if stored and verified.hit(digest):
        return user
    if not _matches(credential, shared=shared, own=stored if user is not None else ""):
        lockout.count_failure(counted_name, client)
        reason = "unknown user" if not (shared or user) else "disabled" if user and not user.active else "wrong password"
        raise InvalidCredential(reason, method="basic", claimed=claimed)
    lockout.clear_failures(counted_name, client)
    verified.add(digest)
    return user


def cached_until(credential: Basic, user: UserRecord | None) -> float:
    """Return until when, in seconds since the epoch, a pair that `verify` accepted is cached in this process."""
    stored = _stored_hash(None if user is not None else shared_hash(credential.username), user)
    return time.time() + verified.seconds_left(verified.digest(credential, stored))


def _stored_hash(shared: str | None, user: UserRecord | None) -> str:
    """Return the hash to verify against: the shared credential's, or that of a user who can sign in by password; else ""."""
    return shared or (user.password if user is not None and _can_use_password(user) else "")


def matches_hash(username: str, stored: str, password: str, client: str) -> bool:
    """Return whether a password matches the stored hash of a user. Failures are counted and locked out as at sign-in."""
    if len(password) > MAX_PASSWORD or lockout.is_locked_out(username, client):
        return False
    with _slot():
        matches = check_password(password, stored)
    (lockout.clear_failures if matches else lockout.count_failure)(username, client)
    return matches


def _pseudonym(typed: str) -> str:
    """Return what failures of an unknown name are counted under. It can be a password typed by mistake, so it is not stored."""
    return f"?{salted_hmac('accounts.passwords', typed, algorithm='sha256').hexdigest()}"


def _find_user(username: str) -> UserRecord | None:
    try:
        return selectors.user_by_name(canonical_username(username))
    except BadName:
        return None


def _can_use_password(user: UserRecord) -> bool:
    return user.active and user.sign_in != SignIn.SSO


def _matches(credential: Basic, *, shared: str | None, own: str) -> bool:
    """Return whether the password matches. Every refusal costs one hash of each kind in use, for any name (promise 19)."""
    password = credential.password if len(credential.password) <= MAX_PASSWORD else ""
    with _slot():
        if settings.AUTH_STRING:
            lines = htpasswd(settings.AUTH_STRING)
            name = credential.username if shared else next(iter(lines.users()))
            too_long = len(password.encode()) > _MAX_BCRYPT and (shared_hash(name) or "").startswith("$2")
            if lines.check_password(name, "" if too_long else password) and shared and password and not too_long:
                return True
        matches = check_password(password, own or _dummy_hash())
        return bool(own and password and matches)
