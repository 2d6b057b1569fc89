"""What an import of users does, or would do, row by row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from accounts.models import SignIn
from accounts.services.sign_in_warnings import warning_about_names
from core.problems import problem
from rbac.permissions import ADMIN


class RowAction(StrEnum):
    """What a row does to its user."""

    CREATED = "created"
    CHANGED = "changed"
    SAME = "same"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with one row; `line` is its first line in the file, where the header is line 1."""

    line: int
    username: str
    error: str


@dataclass(frozen=True, slots=True)
class RowChange:
    """What one row does: the `values` of the user afterwards and, of those that change, the values `before`.

    Of a row with an `error`, `values` are the cells of the file. A password is never in it; `password` says whether one is set.
    """

    line: int
    username: str
    action: RowAction
    values: Mapping[str, str]
    before: Mapping[str, str] = field(default_factory=dict)
    password: bool = False
    error: str = ""

    def sets(self, name: str, value: str) -> bool:
        """Return whether the row gives a new or an existing user this value."""
        is_new = self.action is RowAction.CREATED or (self.action is RowAction.CHANGED and name in self.before)
        return is_new and self.values[name] == value

    @property
    def makes_admin(self) -> bool:
        return self.sets("role", ADMIN)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did or, where it is not `applied`, would do; `changes` has every row in order.

    `ignored_columns` are the columns of another system's export that mean nothing here.
    """

    changes: tuple[RowChange, ...]
    applied: bool
    ignored_columns: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[RowError, ...]:
        return tuple(RowError(change.line, change.username, change.error) for change in self.changes if change.error)

    @property
    def created(self) -> tuple[str, ...]:
        """The names of the new users; empty if any row has an error."""
        return self._names(RowAction.CREATED)

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the users who change; empty if any row has an error."""
        return self._names(RowAction.CHANGED)

    @property
    def new_admins(self) -> tuple[str, ...]:
        """The names of the users who get the role admin; empty if any row has an error."""
        return () if self.errors else tuple(change.username for change in self.changes if change.makes_admin)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is accepted, but needs attention."""
        sso = warning_about_names(change.username for change in self.changes if change.sets("sign_in", SignIn.SSO))
        ignored = f"Ignored columns: {', '.join(self.ignored_columns)}." if self.ignored_columns else ""
        return tuple(filter(None, (sso, ignored)))

    def as_json(self) -> dict[str, Any]:
        """Return the report of an import without errors, as the REST API returns it."""
        return {
            "applied": self.applied,
            "created": list(self.created),
            "changed": list(self.changed),
            "users": [
                {"username": change.username, "role": change.values["role"], "old_role": change.before.get("role")}
                for change in self.changes
                if change.action is not RowAction.SAME
            ],
            "new_admins": list(self.new_admins),
            "warnings": list(self.warnings),
        }

    def as_problem(self) -> dict[str, Any]:
        """Return the problem details that list the invalid lines, in `errors` by line and in `failures` as objects."""
        by_line: dict[str, list[str]] = {}
        for failure in self.errors:
            by_line.setdefault(f"line {failure.line}", []).append(failure.error)
        failures = [{"line": f.line, "username": f.username, "error": f.error} for f in self.errors]
        detail = f"Nothing was imported. Invalid lines: {len(by_line)}."
        return problem(400, "invalid", detail, by_line, failures=failures)

    def _names(self, action: RowAction) -> tuple[str, ...]:
        return () if self.errors else tuple(change.username for change in self.changes if change.action is action)
