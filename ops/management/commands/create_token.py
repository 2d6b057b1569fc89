from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from accounts.models import ServiceAccount
from accounts.services import service_accounts, tokens
from core.errors import Conflict, NotFound
from ops import base, token_output


class Command(base.Command):
    help = "Issue a token for a service account. It is printed on standard output, once, or written into a file."
    examples = (
        "create_token pipeline",
        "create_token pipeline --days 90 --name 'GitHub Actions' --output pipeline.token",
        "create_token nightly --create --role viewer --json",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", metavar="ACCOUNT", help="The service account's name or id.")
        parser.add_argument("--name", metavar="TEXT", default="", help="What the token is for.")
        parser.add_argument(
            "--create", action="store_true", help="Create the account, without an owner, if there is none of that name."
        )
        parser.add_argument(
            "--role", metavar="ROLE", help="With --create: the account's role. An account with another one is refused."
        )
        token_output.add_arguments(parser)

    def act(
        self, *, account: str, name: str, create: bool, role: str | None, days: int | None, output: Path | None, **_: Any
    ) -> None:
        if role and not create:
            self.misused("--role goes with --create. To change the role of an account that exists, use set_role.")

        def mint() -> tokens.IssuedToken:
            found = self._account(account, role) if create else service_accounts.get_account(self.actor, account)
            return tokens.issue_token(actor=self.actor, account=found, days=days, name=name)

        token_output.deliver(self, output, mint, f"Issued a token for {account}")

    def _account(self, name: str, role: str | None) -> ServiceAccount:
        """Return the account of that name, which is created where it is missing. Raises Conflict for another role."""
        try:
            found = service_accounts.get_account(self.actor, name)
        except NotFound:
            return service_accounts.create_service_account(actor=self.actor, name=name, role=role, unowned=True)
        if role and found.role.name != role:
            raise Conflict(
                f"The service account {found.name} exists and has the role {found.role.name}. Change it with set_role."
            )
        return found
