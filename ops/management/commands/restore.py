from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from ops import backup, base


class Command(base.Command):
    help = "Replace the content of the database by that of a backup. Stop all servers first."
    examples = ("restore /var/backups/skyauth-2026-11-30 --replace",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="A file that the command backup has written.")
        parser.add_argument("--replace", action="store_true", help="Replace a database that is not empty.")

    def act(self, *, file: Path, replace: bool, **_: Any) -> None:
        with backup.without_servers():
            backup.restore(file, replace=replace)
        if self.as_json:
            self.print_json({"file": str(file)})
        self.say("Restored. Apply newer migrations before you start a server: manage.py migrate")
