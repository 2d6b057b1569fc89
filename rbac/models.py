"""Roles, routes and recent requests as rows. `rbac.services` is the only writer of roles and routes."""

import re
from difflib import get_close_matches
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from core.one_line import check_one_line
from core.watched import Watched
from rbac.packs import RouteSpec
from rbac.patterns import MAX_PATTERN, BadPattern, compile_pattern
from rbac.permissions import ADMIN, ADMINISTRATIVE, EVERYTHING, effective_permissions
from rbac.routes import ANY_METHOD, Rule, compile_rule, route_text
from rbac.targets import KNOWN_METHODS, valid_host, valid_method

ROLE_NAME = RegexValidator(
    r"\A[a-z][a-z0-9-]{0,31}\Z", "A role name has lower-case letters, digits and hyphens, and starts with a letter."
)

# A segment of a regular expression or of a URL template. Clients percent-encode these characters, except a leading colon.
_OTHER_LANGUAGE = re.compile(r"[{}<>\[\]^|`]|^:")


def check_permissions(names: Any) -> None:
    """Raise ValidationError unless `names` is a list of existing permissions."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValidationError('Permissions are a list of names, such as ["upstream:read"].')
    if unknown := sorted(set(names) - EVERYTHING):
        raise ValidationError(f"Unknown permission: {', '.join(unknown)}. The permissions are: {', '.join(sorted(EVERYTHING))}.")


def check_methods(names: Any) -> None:
    """Raise ValidationError unless `names` is a non-empty list of known upper-case methods, or ["*"].

    Only a saved route is checked: a request can have any method, and a route of an older version goes on to be matched.
    """
    if not isinstance(names, list) or not names:
        raise ValidationError('Methods are a list, such as ["GET", "HEAD"], or ["*"] for any method.')
    if names == [ANY_METHOD]:
        return
    if bad := [name for name in names if not isinstance(name, str) or not valid_method(name)]:
        raise ValidationError(f"Not a method: {', '.join(map(str, bad))}. Use upper-case names, or only * for any method.")
    if unknown := [name for name in names if name not in KNOWN_METHODS]:
        near = [f"{name}{''.join(f', did you mean {other}?' for other in _similar(name))}" for name in unknown]
        raise ValidationError(f"Not a known method: {'; '.join(near)} For a method of your own, use only *, which matches any.")


def _similar(name: str) -> list[str]:
    return get_close_matches(name, sorted(KNOWN_METHODS), 1)


def check_pattern(text: str) -> None:
    """Raise ValidationError unless `text` is a path pattern, and none of another language, which would match no request.

    Only a saved route is checked: a stored row of an older version is still compiled, or nothing at all could be decided.
    """
    try:
        compile_pattern(text)
    except BadPattern as error:
        raise ValidationError(str(error)) from None
    if part := next(filter(_OTHER_LANGUAGE.search, text.split("/")), ""):
        raise ValidationError(
            f"{part} is not a pattern of SkyAuth. Write * for one segment, and ** at the end for all that follow."
        )


def check_host(text: str) -> None:
    """Raise ValidationError unless `text` is empty or a canonical host."""
    if text and not valid_host(text):
        raise ValidationError("A host is in lower case and has no port, such as api.example.com. Empty: any host.")


def check_permission(name: str) -> None:
    """Raise ValidationError unless `name` is an existing permission."""
    check_permissions([name])


class Role(models.Model):
    """A named set of permissions. The role `admin` always has all of them, whatever its row has."""

    watched = Watched(kind="role", key="name")

    name = models.CharField(max_length=32, unique=True, validators=[ROLE_NAME])
    description = models.CharField(max_length=200, blank=True, default="", validators=[check_one_line])
    permissions = models.JSONField(default=list, blank=True, validators=[check_permissions])
    builtin = models.BooleanField(default=False, editable=False, help_text="Built in: it cannot be deleted.")
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Increases by one with each change.")

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
        """The effective permissions of the role."""
        return effective_permissions(self.name, self.permissions)

    @property
    def is_administrative(self) -> bool:
        """Whether the role has an administrative permission: pages ask for a confirmation before they give it."""
        return not self.holds.isdisjoint(ADMINISTRATIVE)


class Route(models.Model):
    """One row of the ordered route table: the permission that a method and path of a protected API require."""

    watched = Watched(on_insert=True, kind="routes")

    position = models.PositiveIntegerField(
        db_index=True, help_text="Routes are matched in ascending order of position. The first match decides."
    )
    host = models.CharField(max_length=253, blank=True, default="", validators=[check_host], help_text="Empty: any host.")
    path = models.CharField(
        max_length=MAX_PATTERN, validators=[check_pattern], help_text="A path pattern, such as /api/** or /jobs/*/logs."
    )
    methods = models.JSONField(
        default=list, validators=[check_methods], help_text='Method names, such as ["GET", "HEAD"], or ["*"] for any method.'
    )
    permission = models.CharField(
        max_length=64, validators=[check_permission], help_text="The permission that a matching request requires."
    )
    note = models.CharField(
        max_length=200, blank=True, default="", validators=[check_one_line], help_text="Why the route exists."
    )
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Increases by one with each change.")

    class Meta:
        ordering = ("position", "id")
        constraints = (models.CheckConstraint(condition=models.Q(path__startswith="/"), name="route_path_starts_with_a_slash"),)

    def __str__(self) -> str:
        # Without compiling it: a row that cannot be compiled needs a name, so that it can be deleted.
        return route_text(
            position=self.position, host=self.host, path=self.path, methods=self.methods, permission=self.permission
        )

    @property
    def spec(self) -> RouteSpec:
        """The route without its position and version."""
        return RouteSpec(self.path, tuple(self.methods), self.permission, self.host, self.note)

    def compiled(self) -> Rule:
        """Return the rule of this row. Raises BadPattern if the row was written without `rbac.services`."""
        return compile_rule(
            position=self.position, host=self.host, path=self.path, methods=self.methods, permission=self.permission
        )


class RecentRequest(models.Model):
    """A request that the gateway decided recently, for previews of policy changes. `rbac.samples` is the only writer."""

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
        db_table = "accounts_recentrequest"  # the name in older versions
        ordering = ("-at", "-id")

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"
