from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ops import base
from skyauth import reference


class Command(base.Command):
    help = "Generate a page of the reference documentation from the code, or the file .env.example (env)."
    examples = ("reference settings", "reference --write")
    answers_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "page", choices=list(reference.PAGES), nargs="?", help="The page. With --write, the default is all pages."
        )
        parser.add_argument("--write", action="store_true", help="Write the file instead of printing the page.")

    def act(self, *, page: str | None, write: bool, **_: Any) -> None:
        if not write:
            if page is None:
                self.misused(f"Specify a page: {', '.join(reference.PAGES)}.")
            self.stdout.write(reference.PAGES[page][1](), ending="")
            return
        for name, (path, make) in reference.PAGES.items():
            if page in {None, name}:
                (settings.BASE_DIR / path).write_text(make(), encoding="utf-8")
                self.say(f"Wrote {path}.")
