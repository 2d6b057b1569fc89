"""What `disable_user` and `delete_user` share: the options about service accounts, and what is affected."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.core.management.base import CommandParser

from accounts.models import ServiceAccount, User
from accounts.services import users
from accounts.services.offboarding import AccountAction, affected
from ops.base import Command

MOST_NAMES: Final = 10


def add_arguments(parser: CommandParser, stay: str) -> None:
    """Add the options. `stay` says what happens to service accounts that stay."""
    parser.add_argument("name", metavar="NAME", help="The username or id.")
    parser.add_argument(
        "--service-accounts",
        choices=[str(action) for action in AccountAction],
        help=f"What happens to the user's service accounts: they stay ({stay}), they are transferred, or they are disabled and "
        "their tokens revoked. Default: stay, or transfer with --transfer-to.",
    )
    parser.add_argument("--transfer-to", metavar="NAME", help="The user who gets the service accounts.")
    parser.add_argument("--dry-run", action="store_true", help="Show what would be affected, without changing anything.")


@dataclass(frozen=True, slots=True)
class Leaving:
    """A user who leaves, what happens to their service accounts, and how much is affected."""

    user: User
    action: AccountAction
    new_owner: User | None
    accounts: tuple[str, ...]
    tokens: int
    sessions: int

    def json(self) -> dict[str, Any]:
        return {
            "service_accounts": list(self.accounts),
            "service_accounts_action": str(self.action),
            "transferred_to": self.new_owner.username if self.new_owner else None,
            "active_tokens": self.tokens,
            "sessions": self.sessions,
        }

    def effects(self, *, deleted: bool) -> Iterator[str]:
        """Yield what happens to sessions and service accounts, in sentences without a time."""
        yield f"Sessions that end: {self.sessions}."
        if not self.accounts:
            return
        more = len(self.accounts) - MOST_NAMES
        names = ", ".join(self.accounts[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        match self.action:
            case AccountAction.TRANSFER:
                yield f"Service accounts of {self.new_owner} afterwards: {names}."
            case AccountAction.REVOKE:
                yield f"Service accounts that are disabled, and whose tokens are revoked: {names}."
            case _ if deleted:
                yield f"Service accounts without an owner afterwards: {names}."
            case _:
                yield f"Service accounts that are refused until the user is enabled: {names}."


def read(command: Command, *, name: str, service_accounts: str | None, transfer_to: str | None) -> Leaving:
    """Return who leaves, and what is affected. Raises NotFound, and CommandError for options that exclude each other."""
    user = users.find_user(name)
    default = AccountAction.STAY if transfer_to is None else AccountAction.TRANSFER
    action = default if service_accounts is None else AccountAction(service_accounts)
    if (action is AccountAction.TRANSFER) != (transfer_to is not None):
        command.misused("Use --transfer-to NAME together with --service-accounts transfer, or alone.")
    found = affected(user)
    names = tuple(ServiceAccount.objects.filter(owner=user).values_list("name", flat=True))
    new_owner = users.find_user(transfer_to) if transfer_to is not None else None
    return Leaving(user, action, new_owner, names, found.tokens_count, found.sessions)
