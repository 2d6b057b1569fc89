"""SkyAuth's session engine: Django's interface over a table with one row per session.

It differs from Django's own in three ways. The database has the SHA-256 digest of a key and not the key, so a copy of the
database opens no session. The user, the kind and the address are columns, so that users can list their sessions and end them.
Saving writes the session's data and leaves these columns unchanged.
"""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.db import IntegrityError, transaction
from django.db.models import Value
from django.db.models.functions import Least
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import Session, SessionKind, User
from core.text import clean

SIGNED_IN_AT: Final = "skyauth_signed_in_at"  # a key of the session's data besides Django's own: epoch seconds


def digest(session_key: str) -> str:
    """Return the primary key under which the session of this key is stored."""
    return sha256(session_key.encode("utf-8", "surrogatepass")).hexdigest()


def proves_password(user: User, auth_hash: str) -> bool:
    """Return whether the hash is that of the user's present password, under SECRET_KEY or a key of SECRET_KEY_FALLBACKS."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(auth_hash, valid) for valid in hashes)


class SessionStore(SessionBase):
    """One session. Set `address` and `agent` when it begins, and when a user signs in; `kind` never changes."""

    def __init__(self, session_key: str | None = None, *, kind: SessionKind = SessionKind.BROWSER) -> None:
        super().__init__(session_key)
        self.kind = kind
        self.address: str | None = None
        self.agent: str | None = None

    def exists(self, session_key: str) -> bool:
        """Return whether there is a session of this key, expired or not."""
        return Session.objects.filter(session_key=digest(session_key)).exists()

    def load(self) -> dict[str, Any]:
        """Return the session's data. An unknown or expired session has none, and its key is never used again."""
        if self.session_key is not None:
            live = Session.objects.filter(session_key=digest(self.session_key), expire_date__gt=timezone.now())
            stored = live.values_list("session_data", flat=True).first()
            if stored is not None:
                return dict(self.decode(stored))
        self._session_key = None
        return {}

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined] # Django's own way to a new key
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Write the session's data. Raises CreateError, and UpdateError when the session was ended since it was loaded."""
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        if self.session_key is None:  # the row was deleted before the data was loaded
            raise UpdateError
        owner, signed_in_at = data.get(SESSION_KEY), data.get(SIGNED_IN_AT)
        started_at = datetime.fromtimestamp(signed_in_at, UTC) if isinstance(signed_in_at, int | float) else None
        values: dict[str, Any] = {
            "session_data": self.encode(data),
            "expire_date": self.get_expiry_date(),
            "user_id": int(owner) if isinstance(owner, str) and owner.isascii() and owner.isdigit() else None,
            **({} if self.address is None else {"address": clean(self.address, 64)}),
            **({} if self.agent is None else {"agent": clean(self.agent, 200)}),
        }
        key = digest(self.session_key)
        try:
            with transaction.atomic():
                if started_at is not None:  # a new key does not make the session younger
                    values["created_at"] = started_at if must_create else Least("created_at", Value(started_at))
                if must_create:
                    Session.objects.create(session_key=key, kind=self.kind, **values)
                elif not Session.objects.filter(session_key=key).update(**values):
                    raise UpdateError
        except IntegrityError:
            raise CreateError if must_create else UpdateError from None

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(session_key=digest(key)).delete()

    @classmethod
    def clear_expired(cls) -> None:
        Session.objects.filter(expire_date__lt=timezone.now()).delete()
