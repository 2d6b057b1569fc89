from typing import Any

from django.core.management.base import CommandParser

from accounts.models import User
from accounts.services import service_accounts, users
from core.errors import NotFound
from ops import base, rows


class Command(base.Command):
    help = "Set the role of a user or a service account. It applies from the next request."
    examples = ("set_role vera@example.com viewer", "set_role pipeline user")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The name or id of a user or a service account.")
        parser.add_argument("role", metavar="ROLE", help="The name of the role.")

    def act(self, *, name: str, role: str, **_: Any) -> None:
        result = self._set_role(name, role)
        if self.as_json:
            self.print_json(result)
        else:
            self.say(f"{result.get('username') or result['name']} now has the role {result['role']}.")

    def _set_role(self, name: str, role: str) -> dict[str, Any]:
        holder = self._find(name)
        if isinstance(holder, User):
            return rows.user(users.set_role(actor=self.actor, user=holder, role=role))
        return rows.service_account(service_accounts.update_service_account(actor=self.actor, account=holder, role=role))

    def _find(self, name: str) -> Any:
        """Return the user or the service account of this name or id. Raises NotFound."""
        for find in (users.find_user, lambda text: service_accounts.get_account(self.actor, text)):
            try:
                return find(name)
            except NotFound:
                continue
        raise NotFound(f"There is no user or service account named {name!r}.")
