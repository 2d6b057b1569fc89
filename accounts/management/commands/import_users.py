import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console
from rich.progress import Progress

from accounts.management import base, textfiles
from accounts.services import people_csv


class Command(base.Command):
    help = """Create the users of a CSV file: all of them or, with any bad line, none.

The first line names the columns: username, and where wanted password, role, email, display_name and sign_in (password, sso
or both). A file that export_users made can be imported elsewhere."""
    examples = ("import_users people.csv --dry-run", "import_users people.csv", "import_users - < people.csv")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The file, or - for standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Create nobody; say what would happen.")

    def act(self, *, file: str, dry_run: bool, **_: Any) -> None:
        text = textfiles.read(file, limit=people_csv.MAX_BYTES)
        with _progress() as progress:
            report = people_csv.import_users(actor=self.actor, text=text, dry_run=dry_run, progress=progress)
        failures = [{"line": each.line, "username": each.username, "error": each.error} for each in report.failures]
        if self.as_json:
            self.print_json({"applied": report.applied, "dry_run": dry_run, "created": report.created, "failures": failures})
        elif failures:
            self.print_table(["LINE", "USER", "WHAT IS WRONG"], [tuple(each.values()) for each in failures])
        if failures:
            self.say(f"{len(failures)} bad line{'s' * (len(failures) > 1)}; nobody was created.")
            self.end(base.Exit.REFUSED)
        who = f"{len(report.created)} user{'s' * (len(report.created) != 1)}"
        self.say(f"{who} would be created (--dry-run)." if dry_run else f"{who} created.")


@contextmanager
def _progress() -> Iterator[people_csv.Progress | None]:
    """Give what shows a progress bar on standard error, where somebody watches it."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Users", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
