from typing import Any

from django.core.management.base import CommandParser

from accounts.services import service_accounts
from ops import base, rows


class Command(base.Command):
    help = "Disable a service account. Its tokens are refused from the next request, until it is enabled."
    examples = ("disable_service_account pipeline",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The name or id.")

    def act(self, *, name: str, **_: Any) -> None:
        account = service_accounts.get_account(self.actor, name)
        row = service_accounts.update_service_account(actor=self.actor, account=account, active=False)
        if self.as_json:
            self.print_json(rows.service_account(row))
        else:
            self.say(f"{row.name} is disabled.")
