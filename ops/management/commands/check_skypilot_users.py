import csv
from dataclasses import asdict
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandParser

from core.errors import Invalid
from integrations.skypilot import names
from integrations.skypilot.client import UpstreamUnavailable
from ops import base, text_files

_COLUMNS = {"name": "NAME ON THE SERVER", "becomes": "NAME IN SKYAUTH", "reason": "REASON"}
MAX_TEXT: Final = 50_000_000


class Command(base.Command):
    help = """Check the user names of an existing SkyPilot API server before its users sign in through SkyAuth.

The server treats names that differ in upper and lower case as different users. SkyAuth writes names in lower case. The command
lists the users who would not find their clusters and jobs again, and the names that SkyAuth does not accept. It changes nothing.

It reads the users of the server (SKYPILOT_URL), or FILE: a CSV with the column `username`, such as the server's export, or one
name on each line. The exit code is 3 if a name changes."""
    examples = ("check_skypilot_users", "check_skypilot_users users.csv", "check_skypilot_users users.csv --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", nargs="?", help="The file; - is standard input. Without it, ask the server.")

    def act(self, *, file: str | None, **_: Any) -> None:
        listed = self._server_names() if file is None else _names(text_files.read(file, limit=MAX_TEXT))
        problems = [{**asdict(problem), "becomes": problem.becomes or None} for problem in names.problems(listed)]
        count = len(set(listed))
        self.print_rows(problems, _COLUMNS, nothing=f"{count} name{'s' * (count != 1)}: none of them changes.")
        if problems:
            self.say(f"{len(problems)} of {count} names change.")
            self.end(base.Exit.DIFFERENT)

    def _server_names(self) -> list[str]:
        if not settings.SKYPILOT_URL:
            raise Invalid("SKYPILOT_URL is empty: no SkyPilot API server is configured. Set it, or name a file.")
        try:
            return names.server_names()
        except UpstreamUnavailable as error:
            raise Invalid(str(error)) from None


def _names(text: str) -> list[str]:
    """Return the names in the column `username`, or on the lines where there is none. Raises Invalid."""
    lines = [line for line in text.splitlines() if line.strip()]
    header = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    if "username" in header:
        column = header.index("username")
        return [row[column].strip() for row in csv.reader(lines[1:]) if len(row) > column and row[column].strip()]
    if any("," in line for line in lines):
        raise Invalid("The file has several columns, and none of them is named username.")
    return [line.strip() for line in lines]
