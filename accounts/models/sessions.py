"""Sessions of browsers and of the CLI, and the CLI logins that are under way."""

from datetime import datetime

from django.db import models
from django.utils import timezone

from accounts.models.users import User
from accounts.querysets import SessionQuerySet, session_expires_at
from core.watched import Watched


class SessionKind(models.TextChoices):
    """The kind of client that has the key of a session."""

    BROWSER = "browser", "browser"
    CLI = "cli", "command line"


class Session(models.Model):
    """A session of a client. The primary key is a digest of the session key, see `authn.session_store`.

    A row without a user is an anonymous session, or a consumed nonce (`authn.nonces`).
    """

    watched = Watched(ignored_fields=frozenset({"last_used_at", "address"}), kind="session", key="session_key")

    session_key = models.CharField(max_length=64, primary_key=True, editable=False)
    session_data = models.TextField(editable=False)
    expire_date = models.DateTimeField(db_index=True)
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE, related_name="sessions")
    kind = models.CharField(max_length=8, choices=SessionKind, default=SessionKind.BROWSER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(default=timezone.now, editable=False)
    address = models.CharField(max_length=64, blank=True, default="", editable=False)
    agent = models.CharField(max_length=200, blank=True, default="", editable=False)

    objects = SessionQuerySet.as_manager()

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(kind__in=SessionKind.values), name="session_kind_is_known"),)

    def __str__(self) -> str:
        return f"{self.user or 'nobody'}, {self.kind}, since {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def expires_at(self) -> datetime:
        """When the session expires unless it is used again."""
        return session_expires_at(
            kind=self.kind, created_at=self.created_at, last_used_at=self.last_used_at, expire_date=self.expire_date
        )


class CliAuthorization(models.Model):
    """A CLI login that a user has authorized and the CLI has not redeemed yet. `authn.cli_login` is the only writer.

    `challenge` is the PKCE code challenge (RFC 7636, S256). `session_auth_hash` is the user's when they authorized it, and empty
    once the login is redeemed.
    """

    challenge = models.CharField(max_length=43, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="cli_authorizations")
    session_auth_hash = models.CharField(max_length=64, editable=False, db_column="password_mark")
    encrypted_cookies = models.TextField(
        blank=True, default="", editable=False, db_column="sealed", help_text="The cookies for the CLI, encrypted."
    )
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "accounts_handover"  # the name in older versions

    def __str__(self) -> str:
        return f"{self.user} for {self.challenge[-8:]}, until {self.expires_at:%Y-%m-%d %H:%M:%S}"


class CliLoginRequest(models.Model):
    """The address and user agent of a CLI that polls for an authorization, shown on the consent page. Kept for minutes."""

    challenge = models.CharField(max_length=43, primary_key=True, editable=False)
    address = models.CharField(max_length=64, editable=False, db_index=True)
    agent = models.CharField(max_length=200, blank=True, editable=False)
    at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "accounts_cliasker"  # the name in older versions

    def __str__(self) -> str:
        return f"{self.challenge[-8:]} from {self.address}"
