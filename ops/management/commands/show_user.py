from typing import Any

from django.core.management.base import CommandParser

from accounts.models import ServiceAccount
from accounts.services import offboarding, users
from ops import base, rows


class Command(base.Command):
    help = "Show a user: role and permissions, sign-in method, service accounts, and the numbers of tokens and sessions."
    examples = ("show_user bob@example.com", "show_user bob@example.com --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The username or id.")

    def act(self, *, name: str, **_: Any) -> None:
        row = users.find_user(name)
        found = offboarding.affected(row)
        accounts = list(ServiceAccount.objects.filter(owner=row).values_list("name", flat=True))
        permissions = sorted(row.permissions)
        if self.as_json:
            owned = {"service_accounts": accounts, "active_tokens": found.tokens_count, "sessions": found.sessions}
            self.print_json(rows.listed_user(row) | {"permissions": permissions} | owned)
            return
        self.print_table(
            ["", ""],
            [
                ("Username", row.username),
                ("Id", row.uid),
                ("Role", f"{row.role.name} ({row.get_role_source_display()})"),
                ("Permissions", permissions or "none, because the user is disabled"),
                ("Active", row.is_active),
                ("Sign-in", row.get_sign_in_display()),
                ("E-mail", row.email or None),
                ("Display name", row.display_name or None),
                ("Created", row.created_at),
                ("Last request", row.last_seen_at or "never"),
                ("Service accounts", accounts or "none"),
                ("Active tokens", found.tokens_count),
                ("Sessions", found.sessions),
            ],
        )
