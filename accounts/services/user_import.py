"""Import users from CSV: `plan_import` finds out what each row would do, and `apply_plan` does it for all rows or for none."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.identifiers import BadName, canonical_username
from accounts.models import SignIn, User
from accounts.principal_lookup import require_unchanged
from accounts.services.sign_in_warnings import warning_about_names
from accounts.services.user_csv import UserRow, is_hash, read_rows, user_values
from accounts.services.user_csv_columns import VALUES
from accounts.services.users import (
    HashedPassword,
    create_user,
    set_active,
    set_role,
    update_profile,
    validate_new_password,
)
from core import agreement
from core.agreement import asks_first
from core.errors import Invalid, ServiceError
from rbac.permissions import ADMIN, Permission
from rbac.principals import Principal
from rbac.services import lock_policy, require

_CAN_BE_EMPTIED: Final = ("email", "display_name")  # an empty cell of another column leaves the value as it is

Progress = Callable[[int, int], None]
Step = tuple[int, int]  # how many steps of how many are done


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

    def _names(self, action: RowAction) -> tuple[str, ...]:
        return () if self.errors else tuple(change.username for change in self.changes if change.action is action)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The readable rows of a file, and the report of what they would do to users."""

    rows: tuple[UserRow, ...]
    update: bool
    report: ImportReport
    steps: int  # to plan and apply all rows


class _PlanFailed(Exception):
    """Rolls back the transaction of an import that cannot be applied."""


def import_users(
    *, actor: Principal, text: str, dry_run: bool = False, update: bool = False, progress: Progress | None = None
) -> ImportReport:
    """Plan the import of a CSV text and, unless it is a `dry_run` or a row has an error, apply it. Returns the report.

    The first line names the columns, in any order and case: username and, optionally, password, role, email, display_name,
    sign_in and active (true or false). The other columns of an export (created_at, last_seen_at) are ignored; for exports of
    identity providers see `user_csv_columns`. A new user without a role gets the least one (`least_role`). An empty role,
    password, sign_in or active counts as missing; an empty email or display_name is stored as empty. An existing user is an
    error; with `update`, the user gets the values of the other columns, but never a password. Each row is planned on its own,
    so a row that takes the role of the last admin is an error even if a row before it makes another admin. `progress` is
    called with the number of steps done and of all steps. Raises Forbidden, and Invalid for an unreadable file.
    """
    plan = plan_import(actor=actor, text=text, update=update, progress=progress)
    if dry_run:
        return plan.report
    steps = apply_plan(actor=actor, plan=plan, progress=progress)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            report: ImportReport = end.value
            return report
        if progress is not None:
            progress(*step)


def plan_import(*, actor: Principal, text: str, update: bool = False, progress: Progress | None = None) -> ImportPlan:
    """Return what each row of a CSV text would do. Changes nothing. Raises Forbidden, and Invalid for an unreadable file."""
    require(actor, Permission.USERS_WRITE)
    if update:
        require(actor, Permission.USERS_READ)  # the plan shows the values before the change
    file = read_rows(text)
    rows = file.rows
    steps = sum(3 if row.password else 2 for row in rows)  # plan and write each row, and hash each password
    changes = [RowChange(line, "", RowAction.REFUSED, {}, error=error) for line, error in file.errors.items()]
    changes += _planned(actor, rows, update, (lambda done: progress(done, steps)) if progress is not None else None)
    return ImportPlan(rows, update, _report(changes, ignored=file.ignored), steps)


def apply_plan(*, actor: Principal, plan: ImportPlan, progress: Progress | None = None) -> Generator[Step, None, ImportReport]:
    """Apply a plan without errors, all rows or none: yield each step, and return the report.

    A row that would now do something else than planned is an error. No lock is held while a step is yielded, so a slow reader
    blocks nobody; the steps inside the transaction are passed to `progress` instead. Closing the generator before the last
    step changes nobody. Raises Forbidden.
    """
    if plan.report.errors:
        return plan.report
    done, total = len(plan.rows), plan.steps
    # Hashing ten thousand passwords takes minutes, so it is done before the lock is taken.
    hashed: dict[int, HashedPassword] = {}
    for row in plan.rows:
        if row.password:
            hashed[row.line] = HashedPassword(make_password(row.password))
            done += 1
            yield done, total
    report = _write(actor, plan, hashed, done, progress)
    if plan.rows and report.applied:
        yield total, total
    return report


def _planned(actor: Principal, rows: Sequence[UserRow], update: bool, progress: Callable[[int], None] | None) -> list[RowChange]:
    """Return what each row would do: each is written and rolled back on its own, so no lock is held longer than for one row."""
    changes: list[RowChange] = []
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if progress is not None:
            progress(number)
        with agreement.assumed(), transaction.atomic():
            change = _apply_row(actor, row, update, HashedPassword("!") if row.password else None)
            transaction.set_rollback(True)
        if not change.error:
            change = _checked(row, change, lines)
        changes.append(change)
    return changes


def _checked(row: UserRow, change: RowChange, lines: dict[str, int]) -> RowChange:
    """Return the change, with an error if the password is too weak or the name is on one of the `lines` before."""
    if change.username in lines:
        return _refused(row, f"{change.username} is already on line {lines[change.username]}.")
    lines[change.username] = row.line
    if is_hash(row.password):
        return _refused(row, "The password is a hash. Hashes are not imported; set a new password.")
    if row.password:
        profile = {name: change.values[name] for name in _CAN_BE_EMPTIED}
        try:
            validate_new_password(row.password, User(username=change.username, **profile))
        except ServiceError as error:
            return _refused(row, error.message)
    return change


@asks_first
def _write(
    actor: Principal, plan: ImportPlan, hashed: Mapping[int, HashedPassword], done: int, progress: Progress | None
) -> ImportReport:
    """Write all rows in one transaction, or none, and return the report. Raises Forbidden."""
    planned = {change.line: change for change in plan.report.changes}
    changes = []
    try:
        with transaction.atomic():
            lock_policy()
            # Hashing takes minutes.
            require_unchanged(actor, "Your permissions were reduced while the import was running, so nothing was imported.")
            for number, row in enumerate(plan.rows):
                if number and progress is not None:  # the last step is the caller's: it is done when the transaction is
                    progress(done + number, plan.steps)
                change = _apply_row(actor, row, plan.update, hashed.get(row.line))
                if not change.error and change != planned[row.line]:
                    change = _refused(row, "This user was changed by somebody else after the preview. Preview the file again.")
                changes.append(change)
            if any(change.error for change in changes):
                raise _PlanFailed
    except _PlanFailed:
        return _report(changes, ignored=plan.report.ignored_columns)
    return _report(changes, applied=True, ignored=plan.report.ignored_columns)


def _report(changes: Iterable[RowChange], *, applied: bool = False, ignored: tuple[str, ...] = ()) -> ImportReport:
    return ImportReport(tuple(sorted(changes, key=lambda change: change.line)), applied, ignored)


def _apply_row(actor: Principal, row: UserRow, update: bool, password: HashedPassword | None) -> RowChange:
    """Write one row and return what changed; if a service refuses it, write nothing and return the error."""
    try:
        with transaction.atomic():
            user = _existing(row) if update else None
            if user is not None:
                return _update(actor, row, user)
            user = _create(actor, row, password)
            return RowChange(row.line, user.username, RowAction.CREATED, user_values(user), password=bool(row.password))
    except ServiceError as error:
        return _refused(row, error.message)


def _refused(row: UserRow, error: str) -> RowChange:
    cells = {name: row.values.get(name, "") for name in VALUES}
    return RowChange(row.line, row.username, RowAction.REFUSED, cells, password=bool(row.password), error=error)


def _existing(row: UserRow) -> User | None:
    try:
        return User.objects.select_related("role").filter(username=canonical_username(row.username)).first()
    except BadName:
        return None  # `create_user` explains what is wrong with the name


def _update(actor: Principal, row: UserRow, user: User) -> RowChange:
    """Give a user the values of the row, and return what changed. Raises ServiceError."""
    if row.password:
        raise Invalid.field("password", f"{user.username} already exists. An import sets passwords of new users only.")
    before = user_values(user)
    new = {name: value for name, value in _values(row).items() if value != before[name]}
    if "role" in new:
        user = set_role(actor=actor, user=user, role=new["role"])
    profile = {name: new[name] for name in ("email", "display_name", "sign_in") if name in new}
    if profile:
        user = update_profile(actor=actor, user=user, **profile)
    if "active" in new:
        user = set_active(actor=actor, user=user, active=new["active"] == "true")
    after = user_values(user)
    changed = {name: before[name] for name in VALUES if after[name] != before[name]}
    return RowChange(row.line, user.username, RowAction.CHANGED if changed else RowAction.SAME, after, changed)


def _create(actor: Principal, row: UserRow, password: HashedPassword | None) -> User:
    values = _values(row)
    return create_user(
        actor=actor,
        username=row.username,
        password=password,
        role=values.get("role"),
        email=values.get("email"),
        display_name=values.get("display_name", ""),
        sign_in=values.get("sign_in"),
        active=values.get("active") != "false",
    )


def _values(row: UserRow) -> dict[str, str]:
    """Return the values that a row gives its user, without name and password. Raises Invalid."""
    values = {
        name: row.values[name] for name in VALUES if row.values.get(name) or (name in row.values and name in _CAN_BE_EMPTIED)
    }
    if "active" in values:
        values["active"] = values["active"].lower()  # spreadsheets write TRUE
        if values["active"] not in {"true", "false"}:
            raise Invalid.field("active", "The column active has true or false.")
    return values
