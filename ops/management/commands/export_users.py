from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from accounts.services import user_csv
from ops import base, secret_files


class Command(base.Command):
    help = """Export all users as CSV, without passwords. Values that a spreadsheet would read as formulas are escaped.

A file begins with a byte order mark, so that Excel reads it as UTF-8. Standard output does not."""
    examples = ("export_users", "export_users people.csv")
    answers_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", metavar="FILE", nargs="?", default="-", help="The new file, of mode 0600. Default: standard output."
        )

    def act(self, *, file: str, **_: Any) -> None:
        lines = user_csv.export_users(self.actor, for_spreadsheet=file != "-")
        if file == "-":
            with closing(lines):  # before the database is closed, also if the reader of the pipe has gone
                for line in lines:
                    self.stdout.write(line, ending="")
            return
        with secret_files.new_file(Path(file)) as write:
            write("".join(lines))
        self.say(f"Users exported to {file}.")
