from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from core.errors import Invalid
from ops import base, secret_files
from ops.apply import export, manifest


class Command(base.Command):
    help = """Write roles, routes, group roles and service accounts as a YAML file for apply.

Applied to an empty installation, the file makes the same, and then shows no differences. Users and tokens are not part
of it: use export_users, or a backup. If service accounts have owners, apply the other sections first, then import the
users, and then apply the whole file.

With --json, the file is JSON, which apply reads too."""
    examples = (
        "export skyauth.yaml",
        "export --section roles --section routes",
        "export --unowned",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", metavar="FILE", nargs="?", default="-", help="The new file, of mode 0600. Default: standard output."
        )
        parser.add_argument(
            "--section",
            action="append",
            choices=manifest.SECTIONS,
            dest="sections",
            help="Only this section. You can use the option several times.",
        )
        parser.add_argument("--unowned", action="store_true", help="Leave out service accounts that have an owner.")

    def act(self, *, file: str, sections: list[str] | None, unowned: bool, **_: Any) -> None:
        exported = export.read(sections or manifest.SECTIONS, only_unowned=unowned)
        text = exported.as_json() if self.as_json else exported.as_yaml()
        if file == "-":
            self.stdout.write(text, ending="")
        else:
            with secret_files.new_file(Path(file)) as write:
                write(text)
            self.say(f"Exported to {file}.")
        if exported.owners:
            self.say(f"Before this file is applied elsewhere, these owners must exist: {', '.join(exported.owners)}.")
        try:
            manifest.read(text)
        except Invalid as error:  # a row of an older version, or one written past the services
            self.say(f"Warning: apply does not accept this file.\n{error.message}")
            self.end(base.Exit.REFUSED)
