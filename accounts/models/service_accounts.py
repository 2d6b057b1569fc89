"""Service accounts and their tokens."""

from datetime import datetime
from typing import cast

from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.identifiers import user_uid
from accounts.models.users import User
from accounts.querysets import TokenQuerySet
from core.one_line import check_one_line
from core.watched import Watched
from rbac.models import Role
from rbac.principals import account_identity


class UpstreamIdField(models.CharField):  # type: ignore[type-arg]
    """The id that a SkyPilot server derives from `upstream_name`. Every insert writes it, also one of many rows."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:  # noqa: ARG002 - Django's signature
        account = cast(ServiceAccount, model_instance)
        value = user_uid(account_identity(account.name, account.uid))
        setattr(model_instance, self.attname, value)
        return value


class ServiceAccount(models.Model):
    """A service account. It never has more permissions than its owner, if it has one, and outlives its creator."""

    watched = Watched(ignored_fields=frozenset({"upstream_uid"}), kind="account", key="id")  # which never changes

    name = models.CharField(max_length=64, unique=True, help_text="Letters, digits and . _ -, in lower case.")
    uid = models.CharField(max_length=24, unique=True, editable=False)
    description = models.CharField(max_length=200, blank=True, default="", validators=[check_one_line])
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="service_accounts")
    created_by = models.CharField(max_length=320, editable=False)
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="service_accounts")
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Older versions insert rows without it.
    upstream_uid = UpstreamIdField(max_length=8, blank=True, default="", db_default="", db_index=True, editable=False)

    is_authenticated = True  # `request.user` can be one, so Django asks for these
    is_anonymous = False

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(name=Lower("name")) & ~models.Q(name=""), name="account_name_is_lower_case"
            ),
            models.CheckConstraint(condition=models.Q(uid__startswith="sa-"), name="account_uid_is_a_machines"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def upstream_name(self) -> str:
        """The name that an upstream receives for this account, for example in X-Auth-Request-Email."""
        return account_identity(self.name, self.uid)


class Token(models.Model):
    """A token of a service account: the key id that finds the row, and the digest that the token must have."""

    watched = Watched(ignored_fields=frozenset({"last_used_at", "last_used_from"}), kind="token", key="id")

    account = models.ForeignKey(ServiceAccount, on_delete=models.CASCADE, related_name="tokens")
    key_id = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    name = models.CharField(
        max_length=64, blank=True, default="", validators=[check_one_line], help_text="What the token is for."
    )
    created_by = models.CharField(max_length=320, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: the token never expires.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by = models.ForeignKey(
        "self", null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="replaces"
    )
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_from = models.CharField(max_length=64, blank=True, default="", editable=False)

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(expires_at__isnull=True) | models.Q(expires_at__gte=models.F("created_at")),
                name="token_expires_after_it_was_made",
            ),
            models.CheckConstraint(condition=~models.Q(digest="") & ~models.Q(key_id=""), name="token_can_be_found_and_known"),
        )

    def __str__(self) -> str:
        return f"{self.account.name}/{self.name or self.key_id}"

    def state(self, now: datetime | None = None) -> str:
        """Return "active", "expired" or "revoked", whatever the state of the account and its owner."""
        return token_state(self.expires_at, self.revoked_at, now or timezone.now())


def token_state(expires_at: datetime | None, revoked_at: datetime | None, now: datetime) -> str:
    """Return the state of a token with these dates. A token is expired from `expires_at` on, inclusive."""
    if revoked_at is not None:
        return "revoked"
    return "expired" if expires_at is not None and expires_at <= now else "active"
