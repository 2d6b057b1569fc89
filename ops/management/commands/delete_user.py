from typing import Any

from django.core.management.base import CommandParser

from accounts.models import DeletedUser
from accounts.services import deleted_users
from accounts.services import offboarding as service
from ops import base, offboarding, rehearsal


class Command(base.Command):
    help = """Delete a user. The command asks first, unless you use --yes or --dry-run.

Service accounts that stay or are transferred have at most the permissions that they had before. A user of single
sign-on can return at the next request, unless the name is blocked; see deleted_users. The last active admin cannot be
deleted."""
    examples = (
        "delete_user bob@example.com --dry-run",
        "delete_user bob@example.com --transfer-to alice@example.com",
        "delete_user eve@example.com --service-accounts revoke --block --yes",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        offboarding.add_arguments(parser, "without an owner")
        block = parser.add_mutually_exclusive_group()
        block.add_argument("--block", action="store_true", help="Block the name, so that single sign-on refuses it.")
        block.add_argument(
            "--no-block", action="store_true", help="Do not block the name. Default: block the name of a disabled user."
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def act(
        self,
        *,
        name: str,
        service_accounts: str | None,
        transfer_to: str | None,
        dry_run: bool,
        block: bool,
        no_block: bool,
        yes: bool,
        **_: Any,
    ) -> None:
        leaving = offboarding.read(self, name=name, service_accounts=service_accounts, transfer_to=transfer_to)
        user = leaving.user
        effects = list(leaving.effects(deleted=True))
        if not block and not no_block and (consequence := deleted_users.consequence(user)):
            effects.append(consequence)
        if not dry_run:
            self.confirm(" ".join([f"Delete {user.username}, who has the role {user.role.name}?", *effects]), yes=yes)
        with rehearsal.rehearsed(dry_run):
            service.delete_user(
                actor=self.actor,
                user=user,
                account_action=leaving.action,
                transfer_to=leaving.new_owner,
                block=True if block else False if no_block else None,
            )
            blocked = DeletedUser.objects.filter(username=user.username, blocked=True).exists()
        if self.as_json:
            values = {"username": user.username, "uid": user.uid, "blocked": blocked}
            self.print_json(values | leaving.json() | {"dry_run": dry_run})
            return
        self.say(f"{user.username} would be deleted (--dry-run)." if dry_run else f"{user.username} is deleted.")
        if dry_run or yes:
            for sentence in effects:
                self.say(sentence)
