import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console
from rich.progress import Progress

from accounts.services import user_csv, user_import
from ops import base, text_files


class Command(base.Command):
    help = """Create users from a CSV file, or change them. If any line has an error, no user is created or changed.

The first line contains the names of the columns: username, and optionally password, role, email, display_name, sign_in
(password, sso or both) and active (true or false). Without --update, a line with an existing user is an error. With
--update, existing users get the values of the other columns. An empty role, password, sign_in or active is ignored. An
empty email or display_name clears the value. You can import a file that export_users wrote."""
    examples = ("import_users people.csv --dry-run", "import_users people.csv", "import_users - --update < people.csv")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The CSV file; - is standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Check the file without changing anything.")
        parser.add_argument("--update", action="store_true", help="Also change existing users, but not their passwords.")

    def act(self, *, file: str, dry_run: bool, update: bool, **_: Any) -> None:
        text = text_files.read(file, limit=user_csv.MAX_BYTES)
        with _progress() as progress:
            report = user_import.import_users(actor=self.actor, text=text, dry_run=dry_run, update=update, progress=progress)
        failures = [{"line": each.line, "username": each.username, "error": each.error} for each in report.errors]
        if self.as_json:
            result = {"applied": report.applied, "dry_run": dry_run, "created": report.created, "changed": report.changed}
            self.print_json({**result, "failures": failures})
        elif failures:
            self.print_table(["LINE", "USER", "ERROR"], [tuple(each.values()) for each in failures])
        if failures:
            self.say(f"{len(failures)} line{'s' * (len(failures) > 1)} with errors. Nothing was changed.")
            self.end(base.Exit.REFUSED)
        would = "would be " if dry_run else ""
        message = f"{_users(len(report.created))} {would}created"
        if update:
            message += f", {_users(len(report.changed))} {would}changed"
        self.say(f"{message} (--dry-run)." if dry_run else f"{message}.")


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
