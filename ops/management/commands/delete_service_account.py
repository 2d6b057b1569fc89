from typing import Any

from django.core.management.base import CommandParser

from accounts.services import service_accounts
from ops import base, rehearsal


class Command(base.Command):
    help = """Delete a service account with all its tokens. The command asks first, unless you use --yes or --dry-run.

To keep its history readable, disable it instead."""
    examples = (
        "delete_service_account pipeline --dry-run",
        "delete_service_account pipeline",
        "delete_service_account pipeline --yes",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The name or id.")
        parser.add_argument("--dry-run", action="store_true", help="Show what would be deleted, without changing anything.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def act(self, *, name: str, dry_run: bool, yes: bool, **_: Any) -> None:
        account = service_accounts.get_account(self.actor, name)
        name, uid, active = account.name, account.uid, account.tokens.active().count()
        key_ids = list(account.tokens.values_list("key_id", flat=True))
        if not dry_run:
            self.confirm(f"Delete the service account {name}, with {_number(key_ids)}, {active} of them active?", yes=yes)
        with rehearsal.rehearsed(dry_run):
            service_accounts.delete_service_account(actor=self.actor, account=account)
        if self.as_json:
            self.print_json({"name": name, "uid": uid, "tokens": key_ids, "active_tokens": active, "dry_run": dry_run})
            return
        doing = "would be deleted (--dry-run)" if dry_run else "is deleted"
        self.say(f"{name} {doing}, with {_number(key_ids)}, {active} of them active.")


def _number(key_ids: list[str]) -> str:
    return "1 token" if len(key_ids) == 1 else f"{len(key_ids)} tokens"
