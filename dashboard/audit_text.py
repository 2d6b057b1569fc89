"""What an audit entry says, as a sentence, and where on these pages the thing is that it is about."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.text import Truncator

from audit.events import Event
from audit.models import Entry
from rbac.permissions import Permission
from rbac.principals import Principal

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
_MOST_NAMED: Final = 5  # more than that is for the details to say
_LONGEST_WORD: Final = 60  # characters
_ACCOUNTS: Final = (Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE, Permission.SERVICE_ACCOUNTS_OWN)


@dataclass(frozen=True, slots=True)
class Told:
    """An entry as it is read: actor, `verb`, `target`, `outcome`; `link` is where the target is seen, `details` is its data."""

    entry: Entry
    verb: str
    target: str
    outcome: str
    link: str
    refused: bool
    details: str


def told(entries: Iterable[Entry], reader: Principal) -> list[Told]:
    """Return the entries as this person reads them. Asks the database nothing but for the entries."""
    return [
        Told(
            entry=entry,
            verb=verb(entry),
            target="" if _signs_in_themselves(entry) else entry.target,
            outcome=outcome(entry),
            link="" if _signs_in_themselves(entry) else link(entry, reader),
            refused=entry.event in REFUSALS,
            details=json.dumps(entry.data, indent=2, ensure_ascii=False) if entry.data else "",
        )
        for entry in entries
    ]


def verb(entry: Entry) -> str:
    """Return what the actor did to the target, in words; the event's own name for one that is not known here."""
    said = _VERBS.get(entry.event, entry.event)
    return said.removesuffix(" as") if _signs_in_themselves(entry) else said


def _signs_in_themselves(entry: Entry) -> bool:
    return entry.event in {Event.SIGN_IN, Event.CLI_SIGNED_IN} and entry.actor == entry.target


def outcome(entry: Entry) -> str:
    """Return what follows the target, from the entry's data: what was changed to what. "" when there is no more to say."""
    data = entry.data if isinstance(entry.data, dict) else {}
    said = _OUTCOMES[entry.event](data) if entry.event in _OUTCOMES else ""
    return f"{' ' if said.startswith('with ') else ': '}{said}" if said else ""


def _given(data: Mapping[str, Any]) -> str:
    return f"with the role {data['role']}" if data.get("role") else ""


def _changed(data: Mapping[str, Any]) -> str:
    """Return the values that are others now: a list by what came and went, everything else as from and to."""
    old, new = data.get("old"), data.get("new")
    if isinstance(old, list) and isinstance(new, list):
        return _came_and_went(old, new)
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ""
    parts = []
    for name in [name for name in {**old, **new} if old.get(name) != new.get(name)]:
        before, after = old.get(name), new.get(name)
        if isinstance(before, list) and isinstance(after, list):
            words = _came_and_went(before, after)
        else:
            words = f"from {_word(before)} to {_word(after)}"
        parts.append(f"{name.replace('_', ' ')} {words}")
    return ", ".join(parts)


def _came_and_went(old: Sequence[Any], new: Sequence[Any]) -> str:
    came, went = [value for value in new if value not in old], [value for value in old if value not in new]
    return " and ".join(f"{word} {_names(values)}" for word, values in (("added", came), ("took away", went)) if values)


def _names(values: Any) -> str:
    if not isinstance(values, list):
        return ""
    more = len(values) - _MOST_NAMED
    return ", ".join(map(str, values[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")


def _word(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return ("yes" if value else "no") if isinstance(value, bool) else Truncator(str(value)).chars(_LONGEST_WORD)


def _left(data: Mapping[str, Any]) -> str:
    """Return what a deleted user left behind."""
    accounts = data.get("service_accounts")
    if not isinstance(accounts, list) or not accounts:
        return ""
    return (
        f"{_names(accounts)} went to {data['transferred_to']}"
        if data.get("transferred_to")
        else f"no owner for {_names(accounts)}"
    )


def _key(data: Mapping[str, Any]) -> str:
    return str(data.get("key_id", ""))


def _issued(data: Mapping[str, Any]) -> str:
    return f"{_key(data)}, {_until(data)}" if _key(data) else ""


def _until(data: Mapping[str, Any]) -> str:
    return f"until {str(data['expires_at'])[:10]}" if data.get("expires_at") else "without an end"


def _rotated(data: Mapping[str, Any]) -> str:
    if not data.get("new"):
        return ""
    ends = data.get("old_expires_at")
    old = f"works until {str(ends)[:16].replace('T', ' ')}" if ends else "still works" if data.get("grace") else "has ended"
    return f"{data['new']}, {_until(data)}; {data.get('old', '')} {old}"


def _number(data: Mapping[str, Any]) -> str:
    return str(data["number"]) if isinstance(data.get("number"), int) and data["number"] > 1 else ""


_OUTCOMES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    Event.GROUP_ROLE_CREATED: lambda data: str(data.get("role", "")),
    Event.GROUP_ROLE_DELETED: lambda data: str(data.get("role", "")),
    Event.GROUP_ROLE_UPDATED: _changed,
    Event.ROLE_CREATED: lambda data: _names(data.get("permissions")),
    Event.ROLE_UPDATED: _changed,
    Event.ROUTE_UPDATED: _changed,
    Event.SERVICE_ACCOUNT_CREATED: _given,
    Event.SERVICE_ACCOUNT_UPDATED: _changed,
    Event.SESSION_ENDED: _number,
    Event.TOKEN_ISSUED: _issued,
    Event.TOKEN_REVOKED: _key,
    Event.TOKEN_ROTATED: _rotated,
    Event.USER_CREATED: _given,
    Event.USER_DELETED: _left,
    Event.USER_UPDATED: _changed,
}


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
