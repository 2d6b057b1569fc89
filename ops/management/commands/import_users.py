import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import CommandParser
from rich.console import Console
from rich.progress import Progress

from accounts.services import user_csv, user_import
from accounts.services.user_import_report import ImportReport, RowAction, RowChange
from ops import base, text_files

_MOST_BYTES: Final = 2 * user_csv.MAX_BYTES + 2  # UTF-16 has two bytes for a character
_ACTIONS: Final = {RowAction.CREATED: "create", RowAction.CHANGED: "change"}


class Command(base.Command):
    help = """Create users from a CSV file, or change them. If any line has an error, no user is created or changed.

The first line contains the names of the columns: username, and optionally password, role, email, display_name, sign_in
(password, sso or both) and active (true or false). A new user without a role gets user, or RBAC_DEFAULT_ROLE if that is
less. Exports of Okta, Google Workspace and Microsoft Entra can be imported as they are. Without --update, a line with an
existing user is an error. With --update, existing users get the values of the other columns. An empty role, password,
sign_in or active is ignored. An empty email or display_name clears the value. You can import a file that export_users
wrote."""
    examples = ("import_users people.csv --dry-run", "import_users people.csv", "import_users - --update < people.csv")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The CSV file; - is standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Check the file without changing anything.")
        parser.add_argument("--update", action="store_true", help="Also change existing users, but not their passwords.")

    def act(self, *, file: str, dry_run: bool, update: bool, **_: Any) -> None:
        text = user_csv.decode(text_files.read_bytes(file, limit=_MOST_BYTES))
        with _progress() as progress:
            report = user_import.import_users(actor=self.actor, text=text, dry_run=dry_run, update=update, progress=progress)
        failures = [{"line": each.line, "username": each.username, "error": each.error} for each in report.errors]
        if self.as_json:
            result = {"applied": report.applied, "dry_run": dry_run, "created": report.created, "changed": report.changed}
            users = [_values(change) for change in _listed(report)]
            more = {"users": users, "new_admins": report.new_admins, "warnings": report.warnings}
            self.print_json({**result, **more, "failures": failures})
        elif failures:
            self.print_table(["LINE", "USER", "ERROR"], [tuple(each.values()) for each in failures])
        elif dry_run:
            self.print_table(["USER", "ACTION", "ROLE"], [_cells(change) for change in _listed(report)])
        if failures:
            self.say(f"{len(failures)} line{'s' * (len(failures) > 1)} with errors. Nothing was changed.")
            self.end(base.Exit.REFUSED)
        would = "would be " if dry_run else ""
        message = f"{_users(len(report.created))} {would}created"
        if update:
            message += f", {_users(len(report.changed))} {would}changed"
        if report.new_admins:
            number = len(report.new_admins)
            message += f"; {number} of them {would}with the role admin" if not dry_run else f"; {number} would get the role admin"
        self.say(f"{message} (--dry-run)." if dry_run else f"{message}.")
        for warning in report.warnings:
            self.say(f"Warning: {warning}")


def _listed(report: ImportReport) -> list[RowChange]:
    """Return the rows that create or change a user, those that make an admin first; none if any row has an error."""
    if report.errors:
        return []
    rows = [change for change in report.changes if change.action is not RowAction.SAME]
    return sorted(rows, key=lambda change: not change.makes_admin)


def _values(change: RowChange) -> dict[str, str | None]:
    return {
        "username": change.username,
        "action": change.action.value,
        "role": change.values["role"],
        "old_role": change.before.get("role"),
    }


def _cells(change: RowChange) -> tuple[str, str, str]:
    old = change.before.get("role")
    role = f"{old} -> {change.values['role']}" if old else change.values["role"]
    return change.username, _ACTIONS[change.action], f"{role} (!)" if change.makes_admin else role


def _users(number: int) -> str:
    return f"{number} user{'s' * (number != 1)}"


@contextmanager
def _progress() -> Iterator[user_import.Progress | None]:
    """Yield a function that updates a progress bar on standard error; None if standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Users", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
