"""`/users/import` and `/users/export`: SkyPilot's CSV format, with three columns and no quoting."""

from dataclasses import dataclass, field
from typing import Any, Final

from accounts.models import User
from accounts.services import users
from accounts.services.role_defaults import default_role
from accounts.services.user_csv import is_hash
from core.csv_lines import escape_cell, unescape_cell
from core.errors import ServiceError
from integrations.skypilot.roles import ROLES, skypilot_role
from rbac.permissions import Permission
from rbac.services import role_table
from skypilot.errors import HTTPException
from skypilot.operations import Call, Operation
from skypilot.validation import REQUIRED

COLUMNS: Final = ("username", "password", "role")
MAX_ROWS: Final = 1_000  # hashing a password takes time for each, and a client waits a minute or two


@dataclass(frozen=True, slots=True)
class _Row:
    username: str
    password: str = field(repr=False)
    role: str


def import_users(call: Call) -> dict[str, Any]:
    """Create a user for each line. An invalid line does not stop the others; the result counts and lists them."""
    rows, parse_errors = _read(call.body["csv_content"])
    creation_errors = [f"{row.username}: {error}" for row in rows if (error := _create(call, row)) is not None]
    return {
        "success_count": len(rows) - len(creation_errors),
        "error_count": len(creation_errors),
        "total_processed": len(rows),
        "parse_errors": parse_errors,
        "creation_errors": creation_errors,
    }


def _create(call: Call, row: _Row) -> str | None:
    """Create a user, or return an error. A misspelt role is an error: the default role, which can be admin, must not apply."""
    if row.role and row.role not in ROLES:
        return f"Invalid role: {row.role}"
    if User.objects.filter(username=row.username.lower()).exists():
        return "User already exists"
    if is_hash(row.password):
        return "The password is a hash. Hashes are not imported; set a new password."
    try:
        users.create_user(
            actor=call.actor, username=row.username, password=row.password, role=row.role or None, default=default_role
        )
    except ServiceError as error:
        return error.message
    return None


def _read(text: str) -> tuple[list[_Row], list[str]]:
    """Return the valid lines, and an error for each other one. Raises HTTPException."""
    if not text:
        raise HTTPException(400, "CSV content is required")
    lines = text.strip().split("\n")
    if len(lines) < 2:
        raise HTTPException(400, "CSV must have at least a header row and one data row")
    if len(lines) > MAX_ROWS + 1:
        raise HTTPException(400, f"The CSV has more than {MAX_ROWS:,} users. Split it into several files.")
    header = [name.strip().lower() for name in lines[0].split(",")]
    if missing := [name for name in COLUMNS if name not in header]:
        raise HTTPException(400, f"Missing required columns: {', '.join(missing)}")
    rows, errors = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(header):
            errors.append(f"Line {number}: Invalid number of columns")
            continue
        values = dict(zip(header, cells, strict=True))
        if not values["username"] or not values["password"]:
            errors.append(f"Line {number}: Username and password are required")
            continue
        rows.append(_Row(unescape_cell(values["username"]), values["password"], values["role"].lower()))
    if not rows and errors:
        raise HTTPException(400, f"No valid users found. Errors: {'; '.join(errors)}")
    return rows, errors


def export_users(call: Call) -> dict[str, Any]:  # noqa: ARG001 - as every operation
    """Return all users as CSV, oldest first, with an empty password column."""
    roles = {name: skypilot_role(permissions) for name, permissions in role_table().items()}
    rows = User.objects.order_by("created_at", "pk").values_list("username", "role__name")
    lines = [f"{escape_cell(name)},,{roles.get(role, 'viewer')}" for name, role in rows]
    return {"csv_content": "\n".join([",".join(COLUMNS), *lines]), "user_count": len(lines)}


OPERATIONS: Final = (
    Operation("POST", "users/import", (Permission.USERS_WRITE,), import_users, {"csv_content": REQUIRED}),
    Operation("GET", "users/export", (Permission.USERS_WRITE,), export_users),
)
