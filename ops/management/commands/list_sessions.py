from typing import Any

from django.core.management.base import CommandParser

from accounts.models import SessionKind
from accounts.services import users
from authn import sessions
from ops import base, rows

SHORT = 12  # characters of an id that the table shows; end_session accepts them
_COLUMNS = {"short_id": "ID", "user": "USER", "kind": "KIND", "address": "ADDRESS", "last_used_at": "LAST USED"}


class Command(base.Command):
    help = "List the sessions of users, in browsers and of the CLI, the last-used one first. --json has more values."
    examples = ("list_sessions", "list_sessions --user bob@example.com", "list_sessions --kind cli --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", metavar="NAME", help="Only sessions of this user.")
        parser.add_argument("--kind", choices=SessionKind.values, help="Only sessions of this kind of client.")

    def act(self, *, user: str | None, kind: str | None, **_: Any) -> None:
        if user is None:
            listed = sessions.list_all_sessions(actor=self.actor)
        else:
            listed = sessions.list_sessions(actor=self.actor, user=users.find_user(user)).select_related("user")
        if kind is not None:
            listed = listed.filter(kind=kind)
        found = rows.stream(listed, rows.session)
        if self.as_json:
            self.print_rows(found, {}, nothing="")
        else:
            shortened = (row | {"short_id": row["id"][:SHORT]} for row in found)
            self.print_rows(shortened, _COLUMNS, nothing="No sessions match.")
