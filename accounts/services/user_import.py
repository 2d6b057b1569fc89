"""Users as a CSV file has them: what each line would do can be asked before; all lines are done, or none is."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.identifiers import BadName, canonical_username
from accounts.models import User
from accounts.principal_lookup import current_principal
from accounts.services.user_csv import VALUES, Row, read, values
from accounts.services.users import FIRST_ADMIN, Hashed, create_user, judge_password, set_active, set_role, update_profile
from core.errors import Forbidden, Invalid, ServiceError
from rbac.explain import Standing
from rbac.permissions import ADMIN, Permission
from rbac.principals import Kind, Principal
from rbac.services import lock_policy, require

_MAY_BE_EMPTY: Final = ("email", "display_name")  # elsewhere an empty cell says nothing

Progress = Callable[[int, int], None]
Steps = Generator[tuple[int, int], None, "ImportReport"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with one line; `line` is where it starts in the file, the header's is 1."""

    line: int
    username: str
    error: str


class Outcome(StrEnum):
    """What a line does, or would do, to its user."""

    CREATED = "created"
    CHANGED = "changed"
    SAME = "same"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Line:
    """What one line does: `values` of the user afterwards, and of those that it changes what they were `before`.

    Of a refused one, `values` are as the file has them, and `fault` is what is wrong with it. A password is never in it.
    """

    line: int
    username: str
    outcome: Outcome
    values: Mapping[str, str]
    before: Mapping[str, str] = field(default_factory=dict)
    password: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file, or, where it was not applied, what would; `lines` are all of it, in order."""

    lines: tuple[Line, ...]
    applied: bool

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What is wrong with which line."""
        return tuple(Failure(line.line, line.username, line.fault) for line in self.lines if line.fault)

    @property
    def created(self) -> tuple[str, ...]:
        """The new users' names; with any failure, none."""
        return self._names(Outcome.CREATED)

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the users that are otherwise than before; with any failure, none."""
        return self._names(Outcome.CHANGED)

    def _names(self, outcome: Outcome) -> tuple[str, ...]:
        return () if self.failures else tuple(line.username for line in self.lines if line.outcome is outcome)


class _Refused(Exception):
    """Ends the transaction of an import that cannot be applied."""


def import_users(
    *, actor: Principal, text: str, dry_run: bool = False, update: bool = False, progress: Progress | None = None
) -> ImportReport:
    """Do what a CSV text says and return the report; all of it or, with any failure, nothing.

    Its first line names the columns, in any order and case: username, and where wanted password, role, email, display_name,
    sign_in and active (true or false); what only an export has (created_at, last_seen_at) is ignored. An empty role, password,
    sign_in or active is as good as none; an empty email or display_name is an empty one. A user who exists is a failure; with
    `update` they become what the other columns say, but for the password, and whoever is that already stays as they are. Each
    line is judged by itself first, so that one that takes the last admin's role is refused, whatever the lines before it give.
    `progress` hears how many steps of how many are done. Raises Forbidden, and Invalid for a file of which no line can be read.
    """
    steps = importing(actor=actor, text=text, dry_run=dry_run, update=update, progress=progress)
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            report: ImportReport = end.value
            return report
        if progress is not None:
            progress(*done)


def importing(
    *,
    actor: Principal,
    text: str,
    dry_run: bool = False,
    update: bool = False,
    expected: tuple[Line, ...] | None = None,
    progress: Progress | None = None,
) -> Steps:
    """Do what `import_users` does, step by step: yields how many of how many are done, and returns the report.

    Where lines are `expected`, nothing is written unless it is exactly that.

    It never waits for its reader while it holds a lock, so a browser that does not read on holds up nobody: of the transaction
    that writes only `progress` hears. Who stops before it has changed nobody.
    """
    require(actor, Permission.USERS_WRITE)
    if update:
        require(actor, Permission.USERS_READ)  # a line says what was there before
    rows, unread = read(text)
    count = _Count(2 * len(rows) + sum(1 for row in rows if row.password), progress)
    # First every line on its own, undone at once: errors show, and no lock is held for longer than one line takes.
    planned = yield from _rehearse(actor, rows, update, count)
    report = _report([*planned.values(), *(Line(line, "", Outcome.REFUSED, {}, fault=fault) for line, fault in unread.items())])
    if report.failures or dry_run or (expected is not None and report.lines != expected):
        return report
    # Ten thousand hashes take minutes: they are made while others can write.
    hashed = yield from _hash(rows, count)
    report = _write(actor, rows, update, hashed, planned, count)
    if rows and report.applied:
        yield count.another()
    return report


def _rehearse(
    actor: Principal, rows: Iterable[Row], update: bool, count: "_Count"
) -> Generator[tuple[int, int], None, dict[int, Line]]:
    """Return what each row would do, by its line, after it was done and undone."""
    planned: dict[int, Line] = {}
    seen: dict[str, int] = {}
    newcomers: str | None = None  # the role of who is given none, once a line before has decided it
    for row in rows:
        yield count.another()
        with transaction.atomic():
            line = _do(actor, row, update, Hashed("!") if row.password else None, newcomers)
            transaction.set_rollback(True)
        if not line.fault:
            line = _judged(row, line, seen)
        if settings.RBAC_DEFAULT_ROLE == FIRST_ADMIN and not line.fault and _is_active_admin(line):
            newcomers = "user"
        planned[row.line] = line
    return planned


def _is_active_admin(line: Line) -> bool:
    return line.values["role"] == ADMIN and line.values["active"] == "true"


def _judged(row: Row, line: Line, seen: dict[str, int]) -> Line:
    """Return the line, or, where its password is not good enough or its name was `seen` before, why it is refused."""
    if line.username in seen:
        return _refused(row, f"{line.username} is on line {seen[line.username]} already.")
    seen[line.username] = row.line
    if row.password:
        named = {name: line.values[name] for name in _MAY_BE_EMPTY}
        try:
            judge_password(row.password, User(username=line.username, **named))
        except ServiceError as error:
            return _refused(row, error.message)
    return line


def _hash(rows: Iterable[Row], count: "_Count") -> Generator[tuple[int, int], None, dict[int, Hashed]]:
    """Return the hashes of the rows' passwords, by line."""
    hashed: dict[int, Hashed] = {}
    for row in rows:
        if row.password:
            hashed[row.line] = Hashed(make_password(row.password))
            yield count.another()
    return hashed


def _write(
    actor: Principal,
    rows: Iterable[Row],
    update: bool,
    hashed: Mapping[int, Hashed],
    planned: Mapping[int, Line],
    count: "_Count",
) -> ImportReport:
    """Do what was planned, all of it in one transaction or nothing; the last step is the caller's to count. Raises Forbidden."""
    lines = []
    try:
        with transaction.atomic():
            lock_policy()
            _require_still(actor)
            for number, row in enumerate(rows):
                if number:
                    count.tell()
                line = _do(actor, row, update, hashed.get(row.line))
                if not line.fault and line != planned[row.line]:
                    line = _refused(row, "Somebody changed this meanwhile. Look again at what the file would do.")
                lines.append(line)
            if any(line.fault for line in lines):
                raise _Refused
    except _Refused:
        return _report(lines)
    return _report(lines, applied=True)


def _require_still(actor: Principal) -> None:
    """Raise Forbidden when the actor may less than at the beginning: hashing takes minutes. Call it under `lock_policy`."""
    if actor.kind is Kind.SYSTEM:
        return
    found = current_principal(actor.kind, actor.uid, actor.name)
    if found is None or found[1] is not Standing.GOOD or not actor.permissions <= found[0].permissions:
        raise Forbidden("You may less than when this began.")


class _Count:
    """How many steps of how many are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._done, self._progress = total, 0, progress

    def another(self) -> tuple[int, int]:
        """Count a step."""
        self._done += 1
        return self._done, self._total

    def tell(self) -> None:
        """Count a step that cannot be yielded, and tell of it."""
        done = self.another()
        if self._progress is not None:
            self._progress(*done)


def _report(lines: Iterable[Line], *, applied: bool = False) -> ImportReport:
    return ImportReport(tuple(sorted(lines, key=lambda line: line.line)), applied)


def _do(actor: Principal, row: Row, update: bool, password: Hashed | None, newcomers: str | None = None) -> Line:
    """Do what the row says, and return what that was; or what was refused, with nothing done."""
    try:
        with transaction.atomic():
            user = _existing(row) if update else None
            if user is not None:
                return _update(actor, row, user)
            user = _create(actor, row, password, newcomers)
            return Line(row.line, user.username, Outcome.CREATED, values(user), password=bool(row.password))
    except ServiceError as error:
        return _refused(row, error.message)


def _refused(row: Row, fault: str) -> Line:
    shown = {name: row.values.get(name, "") for name in VALUES}
    return Line(row.line, row.username, Outcome.REFUSED, shown, password=bool(row.password), fault=fault)


def _existing(row: Row) -> User | None:
    try:
        return User.objects.select_related("role").filter(username=canonical_username(row.username)).first()
    except BadName:
        return None  # who creates it says what is wrong


def _update(actor: Principal, row: Row, user: User) -> Line:
    """Make a user what the row says, and return what that changed. Raises ServiceError."""
    if row.password:
        raise Invalid.field("password", f"{user.username} exists already. An import sets no password but a new user's.")
    before = values(user)
    new = {name: value for name, value in _said(row).items() if value != before[name]}
    if "role" in new:
        user = set_role(actor=actor, user=user, role=new["role"])
    profile = {name: new[name] for name in ("email", "display_name", "sign_in") if name in new}
    if profile:
        user = update_profile(actor=actor, user=user, **profile)
    if "active" in new:
        user = set_active(actor=actor, user=user, active=new["active"] == "true")
    after = values(user)
    changed = {name: before[name] for name in VALUES if after[name] != before[name]}
    return Line(row.line, user.username, Outcome.CHANGED if changed else Outcome.SAME, after, changed)


def _create(actor: Principal, row: Row, password: Hashed | None, newcomers: str | None) -> User:
    said = _said(row)
    return create_user(
        actor=actor,
        username=row.username,
        password=password,
        role=said.get("role", newcomers),
        email=said.get("email"),
        display_name=said.get("display_name", ""),
        sign_in=said.get("sign_in"),
        active=said.get("active") != "false",
    )


def _said(row: Row) -> dict[str, str]:
    """Return what a row says of its user, but for name and password. Raises Invalid."""
    said = {name: row.values[name] for name in VALUES if row.values.get(name) or (name in row.values and name in _MAY_BE_EMPTY)}
    if "active" in said:
        said["active"] = said["active"].lower()  # spreadsheets write TRUE
        if said["active"] not in {"true", "false"}:
            raise Invalid.field("active", "active is true or false.")
    return said
