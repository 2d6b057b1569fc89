"""Users as CSV (RFC 4180): read the rows of a file, and export all users. `user_import` applies the rows."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from accounts.models import User
from core.csv_lines import csv_line, unescape_cell
from core.errors import Invalid
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import require

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 5_000_000
VALUES: Final = ("role", "email", "display_name", "sign_in", "active")
IMPORTED: Final = ("username", "password", *VALUES)
EXPORTED: Final = ("username", *VALUES, "created_at", "last_seen_at")


@dataclass(frozen=True, slots=True)
class UserRow:
    """A readable row of a file: the number of its first line (the header is line 1), and its cells by column name."""

    line: int
    values: Mapping[str, str] = field(repr=False)  # may hold a password

    @property
    def username(self) -> str:
        return self.values["username"]

    @property
    def password(self) -> str:
        return self.values.get("password", "")


def read_rows(text: str) -> tuple[list[UserRow], dict[int, str]]:
    """Return the readable rows, and by line number what is wrong with the others.

    Raises Invalid for a file that is empty, too large, not text, or without a valid header.
    """
    _require_text(text)
    reader = csv.reader(io.StringIO(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), newline=""), strict=True)
    rows: list[UserRow] = []
    errors: dict[int, str] = {}
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not columns:
                columns = _columns(cells) if cells else []
            elif len(cells) == len(columns):
                named = zip(columns, cells, strict=True)
                rows.append(UserRow(line, {name: cell if name == "password" else unescape_cell(cell) for name, cell in named}))
            elif cells:
                errors[line] = f"This line has {len(cells)} values, but the header has {len(columns)}."
            line = reader.line_num + 1
    except csv.Error as error:
        errors[line] = f"This is not CSV: {error}. The lines after it were not read."
    if not columns and not errors:
        raise Invalid.field("csv", f"The file is empty. The first line names the columns: {','.join(IMPORTED)}.")
    if len(rows) > MAX_ROWS:
        raise Invalid.field("csv", f"The file has more than {MAX_ROWS:,} users. Split it.")
    return rows, errors


def _require_text(text: str) -> None:
    """Raise Invalid for a file that is too large, or not text."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise Invalid.field("csv", "The text is not Unicode: it has half of a surrogate pair.") from None
    if size > MAX_BYTES:
        raise Invalid.field("csv", f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it.")
    if "\x00" in text:
        raise Invalid.field("csv", "The file has a NUL character, so it is not CSV.")


def _columns(cells: list[str]) -> list[str]:
    """Return the column names in lower case. Raises Invalid."""
    names = [cell.strip().lower() for cell in cells]
    if unknown := [name for name in names if name not in IMPORTED and name not in EXPORTED]:
        raise Invalid.field("csv", f"Unknown column: {', '.join(map(repr, unknown))}. The columns are: {', '.join(IMPORTED)}.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid.field("csv", f"The header has the same column twice: {', '.join(twice)}.")
    if "username" not in names:
        raise Invalid.field("csv", "The column username is missing. The first line names the columns.")
    return names


def user_values(user: User) -> dict[str, str]:
    """Return the cells of a user, by the names of VALUES and in their order."""
    return {
        "role": user.role.name,
        "email": user.email,
        "display_name": user.display_name,
        "sign_in": str(user.sign_in),
        "active": str(user.is_active).lower(),
    }


def export_users(actor: Principal) -> Iterator[str]:
    """Return the lines of a CSV file with all users, without their passwords. Raises Forbidden before the first line.

    A copy of all users is for those who manage them; a user who can only read users reads pages of them.
    """
    require(actor, Permission.USERS_READ)
    require(actor, Permission.USERS_WRITE)
    return _lines()


def _lines() -> Iterator[str]:
    yield csv_line(EXPORTED)
    for user in User.objects.select_related("role").order_by("username").iterator(chunk_size=1_000):
        last_seen = user.last_seen_at.isoformat() if user.last_seen_at else ""
        yield csv_line((user.username, *user_values(user).values(), user.created_at.isoformat(), last_seen))
