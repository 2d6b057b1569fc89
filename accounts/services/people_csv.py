"""Users as CSV (RFC 4180): all lines of a file become users, or none does, and every bad line is named."""

import csv
import io
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.models import User
from accounts.principals import Principal
from accounts.services.users import Hashed, create_user, judge_password
from rbac.errors import Invalid, ServiceError
from rbac.permissions import Permission
from rbac.services import require

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 5_000_000
IMPORTED: Final = ("username", "password", "role", "email", "display_name", "sign_in")
EXPORTED: Final = ("username", "role", "email", "display_name", "sign_in", "active", "created_at", "last_seen_at")
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


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file. `created` are the new users' names, or, in a dry run, those that would be; with failures, none."""

    created: tuple[str, ...]
    failures: tuple[Failure, ...]
    applied: bool


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


@dataclass(frozen=True, slots=True)
class Line:
    """What a line of a file asks for, but the password itself; `faults` are what is wrong with it."""

    line: int
    username: str
    role: str
    email: str
    display_name: str
    sign_in: str
    password: bool
    faults: tuple[str, ...]


def preview_users(*, actor: Principal, text: str) -> tuple[Line, ...]:
    """Return every line of a CSV text with what is wrong with it, as `import_users` would find it. Writes nothing.

    Raises Forbidden, and Invalid for a file of which no line can be read.
    """
    report = import_users(actor=actor, text=text, dry_run=True)
    faults: dict[int, list[str]] = {}
    for failure in report.failures:
        faults.setdefault(failure.line, []).append(failure.error)
    rows = {row.line: row for row in _read(text)[0]}
    lines = []
    for number in sorted(rows.keys() | faults.keys()):
        values = rows[number].values if number in rows else {}
        shown = {name: values.get(name, "") for name in ("username", "role", "email", "display_name", "sign_in")}
        lines.append(Line(number, **shown, password=bool(values.get("password")), faults=tuple(faults.get(number, ()))))
    return tuple(lines)


def import_users(*, actor: Principal, text: str, dry_run: bool = False, progress: Progress | None = None) -> ImportReport:
    """Create the users of a CSV text and return the report; all of them or, with any failure, none.

    Its first line names the columns, in any order and case: username, and where wanted password, role, email, display_name
    and sign_in; what only an export has (active, created_at, last_seen_at) is ignored. An empty role, password or sign_in is
    as good as none. `progress` hears how many steps of how many are done. Raises Forbidden, and Invalid for a file of which
    no line can be read.
    """
    steps = importing(actor=actor, text=text, dry_run=dry_run, progress=progress)
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            report: ImportReport = end.value
            return report
        if progress is not None:
            progress(*done)


def importing(*, actor: Principal, text: str, dry_run: bool = False, progress: Progress | None = None) -> Steps:
    """Do what `import_users` does, step by step: yields how many of how many are done, and returns the report.

    It never waits for its reader while it holds a lock, so a browser that does not read on holds up nobody: of the transaction
    that writes only `progress` hears. Who stops before it has created nobody.
    """
    require(actor, Permission.USERS_WRITE)
    rows, failures = _read(text)
    with_password = [row for row in rows if row.password]
    count = _Count(2 * len(rows) + len(with_password))
    # First every line on its own, undone at once: errors show, and no lock is held for longer than one line takes.
    names = yield from _rehearse(actor, rows, failures, count)
    if failures or dry_run:
        return ImportReport(() if failures else tuple(names), _sorted(failures), applied=False)
    # Ten thousand hashes take minutes: they are made while others can write.
    hashed = {}
    for row in with_password:
        hashed[row.line] = Hashed(make_password(row.password))
        yield count.another()
    try:
        with transaction.atomic():
            created = []
            for number, row in enumerate(rows):
                if number:
                    done = count.another()
                    if progress is not None:
                        progress(*done)
                try:
                    created.append(_create(actor, row, hashed.get(row.line)).username)
                except ServiceError as error:  # somebody changed something meanwhile
                    failures.append(Failure(row.line, row.username, error.message))
            if failures:
                raise _Refused
    except _Refused:
        return ImportReport((), _sorted(failures), applied=False)
    if rows:
        yield count.another()
    return ImportReport(tuple(created), (), applied=True)


class _Count:
    """How many steps of how many are done."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def another(self) -> tuple[int, int]:
        """Count a step."""
        self._done += 1
        return self._done, self._total


def _sorted(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    return tuple(sorted(failures, key=lambda failure: failure.line))


def _rehearse(
    actor: Principal, rows: Iterable[_Row], failures: list[Failure], count: _Count
) -> Generator[tuple[int, int], None, list[str]]:
    """Return the names that the rows would create, and append what is wrong to `failures`."""
    seen: dict[str, int] = {}
    for row in rows:
        yield count.another()
        try:
            with transaction.atomic():
                user = _create(actor, row, Hashed("!") if row.password else None)
                transaction.set_rollback(True)
            if row.password:
                judge_password(row.password, user)
        except ServiceError as error:
            failures.append(Failure(row.line, row.username, error.message))
            continue
        if user.username in seen:
            failures.append(Failure(row.line, row.username, f"{user.username} is on line {seen[user.username]} already."))
        else:
            seen[user.username] = row.line
    return list(seen)


def _create(actor: Principal, row: _Row, password: Hashed | None) -> User:
    return create_user(
        actor=actor,
        username=row.username,
        password=password,
        role=row.values.get("role") or None,
        email=row.values.get("email"),
        display_name=row.values.get("display_name", ""),
        sign_in=row.values.get("sign_in") or None,
    )


def _read(text: str) -> tuple[list[_Row], list[Failure]]:
    """Return the rows that can be read, and what is wrong with the others. Raises Invalid."""
    _judge(text)
    reader = csv.reader(io.StringIO(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), newline=""), strict=True)
    rows: list[_Row] = []
    failures: list[Failure] = []
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
                failures.append(Failure(line, "", f"This line has {len(cells)} values, the header has {len(columns)}."))
            line = reader.line_num + 1
    except csv.Error as error:
        failures.append(Failure(line, "", f"This is not CSV: {error}. Nothing behind it was looked at."))
    if not columns and not failures:
        raise Invalid.field("csv", f"The file is empty. Its first line names the columns: {','.join(IMPORTED)}.")
    if len(rows) > MAX_ROWS:
        raise Invalid.field("csv", f"The file has more than {MAX_ROWS:,} users. Split it.")
    return rows, failures


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
