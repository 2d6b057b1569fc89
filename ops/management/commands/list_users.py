from typing import Any

from django.core.management.base import CommandParser

from accounts.filters import UserFilterSet
from accounts.models import SignIn, User
from ops import base, filtering, rows

_COLUMNS = {"username": "USERNAME", "role": "ROLE", "sign_in": "SIGN-IN", "active": "ACTIVE", "last_seen_at": "LAST REQUEST"}


class Command(base.Command):
    help = "List users with their role, sign-in method and last request. --json has more values."
    examples = ("list_users", "list_users --role admin", "list_users --state disabled --json", "list_users --search example.com")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--search",
            metavar="TEXT",
            help="Only users with these words in the username, e-mail address or display name.",
        )
        parser.add_argument("--role", metavar="ROLE", help="Only users with this role.")
        filtering.add_state_argument(parser, "users")
        parser.add_argument("--sign-in", choices=SignIn.values, help="Only users who sign in in this way.")

    def act(self, *, search: str | None, role: str | None, state: str | None, sign_in: str | None, **_: Any) -> None:
        users = User.objects.select_related("role")
        active = filtering.ACTIVE[state]
        listed = filtering.filtered(UserFilterSet, users, search=search, role=role, active=active, sign_in=sign_in)
        self.print_rows(rows.stream(listed, rows.listed_user), _COLUMNS, nothing="No users match.")
