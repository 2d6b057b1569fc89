"""Users as CSV (RFC 4180): a file of them read line by line, and all of them as one. `people_import` does what a file says."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from accounts.models import User
from core.errors import Invalid
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import require

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 5_000_000
VALUES: Final = ("role", "email", "display_name", "sign_in", "active")
IMPORTED: Final = ("username", "password", *VALUES)
EXPORTED: Final = ("username", *VALUES, "created_at", "last_seen_at")
# What a spreadsheet takes for a formula, behind any number of the apostrophes that make it text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a file that can be read: its number, the header's being 1, and its cells by their columns."""

    line: int
    values: Mapping[str, str] = field(repr=False)  # may hold a password

    @property
    def username(self) -> str:
        return self.values["username"]

    @property
    def password(self) -> str:
        return self.values.get("password", "")


def read(text: str) -> tuple[list[Row], dict[int, str]]:
    """Return the rows that can be read, and by line what is wrong with those that cannot. Raises Invalid."""
    _judge(text)
    reader = csv.reader(io.StringIO(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), newline=""), strict=True)
    rows: list[Row] = []
    unread: dict[int, str] = {}
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not columns:
                columns = _columns(cells) if cells else []
            elif len(cells) == len(columns):
                named = zip(columns, cells, strict=True)
                rows.append(Row(line, {name: cell if name == "password" else plain(cell) for name, cell in named}))
            elif cells:
                unread[line] = f"This line has {len(cells)} values, the header has {len(columns)}."
            line = reader.line_num + 1
    except csv.Error as error:
        unread[line] = f"This is not CSV: {error}. Nothing behind it was looked at."
    if not columns and not unread:
        raise Invalid.field("csv", f"The file is empty. Its first line names the columns: {','.join(IMPORTED)}.")
    if len(rows) > MAX_ROWS:
        raise Invalid.field("csv", f"The file has more than {MAX_ROWS:,} users. Split it.")
    return rows, unread


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


def values(user: User) -> dict[str, str]:
    """Return what a file can say of a user, by the names of VALUES and in their order."""
    return {
        "role": user.role.name,
        "email": user.email,
        "display_name": user.display_name,
        "sign_in": str(user.sign_in),
        "active": str(user.is_active).lower(),
    }


def export_users(actor: Principal) -> Iterator[str]:
    """Return the lines of a CSV of all users, without their passwords. Raises Forbidden at once."""
    require(actor, Permission.USERS_READ)
    return _lines()


def _lines() -> Iterator[str]:
    yield _line(EXPORTED)
    for user in User.objects.select_related("role").order_by("username").iterator(chunk_size=1_000):
        last_seen = user.last_seen_at.isoformat() if user.last_seen_at else ""
        yield _line((user.username, *values(user).values(), user.created_at.isoformat(), last_seen))


def _line(cells: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([safe(cell) for cell in cells])
    return buffer.getvalue()
