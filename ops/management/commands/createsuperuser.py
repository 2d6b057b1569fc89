import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ops import base


class Command(base.Command):
    help = "Does not exist here: what a user may do follows from the role alone. Says what to use instead."
    answers_json = False

    def add_arguments(self, parser: CommandParser) -> None:
        for option in ("--username", "--email", "--database"):  # Django's, so that whoever gives them hears the same
            parser.add_argument(option, help=argparse.SUPPRESS)
        parser.add_argument("--noinput", "--no-input", action="store_true", help=argparse.SUPPRESS)

    def act(self, *args: Any, **options: Any) -> None:
        raise CommandError("There are no superusers here. Use: manage.py create_user NAME --role admin")
