import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ops import base


class Command(base.Command):
    help = "Not available: SkyAuth has no superusers, only roles. Use create_user NAME --role admin."
    answers_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        for option in ("--username", "--email", "--database"):  # Django's options, so that they lead to the same message
            parser.add_argument(option, help=argparse.SUPPRESS)
        parser.add_argument("--noinput", "--no-input", action="store_true", help=argparse.SUPPRESS)

    def act(self, *args: Any, **options: Any) -> None:
        raise CommandError("SkyAuth has no superusers. Use: manage.py create_user NAME --role admin")
