"""Users, service accounts, tokens and group roles as rows. `accounts.services` is their only writer."""

from datetime import datetime
from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.django_permissions import DJANGO_PERMISSIONS
from accounts.querysets import SessionQuerySet, TokenQuerySet, session_expires_at
from core.watched import Watched
from rbac.models import Role
from rbac.permissions import ADMIN, Permission


class SignIn(models.TextChoices):
    """How a user can sign in; an identity from one source is never taken for one from another (promise 7)."""

    PASSWORD = "password", "password"
    SSO = "sso", "single sign-on"
    BOTH = "both", "password or single sign-on"


class RoleSource(models.TextChoices):
    """Where a user's role comes from; a role from a group is lost with the group."""

    DEFAULT = "default", "default"
    MANUAL = "manual", "set by an admin"
    GROUP = "group", "identity-provider group"


class UserManager(BaseUserManager["User"]):
    """Looks users up. `accounts.services.users.create_user` creates them."""


class User(AbstractBaseUser):
    """A user. The role alone determines the permissions; Django's own permissions are not used."""

    watched = Watched(ignored_fields=frozenset({"last_seen_at", "last_login", "groups_seen_at", "role_before_group"}))

    username = models.CharField(max_length=254, unique=True, help_text="An e-mail address or a name, in lower case.")
    uid = models.CharField(max_length=16, unique=True, editable=False, help_text="The id, as SkyPilot derives it.")
    email = models.EmailField(blank=True, default="")
    display_name = models.CharField(max_length=150, blank=True, default="")
    sign_in = models.CharField(max_length=8, choices=SignIn, default=SignIn.PASSWORD)
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="users")
    role_source = models.CharField(max_length=8, choices=RoleSource, default=RoleSource.DEFAULT)
    is_active = models.BooleanField("active", default=True)
    last_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    groups_seen_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="The last request with groups.")
    role_before_group = models.CharField(  # noqa: DJ001 - SQLite adds a column that can be NULL without a copy of the table
        max_length=32, null=True, blank=True, editable=False, help_text="The role that an admin gave before a group did."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects = UserManager()

    class Meta:
        ordering = ("username",)
        constraints = (
            models.CheckConstraint(condition=models.Q(username=Lower("username")), name="user_name_is_lower_case"),
            models.CheckConstraint(
                condition=~models.Q(username="") & ~models.Q(username__startswith="sa-"), name="user_name_is_a_persons"
            ),
            models.CheckConstraint(condition=models.Q(sign_in__in=SignIn.values), name="user_sign_in_is_known"),
            models.CheckConstraint(condition=models.Q(role_source__in=RoleSource.values), name="user_role_source_is_known"),
        )

    def __str__(self) -> str:
        return self.username

    @property
    def permissions(self) -> frozenset[str]:
        """The effective permissions; none while the user is disabled."""
        return self.role.holds if self.is_active else frozenset()

    @property
    def is_staff(self) -> bool:
        """Whether the user can use the Django admin."""
        return Permission.ADMIN_SITE_USE in self.permissions

    @property
    def is_superuser(self) -> bool:
        """Whether the user has the admin role, which Django calls superuser."""
        return self.is_active and self.role.name == ADMIN

    def has_perm(self, perm: str, obj: models.Model | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return whether the user has a permission of the Django admin, such as "rbac.change_role"."""
        needed = DJANGO_PERMISSIONS.get(perm)
        return self.is_superuser if needed is None else needed in self.permissions

    def has_perms(self, perm_list: list[str], obj: models.Model | None = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        """Return whether the user has any permission for an app in the Django admin."""
        return self.is_superuser or any(
            needed in self.permissions for perm, needed in DJANGO_PERMISSIONS.items() if perm.startswith(f"{app_label}.")
        )


class DeletedUser(models.Model):
    """The name of a deleted user whom single sign-on can still send: the role that the user had, and whether the name is blocked.

    A name is here or in User, never in both. The role is a text, because the row outlives the role. Not watched: no caller is
    cached while there is no user.
    """

    username = models.CharField(max_length=254, unique=True, editable=False)
    role = models.CharField(max_length=32, editable=False)
    blocked = models.BooleanField(default=False)
    deleted_at = models.DateTimeField(default=timezone.now, editable=False, db_index=True)
    deleted_by = models.CharField(max_length=320, editable=False)

    class Meta:
        ordering = ("username",)

    def __str__(self) -> str:
        return f"{self.username}, deleted {self.deleted_at:%Y-%m-%d}{', blocked' if self.blocked else ''}"


class ServiceAccount(models.Model):
    """A service account. It never has more permissions than its owner, if it has one, and outlives its creator."""

    watched = Watched()

    name = models.CharField(max_length=64, unique=True, help_text="Letters, digits and . _ -, in lower case.")
    uid = models.CharField(max_length=24, unique=True, editable=False)
    description = models.CharField(max_length=200, blank=True, default="")
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="service_accounts")
    created_by = models.CharField(max_length=320, editable=False)
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="service_accounts")
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

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


class Token(models.Model):
    """A token of a service account: the key id that finds the row, and the digest that the token must have."""

    watched = Watched(ignored_fields=frozenset({"last_used_at", "last_used_from"}))

    account = models.ForeignKey(ServiceAccount, on_delete=models.CASCADE, related_name="tokens")
    key_id = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    name = models.CharField(max_length=64, blank=True, default="", help_text="What the token is for.")
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


class SessionKind(models.TextChoices):
    """The kind of client that has the key of a session."""

    BROWSER = "browser", "browser"
    CLI = "cli", "command line"


class Session(models.Model):
    """A session of a client. The primary key is a digest of the session key, see `authn.session_store`.

    A row without a user is an anonymous session, or a consumed nonce (`authn.nonces`).
    """

    watched = Watched(ignored_fields=frozenset({"last_used_at", "address"}))

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

    `challenge` is the PKCE code challenge (RFC 7636, S256). `session_auth_hash` is the user's when they authorized it.
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


class GroupRole(models.Model):
    """A group of the identity provider, and the role that its members get when they sign in through the proxy."""

    watched = Watched(on_insert=True)

    group = models.CharField(max_length=200, unique=True)
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="group_roles")
    priority = models.PositiveIntegerField(default=100, help_text="The group with the lowest number decides.")

    class Meta:
        ordering = ("priority", "group")
        constraints = (models.CheckConstraint(condition=~models.Q(group=""), name="group_role_has_a_group"),)

    def __str__(self) -> str:
        return f"{self.group} -> {self.role.name}"


class PolicyRevision(models.Model):
    """One row, whose value changes with all that decisions depend on. Triggers write it, see `revision.triggers`."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.CharField(max_length=32, db_column="mark")

    class Meta:
        db_table = "accounts_generation"  # the name in older versions
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="generation_is_one_row"),)

    def __str__(self) -> str:
        return self.value


class SyncedRole(models.Model):
    """The role that a SkyPilot API server has for a user name, as SkyAuth sent it; "" while it is uncertain.

    `lease` belongs to the process that is sending the role. `integrations.skypilot.role_sync` is the only writer.
    """

    watched = Watched(ignored_fields=frozenset({"role", "lease", "lease_since"}))  # only a deletion needs a new revision

    server = models.CharField(max_length=500)
    name = models.CharField(max_length=254)
    role = models.CharField(max_length=16, blank=True, default="")
    lease = models.CharField(max_length=32, blank=True, default="", editable=False, db_column="turn")
    lease_since = models.DateTimeField(null=True, blank=True, editable=False, db_column="turn_since")

    class Meta:
        db_table = "accounts_toldrole"  # the name in older versions
        constraints = (
            models.UniqueConstraint(fields=("server", "name"), name="told_role_is_one_per_name"),
            models.CheckConstraint(
                condition=models.Q(lease="") | models.Q(role="", lease_since__isnull=False),
                name="told_role_is_uncertain_in_a_turn",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} at {self.server}: {self.role or 'uncertain'}"
