from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from ops import backup, base


class Command(base.Command):
    help = "Write a backup of the database into a new file that only its owner can read. Servers can run meanwhile."
    examples = ("backup /var/backups/skyauth-2026-11-30",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="The new file.")

    def act(self, *, file: Path, **_: Any) -> None:
        backup.back_up(file)
        size, needed = file.stat().st_size, backup.also_needed()
        if self.as_json:
            self.print_json({"file": str(file), "bytes": size, "also_needed": needed})
        else:
            self.print_table(["FILE", "BYTES"], [[file, f"{size:,}"]])
        self.say("Not in this file, and also needed to restore: " + "; ".join(needed) + ".")
