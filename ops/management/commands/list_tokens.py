from typing import Any

from django.core.management.base import CommandParser

from accounts.services import service_accounts, tokens
from ops import base, rows

_COLUMNS = {
    "key_id": "KEY ID",
    "account": "ACCOUNT",
    "name": "NAME",
    "state": "STATE",
    "stopped": "STOPPED BY",
    "expires_at": "EXPIRES",
    "last_used_at": "LAST USED",
}


class Command(base.Command):
    help = "List tokens with their state, expiry and last use. The tokens themselves are not stored. --json has more values."
    examples = (
        "list_tokens",
        "list_tokens --account pipeline --state active",
        "list_tokens --expiring 7",
        "list_tokens --unused 90 --json",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", metavar="NAME", help="Only tokens of this service account.")
        parser.add_argument("--state", choices=["active", "expired", "revoked"], help="Only tokens in this state.")
        parser.add_argument(
            "--expiring", type=base.number_argument, metavar="DAYS", help="Only active tokens that expire within DAYS days."
        )
        parser.add_argument(
            "--unused",
            type=base.number_argument,
            metavar="DAYS",
            help="Only active tokens that have not been used for DAYS days.",
        )

    def act(self, *, account: str | None, state: str | None, expiring: int | None, unused: int | None, **_: Any) -> None:
        if any(days is not None and not 0 <= days <= tokens.MAX_DAYS for days in (expiring, unused)):
            self.misused(f"DAYS must be a whole number from 0 to {tokens.MAX_DAYS}.")
        listed = tokens.visible_tokens(self.actor).select_related("account__owner")
        if account is not None:
            listed = listed.filter(account=service_accounts.get_account(self.actor, account))
        if state is not None:
            listed = listed.in_state(state)
        if expiring is not None:
            listed = listed.expiring_within(expiring)
        if unused is not None:
            listed = listed.unused_for(unused)
        self.print_rows(rows.stream(listed, rows.token), _COLUMNS, nothing="No tokens match.")
