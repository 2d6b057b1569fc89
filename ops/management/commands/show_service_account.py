from typing import Any

from django.core.management.base import CommandParser

from accounts.principal_lookup import service_account_principal
from accounts.services import service_accounts, tokens
from ops import base, rows
from rbac.explain import CredentialStatus


class Command(base.Command):
    help = "Show a service account: its role and permissions within those of its owner, and its tokens."
    examples = ("show_service_account pipeline", "show_service_account pipeline --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The name or id.")

    def act(self, *, name: str, **_: Any) -> None:
        row = service_accounts.get_account(self.actor, name)
        principal, status = service_account_principal(row)
        accepted = status is CredentialStatus.GOOD
        permissions = sorted(principal.permissions)
        listed = [rows.token(token) for token in tokens.visible_tokens(self.actor).filter(account=row)]
        if self.as_json:
            effective = {"effective_role": principal.role or None, "permissions": permissions, "accepted": accepted}
            self.print_json(rows.listed_service_account(row) | effective | {"tokens": listed})
            return
        capped = (
            "" if principal.role == row.role.name else f", limited by the owner to {principal.role or 'the permissions below'}"
        )
        self.print_table(
            ["", ""],
            [
                ("Name", row.name),
                ("Id", row.uid),
                ("Name for the upstream", row.upstream_name),
                ("Role", f"{row.role.name}{capped}"),
                ("Permissions", permissions),
                ("Owner", row.owner.username if row.owner else "none"),
                ("Requests", "accepted with an active token" if accepted else f"refused: {status.value.replace('-', ' ')}"),
                ("Description", row.description or None),
                ("Created", row.created_at),
                ("Created by", row.created_by),
                ("Tokens", [f"{token['key_id']} {token['state']}" for token in listed] or "none"),
            ],
        )
