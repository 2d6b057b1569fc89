from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from accounts.filters import TOKEN_CHOICES, ServiceAccountFilterSet
from accounts.models import ServiceAccount
from accounts.querysets import active_token
from accounts.services import service_accounts
from ops import base, filtering, rows

_COLUMNS = {"name": "NAME", "role": "ROLE", "owner": "OWNER", "active": "ACTIVE", "active_tokens": "TOKENS"}


class Command(base.Command):
    help = "List service accounts with their role, owner and number of active tokens. --json has more values."
    examples = (
        "list_service_accounts",
        "list_service_accounts --owner bob@example.com",
        "list_service_accounts --no-owner --state active",
        "list_service_accounts --tokens soon --json",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--search", metavar="TEXT", help="Only accounts with these words in the name or the description.")
        parser.add_argument("--role", metavar="ROLE", help="Only accounts with this role.")
        filtering.add_state_argument(parser, "accounts")
        owner = parser.add_mutually_exclusive_group()
        owner.add_argument("--owner", metavar="NAME", help="Only accounts of this user.")
        owner.add_argument("--no-owner", action="store_true", help="Only accounts without an owner.")
        choices = ", ".join(f"{value} ({meaning})" for value, meaning in TOKEN_CHOICES)
        parser.add_argument(
            "--tokens", choices=[value for value, _ in TOKEN_CHOICES], help=f"Only accounts with such tokens: {choices}."
        )

    def act(
        self,
        *,
        search: str | None,
        role: str | None,
        state: str | None,
        owner: str | None,
        no_owner: bool,
        tokens: str | None,
        **_: Any,
    ) -> None:
        counted = service_accounts.visible(self.actor).annotate(active_tokens=Count("tokens", filter=active_token("tokens__")))
        listed = filtering.filtered(
            ServiceAccountFilterSet,
            counted.order_by("name"),
            search=search,
            role=role,
            active=filtering.ACTIVE[state],
            owner=owner,
            unowned="true" if no_owner else None,
            tokens=tokens,
        )
        self.print_rows(rows.stream(listed, _row), _COLUMNS, nothing="No service accounts match.")


def _row(account: ServiceAccount) -> dict[str, Any]:
    return rows.listed_service_account(account) | {"active_tokens": account.active_tokens}  # type: ignore[attr-defined]
