"""Users as CSV (RFC 4180): what each line would do can be asked before; all lines of a file are done, or none is."""

import csv
import io
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.decisions import standing_as
from accounts.explain import Standing
from accounts.identifiers import BadName, canonical_username
from accounts.models import User
from accounts.principals import Kind, Principal
from accounts.services.users import FIRST_ADMIN, Hashed, create_user, judge_password, set_active, set_role, update_profile
from rbac.errors import Forbidden, Invalid, ServiceError
from rbac.permissions import ADMIN, Permission
from rbac.services import lock, require

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 5_000_000
IMPORTED: Final = ("username", "password", "role", "email", "display_name", "sign_in", "active")
EXPORTED: Final = ("username", "role", "email", "display_name", "sign_in", "active", "created_at", "last_seen_at")
_VALUES: Final = ("role", "email", "display_name", "sign_in", "active")
_MAY_BE_EMPTY: Final = ("email", "display_name")  # elsewhere an empty cell says nothing
# What a spreadsheet takes for a formula, behind any number of the apostrophes that make it text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")

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

    Of a refused one, `values` are as the file has them, and `faults` what is wrong. A password is never in it.
    """

    line: int
    username: str
    outcome: Outcome
    values: Mapping[str, str]
    before: Mapping[str, str] = field(default_factory=dict)
    password: bool = False
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file, or, where it was not applied, what would; `lines` are all of it, in order."""

    lines: tuple[Line, ...]
    applied: bool

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What is wrong with which line."""
        return tuple(Failure(line.line, line.username, fault) for line in self.lines for fault in line.faults)

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


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    values: Mapping[str, str] = field(repr=False)  # may hold a password

    @property
    def username(self) -> str:
        return self.values["username"]

    @property
    def password(self) -> str:
        return self.values.get("password", "")


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
    rows, unread = _read(text)
    count = _Count(2 * len(rows) + sum(1 for row in rows if row.password), progress)
    # First every line on its own, undone at once: errors show, and no lock is held for longer than one line takes.
    planned = yield from _rehearse(actor, rows, update, count)
    report = _report([*planned.values(), *unread])
    if report.failures or dry_run or (expected is not None and report.lines != expected):
        return report
    # Ten thousand hashes take minutes: they are made while others can write.
    hashed = yield from _hash(rows, count)
    report = _write(actor, rows, update, hashed, planned, count)
    if rows and report.applied:
        yield count.another()
    return report


def _rehearse(
    actor: Principal, rows: Iterable[_Row], update: bool, count: "_Count"
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
        if not line.faults:
            line = _judged(row, line, seen)
        if settings.RBAC_DEFAULT_ROLE == FIRST_ADMIN and not line.faults and _is_active_admin(line):
            newcomers = "user"
        planned[row.line] = line
    return planned


def _is_active_admin(line: Line) -> bool:
    return line.values["role"] == ADMIN and line.values["active"] == "true"


def _judged(row: _Row, line: Line, seen: dict[str, int]) -> Line:
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


def _hash(rows: Iterable[_Row], count: "_Count") -> Generator[tuple[int, int], None, dict[int, Hashed]]:
    """Return the hashes of the rows' passwords, by line."""
    hashed: dict[int, Hashed] = {}
    for row in rows:
        if row.password:
            hashed[row.line] = Hashed(make_password(row.password))
            yield count.another()
    return hashed


def _write(
    actor: Principal,
    rows: Iterable[_Row],
    update: bool,
    hashed: Mapping[int, Hashed],
    planned: Mapping[int, Line],
    count: "_Count",
) -> ImportReport:
    """Do what was planned, all of it in one transaction or nothing; the last step is the caller's to count. Raises Forbidden."""
    lines = []
    try:
        with transaction.atomic():
            lock()
            _require_still(actor)
            for number, row in enumerate(rows):
                if number:
                    count.tell()
                line = _do(actor, row, update, hashed.get(row.line))
                if not line.faults and line != planned[row.line]:
                    line = _refused(row, "Somebody changed this meanwhile. Look again at what the file would do.")
                lines.append(line)
            if any(line.faults for line in lines):
                raise _Refused
    except _Refused:
        return _report(lines)
    return _report(lines, applied=True)


def _require_still(actor: Principal) -> None:
    """Raise Forbidden when the actor may less than at the beginning: hashing takes minutes. Call it under `lock`."""
    if actor.kind is Kind.SYSTEM:
        return
    found = standing_as(actor.kind, actor.uid, actor.name)
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


def _do(actor: Principal, row: _Row, update: bool, password: Hashed | None, newcomers: str | None = None) -> Line:
    """Do what the row says, and return what that was; or what was refused, with nothing done."""
    try:
        with transaction.atomic():
            user = _existing(row) if update else None
            if user is not None:
                return _update(actor, row, user)
            user = _create(actor, row, password, newcomers)
            return Line(row.line, user.username, Outcome.CREATED, _values(user), password=bool(row.password))
    except ServiceError as error:
        return _refused(row, error.message)


def _refused(row: _Row, fault: str) -> Line:
    shown = {name: row.values.get(name, "") for name in _VALUES}
    return Line(row.line, row.username, Outcome.REFUSED, shown, password=bool(row.password), faults=(fault,))


def _values(user: User) -> dict[str, str]:
    """Return what an import can say of a user, as an export says it."""
    return {
        "role": user.role.name,
        "email": user.email,
        "display_name": user.display_name,
        "sign_in": str(user.sign_in),
        "active": str(user.is_active).lower(),
    }


def _existing(row: _Row) -> User | None:
    try:
        return User.objects.select_related("role").filter(username=canonical_username(row.username)).first()
    except BadName:
        return None  # who creates it says what is wrong


def _update(actor: Principal, row: _Row, user: User) -> Line:
    """Make a user what the row says, and return what that changed. Raises ServiceError."""
    if row.password:
        raise Invalid.field("password", f"{user.username} exists already. An import sets no password but a new user's.")
    before = _values(user)
    new = {name: value for name, value in _said(row).items() if value != before[name]}
    if "role" in new:
        user = set_role(actor=actor, user=user, role=new["role"])
    profile = {name: new[name] for name in ("email", "display_name", "sign_in") if name in new}
    if profile:
        user = update_profile(actor=actor, user=user, **profile)
    if "active" in new:
        user = set_active(actor=actor, user=user, active=new["active"] == "true")
    after = _values(user)
    changed = {name: before[name] for name in _VALUES if after[name] != before[name]}
    return Line(row.line, user.username, Outcome.CHANGED if changed else Outcome.SAME, after, changed)


def _create(actor: Principal, row: _Row, password: Hashed | None, newcomers: str | None) -> User:
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


def _said(row: _Row) -> dict[str, str]:
    """Return what a row says of its user, but for name and password. Raises Invalid."""
    said = {name: row.values[name] for name in _VALUES if row.values.get(name) or (name in row.values and name in _MAY_BE_EMPTY)}
    if "active" in said:
        said["active"] = said["active"].lower()  # spreadsheets write TRUE
        if said["active"] not in {"true", "false"}:
            raise Invalid.field("active", "active is true or false.")
    return said


def users_in(text: str) -> int:
    """Return how many users a CSV text names. Raises Invalid for one of which no line can be read."""
    return len(_read(text)[0])


def _read(text: str) -> tuple[list[_Row], list[Line]]:
    """Return the rows that can be read, and as refused lines those that cannot. Raises Invalid."""
    _judge(text)
    reader = csv.reader(io.StringIO(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), newline=""), strict=True)
    rows: list[_Row] = []
    unread: list[Line] = []
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not columns:
                columns = _columns(cells) if cells else []
            elif len(cells) == len(columns):
                rows.append(
                    _Row(
                        line,
                        {name: cell if name == "password" else plain(cell) for name, cell in zip(columns, cells, strict=True)},
                    )
                )
            elif cells:
                unread.append(_unread(line, f"This line has {len(cells)} values, the header has {len(columns)}."))
            line = reader.line_num + 1
    except csv.Error as error:
        unread.append(_unread(line, f"This is not CSV: {error}. Nothing behind it was looked at."))
    if not columns and not unread:
        raise Invalid.field("csv", f"The file is empty. Its first line names the columns: {','.join(IMPORTED)}.")
    if len(rows) > MAX_ROWS:
        raise Invalid.field("csv", f"The file has more than {MAX_ROWS:,} users. Split it.")
    return rows, unread


def _unread(line: int, fault: str) -> Line:
    return Line(line, "", Outcome.REFUSED, {}, faults=(fault,))


def _judge(text: str) -> None:
    """Raise Invalid for what is too large, or no text at all."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise Invalid.field("csv", "The text is not Unicode: it has half a surrogate pair.") from None
    if size > MAX_BYTES:
        raise Invalid.field("csv", f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it.")
    if "\x00" in text:
        raise Invalid.field("csv", "The file has a NUL character; it is not CSV.")


def _columns(cells: list[str]) -> list[str]:
    """Return the canonical column names. Raises Invalid."""
    names = [cell.strip().lower() for cell in cells]
    if unknown := [name for name in names if name not in IMPORTED and name not in EXPORTED]:
        raise Invalid.field("csv", f"Unknown column: {', '.join(map(repr, unknown))}. Known are: {', '.join(IMPORTED)}.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid.field("csv", f"Column named twice: {', '.join(twice)}.")
    if "username" not in names:
        raise Invalid.field("csv", "There is no column username. The first line names the columns.")
    return names


def plain(cell: str) -> str:
    """Return a cell as it was before an export made it safe. Not for a password: it was never exported, and is taken as it is."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def safe(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; `plain` undoes it."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def export_users(actor: Principal) -> Iterator[str]:
    """Return the lines of a CSV of all users, without their passwords. Raises Forbidden at once."""
    require(actor, Permission.USERS_READ)
    return _lines()


def _lines() -> Iterator[str]:
    yield _line(EXPORTED)
    for user in User.objects.select_related("role").order_by("username").iterator(chunk_size=1_000):
        yield _line(
            (
                user.username,
                user.role.name,
                user.email,
                user.display_name,
                user.sign_in,
                str(user.is_active).lower(),
                user.created_at.isoformat(),
                user.last_seen_at.isoformat() if user.last_seen_at else "",
            )
        )


def _line(cells: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([safe(cell) for cell in cells])
    return buffer.getvalue()
