"""Users, the roles of their groups, and what is kept of deleted users."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.django_permissions import DJANGO_PERMISSIONS
from core.one_line import check_one_line
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

    watched = Watched(
        ignored_fields=frozenset({"last_seen_at", "last_login", "groups_seen_at", "role_before_group"}), kind="user", key="id"
    )

    username = models.CharField(max_length=254, unique=True, help_text="An e-mail address or a name, in lower case.")
    uid = models.CharField(max_length=16, unique=True, editable=False, help_text="The id, as SkyPilot derives it.")
    email = models.EmailField(blank=True, default="")
    display_name = models.CharField(max_length=150, blank=True, default="", validators=[check_one_line])
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

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """Save the row. From the first user with the admin role on, `first-admin` is used up."""
        super().save(*args, update_fields=update_fields, **kwargs)
        if (update_fields is None or "role" in update_fields) and self.role.name == ADMIN:
            FirstAdmin.objects.get_or_create(id=1)

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


class FirstAdmin(models.Model):
    """One row, written with the first user who has the admin role and never deleted: `first-admin` is used up."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="first_admin_is_one_row"),)

    def __str__(self) -> str:
        return f"since {self.at:%Y-%m-%d %H:%M}"


class DeletedUser(models.Model):
    """A deleted user who can return through single sign-on: the name, the role before, and whether the name is blocked.

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


class GroupRole(models.Model):
    """A group of the identity provider, and the role that its members get when they sign in through the proxy."""

    watched = Watched(on_insert=True, kind="groups")

    group = models.CharField(max_length=200, unique=True, validators=[check_one_line])
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="group_roles")
    priority = models.PositiveIntegerField(default=100, help_text="The group with the lowest number decides.")

    class Meta:
        ordering = ("priority", "group")
        constraints = (models.CheckConstraint(condition=~models.Q(group=""), name="group_role_has_a_group"),)

    def __str__(self) -> str:
        return f"{self.group} -> {self.role.name}"
