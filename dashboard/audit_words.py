"""What an audit entry says, as a sentence, and where on these pages the thing is that it is about."""

from typing import Final
from urllib.parse import urlencode

from django.urls import reverse

from accounts.principals import Principal
from audit.events import Event
from audit.models import Entry
from rbac.permissions import Permission

# Between the actor and the target.
_VERBS: Final[dict[str, str]] = {
    Event.AUDIT_PRUNED: "forgot old entries of",
    Event.CLI_AUTHORIZED: "authorized a command line of",
    Event.CLI_SIGNED_IN: "signed in by a command line as",
    Event.GROUP_ROLE_CREATED: "gave a role to the group",
    Event.GROUP_ROLE_DELETED: "took the role from the group",
    Event.GROUP_ROLE_UPDATED: "changed the role of the group",
    Event.REQUEST_DENIED: "was refused",
    Event.ROLE_CREATED: "created the role",
    Event.ROLE_DELETED: "deleted the role",
    Event.ROLE_UPDATED: "changed the role",
    Event.ROUTE_CREATED: "added the route",
    Event.ROUTE_DELETED: "deleted the route",
    Event.ROUTE_UPDATED: "changed the route",
    Event.ROUTES_REORDERED: "put into another order the",
    Event.ROUTES_REPLACED: "replaced all",
    Event.SERVICE_ACCOUNT_CREATED: "created the service account",
    Event.SERVICE_ACCOUNT_DELETED: "deleted the service account",
    Event.SERVICE_ACCOUNT_UPDATED: "changed the service account",
    Event.SESSION_ENDED: "ended sessions of",
    Event.SIGN_IN: "signed in as",
    Event.SIGN_IN_FAILURES_FORGOTTEN: "forgot the failed sign-ins of",
    Event.SIGN_IN_REFUSED: "was not let in",
    Event.TOKEN_ISSUED: "made a token for",
    Event.TOKEN_REVOKED: "revoked a token of",
    Event.TOKEN_ROTATED: "rotated a token of",
    Event.USER_CREATED: "created the user",
    Event.USER_DELETED: "deleted the user",
    Event.USER_PASSWORD_CHANGED: "changed the password of",
    Event.USER_UPDATED: "changed the user",
}
REFUSALS: Final = (Event.REQUEST_DENIED, Event.SIGN_IN_REFUSED)
_ACCOUNTS: Final = (Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE, Permission.SERVICE_ACCOUNTS_OWN)


def verb(entry: Entry) -> str:
    """Return what the actor did to the target, in words; the event's own name for one that is not known here."""
    return _VERBS.get(entry.event, entry.event)


def link(entry: Entry, reader: Principal) -> str:
    """Return the page of the thing that the entry is about, or "" when there is none, or none that the reader may see."""
    subject = entry.event.partition(".")[0]
    if entry.event == Event.REQUEST_DENIED:
        own = bool(entry.actor_uid) and entry.actor_uid == reader.uid
        seen = bool(entry.reference) and (own or reader.holds(Permission.POLICY_EXPLAIN))
        return reverse("dashboard:decision", args=[entry.reference]) if seen else ""
    match subject:
        case "user" | "session" | "cli" | "sign-in" if reader.holds(Permission.USERS_READ):
            return _search("dashboard:users", entry.target)
        case "service-account" | "token" if any(map(reader.holds, _ACCOUNTS)):
            return _search("dashboard:service-accounts", entry.target)
        case "route" | "routes" if reader.holds(Permission.ROUTES_READ):
            return reverse("dashboard:routes")
        case "role" if reader.holds(Permission.ROLES_READ):
            return reverse("dashboard:access")
        case "group-role" if reader.holds(Permission.ROLES_READ):
            return reverse("dashboard:groups")
        case _:
            return ""


def _search(page: str, text: str) -> str:
    return f"{reverse(page)}?{urlencode({'q': text})}" if text else ""
