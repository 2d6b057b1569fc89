from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from accounts.services import user_csv
from ops import base, secret_files


class Command(base.Command):
    help = "Write all users as CSV, without their passwords, in a form that no spreadsheet takes for formulas."
    examples = ("export_users", "export_users people.csv")
    answers_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", metavar="FILE", nargs="?", default="-", help="A new file, of mode 0600; - is standard output."
        )

    def act(self, *, file: str, **_: Any) -> None:
        lines = user_csv.export_users(self.actor)
        if file == "-":
            for line in lines:
                self.stdout.write(line, ending="")
            return
        with secret_files.new_file(Path(file)) as write:
            write("".join(lines))
        self.say(f"The users are in {file}.")
