"""Where sessions are kept: Django's session engine over a table of ours.

It differs from Django's own in three ways. The key that the browser holds is not stored, only its SHA-256 digest: whoever reads
the database can act as nobody. Whose session it is, of which kind and from where, are columns, so that people can see their
sessions and end them. And saving writes what the session holds and nothing of that.
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

from accounts.models import Session, SessionKind
from core.text import clean

SIGNED_IN_AT: Final = "skyauth_signed_in_at"  # what a session holds besides Django's own keys: epoch seconds


def digest(session_key: str) -> str:
    """Return what the session of this key is stored under."""
    return sha256(session_key.encode("utf-8", "surrogatepass")).hexdigest()


class SessionStore(SessionBase):
    """One session. `kind`, `address` and `agent` are told when it begins; `address` and `agent` also when somebody signs in."""

    def __init__(self, session_key: str | None = None, *, kind: SessionKind = SessionKind.BROWSER) -> None:
        super().__init__(session_key)
        self.kind = kind
        self.address: str | None = None
        self.agent: str | None = None

    def exists(self, session_key: str) -> bool:
        """Return whether there is a session of this key, ended or not."""
        return Session.objects.filter(session_key=digest(session_key)).exists()

    def load(self) -> dict[str, Any]:
        """Return what the session holds; of an unknown or ended one nothing, and a new one will have another key."""
        if self.session_key is not None:
            live = Session.objects.filter(session_key=digest(self.session_key), expire_date__gt=timezone.now())
            stored = live.values_list("session_data", flat=True).first()
            if stored is not None:
                return dict(self.decode(stored))
        self._session_key = None
        return {}

    def create(self) -> None:
        """Begin a session under a new key."""
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined] # Django's own way to a new key
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Write what the session holds. Raises CreateError, and UpdateError when it was ended meanwhile."""
        if self.session_key is None:
            self.create()
            return
        held = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        if self.session_key is None:  # looked at for the first time, and there is none any more
            raise UpdateError
        owner, signed_in_at = held.get(SESSION_KEY), held.get(SIGNED_IN_AT)
        started_at = datetime.fromtimestamp(signed_in_at, UTC) if isinstance(signed_in_at, int | float) else None
        values: dict[str, Any] = {
            "session_data": self.encode(held),
            "expire_date": self.get_expiry_date(),
            "user_id": int(owner) if isinstance(owner, str) and owner.isascii() and owner.isdigit() else None,
            **({} if self.address is None else {"address": clean(self.address, 64)}),
            **({} if self.agent is None else {"agent": clean(self.agent, 200)}),
        }
        key = digest(self.session_key)
        try:
            with transaction.atomic():
                if started_at is not None:  # a new key begins no new session: its age counts from when the user signed in
                    values["created_at"] = started_at if must_create else Least("created_at", Value(started_at))
                if must_create:
                    Session.objects.create(session_key=key, kind=self.kind, **values)
                elif not Session.objects.filter(session_key=key).update(**values):
                    raise UpdateError
        except IntegrityError:
            raise CreateError if must_create else UpdateError from None

    def delete(self, session_key: str | None = None) -> None:
        """End the session of this key, or this one."""
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(session_key=digest(key)).delete()

    @classmethod
    def clear_expired(cls) -> None:
        """Forget the sessions that have ended by themselves."""
        Session.objects.filter(expire_date__lt=timezone.now()).delete()
