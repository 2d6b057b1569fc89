"""Users as CSV (RFC 4180): read the rows of a file, and export all users. `user_import` applies the rows."""

import codecs
import csv
import io
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Final

from accounts.models import User
from accounts.services.user_csv_columns import EXPORTED, FIRST_NAME, LAST_NAME, Header, known, read_header
from core.csv_lines import csv_line, unescape_cell
from core.errors import Invalid
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import require

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 5_000_000
BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_DELIMITERS: Final = (",", ";", "\t")  # a spreadsheet writes the one of its country, or tabs
_AS_TYPED: Final = frozenset({"password", "display_name"})

# The formats of crypt, htpasswd, LDAP and Django.
_HASH: Final = re.compile(
    r"\$\$?(?:1|2[abxy]?|5|6|7|y|apr1|argon2\w*|scrypt|pbkdf2[\w-]*|bcrypt-sha256)\$"
    r"|\{[A-Z0-9-]+\}|(?:argon2|bcrypt|pbkdf2|scrypt)\w*\$"
)


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


@dataclass(frozen=True, slots=True)
class UserFile:
    """The readable rows of a file; what is wrong with the others, by line number; and the columns that are ignored."""

    rows: tuple[UserRow, ...]
    errors: Mapping[int, str]
    ignored: tuple[str, ...]


def decode(raw: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, as spreadsheets save it. Raises Invalid."""
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Invalid.field("csv", f"The file is not UTF-8 (line {line}). Save it as CSV UTF-8.") from None


def is_hash(password: str) -> bool:
    """Return whether a password is the hash of one, exported from another system."""
    return _HASH.match(password) is not None


def read_rows(text: str) -> UserFile:
    """Return the rows of a CSV file, whose cells are separated by commas, semicolons or tabs.

    Lines without a value are skipped, and so are empty cells after the last column. Raises Invalid for a file that is empty, too
    large, not text, or without a valid header.
    """
    _require_text(text)
    text = text.removeprefix(BOM)
    line = 1
    if text[:4].lower() == "sep=":  # Excel's own first line
        text, line = text.partition("\n")[2], 2
    offset = line - 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[UserRow] = []
    errors: dict[int, str] = {}
    header: Header | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                pass
            elif header is None:
                header = read_header(cells)
            elif (row := _row(line, header, cells)) is not None:
                rows.append(row)
            else:
                errors[line] = f"This line has {len(cells)} values, but the header has {len(header.columns)}."
            line = offset + reader.line_num + 1
    except csv.Error as error:
        errors[line] = f"This is not CSV: {error}. The lines after it were not read."
    if header is None and not errors:
        raise Invalid.field("csv", "The file is empty. The first line names the columns: username, role, email and others.")
    if len(rows) > MAX_ROWS:
        raise Invalid.field("csv", f"The file has more than {MAX_ROWS:,} users. Split it.")
    return UserFile(tuple(rows), errors, header.ignored if header is not None else ())


def _delimiter(text: str) -> str:
    """Return the delimiter with which the first line that has a value names the most columns; a comma in doubt."""
    first = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    return max(_DELIMITERS, key=lambda delimiter: known([cell.strip('"') for cell in first.split(delimiter)]))


def _row(line: int, header: Header, cells: list[str]) -> UserRow | None:
    """Return the row of these cells, or None if their number is wrong."""
    width = len(header.columns)
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
        return None
    values = {
        column: cell if column == "password" else unescape_cell(cell if column in _AS_TYPED else cell.strip())
        for column, cell in zip(header.columns, cells[:width], strict=True)
        if column
    }
    names = [values.pop(column, "").strip() for column in (FIRST_NAME, LAST_NAME)]
    if any(names) and not values.get("display_name"):
        values["display_name"] = " ".join(filter(None, names))
    if "active" in values:
        values["active"] = header.active.get(values["active"].lower(), values["active"])
    return UserRow(line, values)


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


def user_values(user: User) -> dict[str, str]:
    """Return the cells of a user, by the names of VALUES and in their order."""
    return {
        "role": user.role.name,
        "email": user.email,
        "display_name": user.display_name,
        "sign_in": str(user.sign_in),
        "active": str(user.is_active).lower(),
    }


def export_users(actor: Principal, *, for_spreadsheet: bool = False) -> Generator[str, None, None]:
    """Return the lines of a CSV file with all users, without their passwords. Raises Forbidden before the first line.

    `for_spreadsheet` begins it with a byte order mark, without which Excel does not read it as UTF-8. A copy of all users is for
    those who manage them; a user who can only read users reads pages of them.
    """
    require(actor, Permission.USERS_READ)
    require(actor, Permission.USERS_WRITE)
    return _lines(BOM if for_spreadsheet else "")


def _lines(start: str) -> Generator[str, None, None]:
    yield start + csv_line(EXPORTED)
    for user in User.objects.select_related("role").order_by("username").iterator(chunk_size=1_000):
        last_seen = user.last_seen_at.isoformat() if user.last_seen_at else ""
        yield csv_line((user.username, *user_values(user).values(), user.created_at.isoformat(), last_seen))
