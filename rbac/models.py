"""Roles and routes as rows. `rbac.services` is their only writer."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from core.watched import Watched
from rbac.packs import RouteSpec
from rbac.patterns import MAX_PATTERN, BadPattern, compile_pattern
from rbac.permissions import ADMIN, EVERYTHING, effective_permissions
from rbac.routes import ANY_METHOD, Rule, compile_rule, in_words
from rbac.targets import valid_host, valid_method

ROLE_NAME = RegexValidator(
    r"\A[a-z][a-z0-9-]{0,31}\Z", "A role name has lower-case letters, digits and hyphens, and starts with a letter."
)


def check_permissions(names: Any) -> None:
    """Raise ValidationError unless `names` is a list of permissions that exist."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValidationError('Permissions are a list of names, such as ["upstream:read"].')
    if unknown := sorted(set(names) - EVERYTHING):
        raise ValidationError(f"No such permission: {', '.join(unknown)}. Known are: {', '.join(sorted(EVERYTHING))}.")


def check_methods(names: Any) -> None:
    """Raise ValidationError unless `names` is a non-empty list of upper-case methods, or ["*"]."""
    if not isinstance(names, list) or not names:
        raise ValidationError('Methods are a list, such as ["GET", "HEAD"], or ["*"] for all.')
    if names == [ANY_METHOD]:
        return
    if bad := [name for name in names if not isinstance(name, str) or not valid_method(name)]:
        raise ValidationError(f'Not a method: {", ".join(map(str, bad))}. Write upper-case names, or ["*"] alone for all.')


def check_pattern(text: str) -> None:
    """Raise ValidationError unless `text` is a pattern of the path language."""
    try:
        compile_pattern(text)
    except BadPattern as error:
        raise ValidationError(str(error)) from None


def check_host(text: str) -> None:
    """Raise ValidationError unless `text` is empty or a canonical host."""
    if text and not valid_host(text):
        raise ValidationError("A host is written in lower case and without a port, such as api.example.com; empty means any.")


def check_permission(name: str) -> None:
    """Raise ValidationError unless `name` is a permission that exists."""
    check_permissions([name])


class Role(models.Model):
    """A named set of permissions. `admin` always holds everything, whatever the row says."""

    watched = Watched()

    name = models.CharField(max_length=32, unique=True, validators=[ROLE_NAME])
    description = models.CharField(max_length=200, blank=True, default="")
    permissions = models.JSONField(default=list, blank=True, validators=[check_permissions])
    builtin = models.BooleanField(default=False, editable=False, help_text="Came with SkyAuth and cannot be deleted.")
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Grows by one with each change.")

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(condition=~models.Q(name=""), name="role_has_a_name"),
            models.CheckConstraint(condition=~models.Q(name=ADMIN) | models.Q(builtin=True), name="role_admin_is_builtin"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def holds(self) -> frozenset[str]:
        """The permissions that the role really gives."""
        return effective_permissions(self.name, self.permissions)


class Route(models.Model):
    """One row of the ordered route table: which permission a method and path of a protected API need."""

    watched = Watched(inserts=True)

    position = models.PositiveIntegerField(
        db_index=True, help_text="Routes are tried from the lowest position up; the first match decides."
    )
    host = models.CharField(max_length=253, blank=True, default="", validators=[check_host], help_text="Empty: any host.")
    path = models.CharField(max_length=MAX_PATTERN, validators=[check_pattern], help_text="Such as /api/**, /jobs/*/logs.")
    methods = models.JSONField(default=list, validators=[check_methods], help_text='Such as ["GET", "HEAD"], or ["*"].')
    permission = models.CharField(max_length=64, validators=[check_permission])
    note = models.CharField(max_length=200, blank=True, default="", help_text="Why the rule is there.")
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Grows by one with each change.")

    class Meta:
        ordering = ("position", "id")
        constraints = (models.CheckConstraint(condition=models.Q(path__startswith="/"), name="route_path_starts_with_a_slash"),)

    def __str__(self) -> str:
        # Not by way of the rule: a row that cannot be compiled must be named, to be deleted.
        return in_words(position=self.position, host=self.host, path=self.path, methods=self.methods, permission=self.permission)

    @property
    def spec(self) -> RouteSpec:
        """The route without its position and version."""
        return RouteSpec(self.path, tuple(self.methods), self.permission, self.host, self.note)

    def compiled(self) -> Rule:
        """Return the rule of this row. Raises BadPattern if the row was written round the service layer."""
        return compile_rule(
            position=self.position, host=self.host, path=self.path, methods=self.methods, permission=self.permission
        )


class RecentRequest(models.Model):
    """A request that was judged lately. `rbac.samples` writes it, and a change of the rules is tried against it."""

    key = models.CharField(max_length=64, unique=True, editable=False)
    caller_kind = models.CharField(max_length=16)
    caller_uid = models.CharField(max_length=300, blank=True)
    caller = models.CharField(max_length=300)
    method = models.CharField(max_length=20)
    host = models.CharField(max_length=260, blank=True)
    path = models.CharField(max_length=500)
    allowed = models.BooleanField()
    at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "accounts_recentrequest"  # where older versions have it
        ordering = ("-at", "-id")

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"
