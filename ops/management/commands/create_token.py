from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Q

from accounts.models import ServiceAccount
from accounts.services import service_accounts, tokens
from core.errors import Conflict, NotFound
from ops import base, token_output


class Command(base.Command):
    help = "Create a token for a service account. The token is printed once on standard output, or written to a file."
    examples = (
        "create_token pipeline",
        "create_token pipeline --days 90 --name 'GitHub Actions' --output pipeline.token",
        "create_token nightly --create --role viewer --json",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", metavar="ACCOUNT", help="The name or id of the service account.")
        parser.add_argument("--name", metavar="TEXT", default="", help="A name for the token, such as its use.")
        parser.add_argument(
            "--create", action="store_true", help="Create the service account, without an owner, if it does not exist."
        )
        parser.add_argument(
            "--role", metavar="ROLE", help="With --create: the role. If the account exists with another role, the command fails."
        )
        token_output.add_arguments(parser)

    def act(
        self, *, account: str, name: str, create: bool, role: str | None, days: int | None, output: Path | None, **_: Any
    ) -> None:
        if role and not create:
            self.misused("--role needs --create. To change the role of an existing account, use set_role.")

        existed = not create or ServiceAccount.objects.filter(Q(name=account.lower()) | Q(uid=account)).exists()

        def issue() -> tokens.IssuedToken:
            row = self._account(account, role) if create else service_accounts.get_account(self.actor, account)
            if not existed:
                self.say(f"There was no service account {row.name}. It gets the role {row.role.name} and no owner.")
            return tokens.issue_token(actor=self.actor, account=row, days=days, name=name)

        token_output.deliver(self, output, issue, f"Token created for {account}")

    def _account(self, name: str, role: str | None) -> ServiceAccount:
        """Return the account of this name, and create it if it does not exist. Raises Conflict if its role is another one."""
        try:
            account = service_accounts.get_account(self.actor, name)
        except NotFound:
            return service_accounts.create_service_account(actor=self.actor, name=name, role=role, unowned=True)
        if role and account.role.name != role:
            raise Conflict(
                f"The service account {account.name} exists and has the role {account.role.name}. To change it, use set_role."
            )
        return account
