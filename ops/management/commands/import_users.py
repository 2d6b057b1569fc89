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
    help = """Create the users of a CSV file, or change them: all of them or, with any bad line, none.

The first line names the columns: username, and where wanted password, role, email, display_name, sign_in (password, sso
or both) and active (true or false). A user who exists is a bad line; with --update they become what the other columns say:
an empty role, password, sign_in or active says nothing, an empty email or display_name empties it. A file that
export_users made can be imported, here or elsewhere."""
    examples = ("import_users people.csv --dry-run", "import_users people.csv", "import_users - --update < people.csv")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The file, or - for standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Write nothing; say what would happen.")
        parser.add_argument("--update", action="store_true", help="Change users who exist, but for their passwords.")

    def act(self, *, file: str, dry_run: bool, update: bool, **_: Any) -> None:
        text = text_files.read(file, limit=user_csv.MAX_BYTES)
        with _progress() as progress:
            report = user_import.import_users(actor=self.actor, text=text, dry_run=dry_run, update=update, progress=progress)
        failures = [{"line": each.line, "username": each.username, "error": each.error} for each in report.failures]
        if self.as_json:
            done = {"applied": report.applied, "dry_run": dry_run, "created": report.created, "changed": report.changed}
            self.print_json({**done, "failures": failures})
        elif failures:
            self.print_table(["LINE", "USER", "WHAT IS WRONG"], [tuple(each.values()) for each in failures])
        if failures:
            self.say(f"{len(failures)} bad line{'s' * (len(failures) > 1)}; nothing was written.")
            self.end(base.Exit.REFUSED)
        would = "would be " if dry_run else ""
        said = f"{_users(len(report.created))} {would}created"
        if update:
            said += f", {_users(len(report.changed))} {would}changed"
        self.say(f"{said} (--dry-run)." if dry_run else f"{said}.")


def _users(number: int) -> str:
    return f"{number} user{'s' * (number != 1)}"


@contextmanager
def _progress() -> Iterator[user_import.Progress | None]:
    """Give what shows a progress bar on standard error, where somebody watches it."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Users", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
