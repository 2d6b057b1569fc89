"""Verifying a name and a password: a user's own, or the shared one of AUTH_STRING.

A good pair is cached for AUTH_REMEMBER_SECONDS as a keyed digest over name, password *and the stored hash*. The stored
hash is read on every request, so a changed password or a disabled user is forgotten at once, on every replica.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
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


class Busy(Exception):
    """Too many passwords are being hashed; the caller should come again. Trouble of ours, not the caller's (503)."""


class VerifiedPasswords:
    """Digests of pairs that were good a short time ago; at most MAX, the least recently used goes first."""

    MAX: Final = 10_000

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def digest(self, credential: Basic, stored: str) -> bytes:
        """Return what stands for a pair and the hash it was good against; useless outside this process."""
        parts = (credential.username, credential.password, stored)
        message = b"".join(len(raw).to_bytes(4) + raw for raw in (part.encode("utf-8") for part in parts))
        return hmac.digest(self._key, message, hashlib.sha256)

    def knows(self, digest: bytes) -> bool:
        """Return whether the pair was good lately."""
        with self._lock:
            until = self._until.get(digest)
            if until is None or until <= time.monotonic():
                self._until.pop(digest, None)
                return False
            self._until.move_to_end(digest)
            return True

    def until(self, digest: bytes) -> float:
        """Return for how many more seconds the pair will be known."""
        with self._lock:
            return max(0.0, self._until.get(digest, 0.0) - time.monotonic())

    def add(self, digest: bytes) -> None:
        """Remember a good pair."""
        if settings.AUTH_REMEMBER_SECONDS == 0:
            return
        with self._lock:
            self._until[digest] = time.monotonic() + settings.AUTH_REMEMBER_SECONDS
            if len(self._until) > self.MAX:
                self._until.popitem(last=False)


verified = VerifiedPasswords()
_slots = threading.BoundedSemaphore(settings.AUTH_HASHING_SLOTS)
# Who waits holds a thread that could answer others, so only as many may wait as are served.
_queue = threading.BoundedSemaphore(2 * settings.AUTH_HASHING_SLOTS)
WAIT_SECONDS: Final = 2.0
_MAX_BCRYPT: Final = 72  # bytes; libpass raises for a longer password


class Load:
    """How many passwords this process is checking right now, how many more wait, and how many it has turned away."""

    def __init__(self) -> None:
        self.here = 0  # waiting or running
        self.running = 0
        self.busy = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return max(0, self.here - self.running)

    def count(self, *, here: int = 0, running: int = 0, busy: int = 0) -> None:
        """Add to the numbers."""
        with self._lock:
            self.here += here
            self.running += running
            self.busy += busy


load = Load()


@contextmanager
def _slot() -> Iterator[None]:
    """Hold one of the few places for hashing. Raises Busy when none comes free in time."""
    if not _queue.acquire(blocking=False):
        load.count(busy=1)
        raise Busy("Too many passwords are waiting to be checked.")
    load.count(here=1)
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
        load.count(here=-1)
        _queue.release()


@lru_cache(maxsize=1)
def _dummy() -> str:
    """Return the hash of a password that nobody has, to spend on names that nobody has."""
    return make_password(secrets.token_urlsafe(24))


def verify(credential: Basic, client: str) -> UserRecord | None:
    """Return the user whose name and password these are, or None when they are the shared credential.

    Raises InvalidCredential (unknown, wrong, disabled and waiting look alike to the caller) and Busy.
    """
    shared = shared_hash(credential.username)
    user = None if shared else _find(credential.username)
    stored = _stored(shared, user)
    digest = verified.digest(credential, stored)
    if stored and verified.knows(digest):
        return user
    claimed = user.username if user is not None else credential.username if shared else ""
    name = claimed or _stand_in(credential.username)
    if lockout.must_wait(name, client):
        raise InvalidCredential("too many failures; must wait", method="basic", claimed=claimed)
    if not _good(credential, shared=shared, own=stored if user is not None else ""):
        lockout.count_failure(name, client)
        reason = "unknown user" if not (shared or user) else "disabled" if user and not user.active else "wrong password"
        raise InvalidCredential(reason, method="basic", claimed=claimed)
    lockout.forgive(name, client)
    verified.add(digest)
    return user


def remembered_until(credential: Basic, user: UserRecord | None) -> float:
    """Return until when, in seconds since the epoch, a pair that `verify` found good needs no hashing while nothing changes."""
    stored = _stored(None if user is not None else shared_hash(credential.username), user)
    return time.time() + verified.until(verified.digest(credential, stored))


def _stored(shared: str | None, user: UserRecord | None) -> str:
    """Return the hash that decides: the shared credential's, or the user's who may use a password; else ""."""
    return shared or (user.password if user is not None and _may_use_password(user) else "")


def proves(username: str, stored: str, password: str, client: str) -> bool:
    """Return whether this is the password behind a stored hash; counted and throttled as a sign-in of that user is."""
    if len(password) > MAX_PASSWORD or lockout.must_wait(username, client):
        return False
    with _slot():
        fits = check_password(password, stored)
    (lockout.forgive if fits else lockout.count_failure)(username, client)
    return fits


def _stand_in(typed: str) -> str:
    """Return what failures of an unknown name are counted under: it may be a mistyped password, and is not written down."""
    return f"?{salted_hmac('accounts.passwords', typed, algorithm='sha256').hexdigest()}"


def _find(username: str) -> UserRecord | None:
    try:
        return selectors.user_by_name(canonical_username(username))
    except BadName:
        return None


def _may_use_password(user: UserRecord) -> bool:
    return user.active and user.sign_in != SignIn.SSO


def _good(credential: Basic, *, shared: str | None, own: str) -> bool:
    """Return whether the password fits. Every refusal costs one hash of each kind in use, whoever is named (promise 19)."""
    password = credential.password if len(credential.password) <= MAX_PASSWORD else ""
    with _slot():
        if settings.AUTH_STRING:
            lines = htpasswd(settings.AUTH_STRING)
            name = credential.username if shared else next(iter(lines.users()))
            too_long = len(password.encode()) > _MAX_BCRYPT and (shared_hash(name) or "").startswith("$2")
            if lines.check_password(name, "" if too_long else password) and shared and password and not too_long:
                return True
        fits = check_password(password, own or _dummy())
        return bool(own and password and fits)
