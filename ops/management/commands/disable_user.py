from typing import Any

from django.core.management.base import CommandParser

from accounts.services import offboarding as service
from ops import base, offboarding, rehearsal, rows


class Command(base.Command):
    help = """Disable a user. Passwords, sessions and the tokens of the user's service accounts are refused from the next request.

The last active admin cannot be disabled."""
    examples = (
        "disable_user bob@example.com --dry-run",
        "disable_user bob@example.com",
        "disable_user bob@example.com --transfer-to alice@example.com",
        "disable_user bob@example.com --service-accounts revoke",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        offboarding.add_arguments(parser, "refused until the user is enabled")

    def act(self, *, name: str, service_accounts: str | None, transfer_to: str | None, dry_run: bool, **_: Any) -> None:
        leaving = offboarding.read(self, name=name, service_accounts=service_accounts, transfer_to=transfer_to)
        with rehearsal.rehearsed(dry_run):
            row = service.disable_user(
                actor=self.actor, user=leaving.user, account_action=leaving.action, transfer_to=leaving.new_owner
            )
        if self.as_json:
            self.print_json(rows.user(row) | leaving.json() | {"dry_run": dry_run})
            return
        self.say(f"{row.username} would be disabled (--dry-run)." if dry_run else f"{row.username} is disabled.")
        for sentence in leaving.effects(deleted=False):
            self.say(sentence)
