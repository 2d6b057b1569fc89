from typing import Any

from django.core.management.base import CommandParser

from accounts.services import service_accounts
from ops import base, rows


class Command(base.Command):
    help = "Enable a disabled service account again, with the role from before. Its tokens that are active are accepted."
    examples = ("enable_service_account pipeline",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The name or id.")

    def act(self, *, name: str, **_: Any) -> None:
        account = service_accounts.get_account(self.actor, name)
        row = service_accounts.update_service_account(actor=self.actor, account=account, active=True)
        if self.as_json:
            self.print_json(rows.service_account(row))
            return
        self.say(f"{row.name} is enabled, with the role {row.role.name}.")
        if row.owner is not None and not row.owner.is_active:
            self.say(f"Warning: the owner {row.owner.username} is disabled, so the account is still refused.")
