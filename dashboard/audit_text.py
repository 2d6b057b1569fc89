"""Audit entries as sentences, with links to the pages of their targets."""

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

# The words between the actor and the target.
_VERBS: Final[dict[str, str]] = {
    Event.AUDIT_PRUNED: "deleted old entries of the",
    Event.CLI_AUTHORIZED: "authorized a CLI login as",
    Event.CLI_SIGNED_IN: "signed in with the CLI as",
    Event.GROUP_ROLE_CREATED: "mapped the group",
    Event.GROUP_ROLE_DELETED: "deleted the role mapping of the group",
    Event.GROUP_ROLE_UPDATED: "changed the role mapping of the group",
    Event.REQUEST_DENIED: "was denied",
    Event.ROLE_CREATED: "created the role",
    Event.ROLE_DELETED: "deleted the role",
    Event.ROLE_UPDATED: "changed the role",
    Event.ROUTE_CREATED: "added the route",
    Event.ROUTE_DELETED: "deleted the route",
    Event.ROUTE_UPDATED: "changed the route",
    Event.ROUTES_REORDERED: "changed the order of the",
    Event.ROUTES_REPLACED: "replaced all",
    Event.SERVICE_ACCOUNT_CREATED: "created the service account",
    Event.SERVICE_ACCOUNT_DELETED: "deleted the service account",
    Event.SERVICE_ACCOUNT_UPDATED: "changed the service account",
    Event.SESSION_ENDED: "revoked sessions of",
    Event.SIGN_IN: "signed in as",
    Event.SIGN_IN_FAILURES_FORGOTTEN: "unlocked the user name",
    Event.SIGN_IN_GROUPS_IGNORED: "was signed in without their groups",
    Event.SIGN_IN_REFUSED: "was denied sign-in",
    Event.TOKEN_ISSUED: "created a token for",
    Event.TOKEN_REVOKED: "revoked a token of",
    Event.TOKEN_ROTATED: "rotated a token of",
    Event.USER_BLOCKED: "blocked the deleted user",
    Event.USER_CREATED: "created the user",
    Event.USER_DELETED: "deleted the user",
    Event.USER_PASSWORD_CHANGED: "changed the password of",
    Event.USER_UNBLOCKED: "unblocked the deleted user",
    Event.USER_UPDATED: "changed the user",
}
DENIALS: Final = (Event.REQUEST_DENIED, Event.SIGN_IN_REFUSED)
_MOST_NAMES: Final = 5  # longer lists are complete in the details only
_MOST_CHARACTERS: Final = 60  # of a value
_ACCOUNTS: Final = (Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE, Permission.SERVICE_ACCOUNTS_OWN)


@dataclass(frozen=True, slots=True)
class AuditSentence:
    """An entry as text: actor, `verb`, `target`, `result`. `link` is the page of the target, `details` the data as JSON."""

    entry: Entry
    verb: str
    target: str
    result: str
    link: str
    denied: bool
    details: str


def describe(entries: Iterable[Entry], reader: Principal) -> list[AuditSentence]:
    """Return the entries as sentences, with links to pages that the reader is allowed to open. Sends no queries of its own."""
    return [
        AuditSentence(
            entry=entry,
            verb=verb(entry),
            target="" if _is_own_sign_in(entry) else entry.target,
            result=result(entry),
            link="" if _is_own_sign_in(entry) else link(entry, reader),
            denied=entry.event in DENIALS,
            details=json.dumps(entry.data, indent=2, ensure_ascii=False) if entry.data else "",
        )
        for entry in entries
    ]


def verb(entry: Entry) -> str:
    """Return what the actor did to the target; the event's name if the event is unknown."""
    words = _VERBS.get(entry.event, entry.event)
    return words.removesuffix(" as") if _is_own_sign_in(entry) else words


def _is_own_sign_in(entry: Entry) -> bool:
    return entry.event in {Event.SIGN_IN, Event.CLI_SIGNED_IN} and entry.actor == entry.target


def result(entry: Entry) -> str:
    """Return the text after the target, made of the entry's data: new values, and old ones if there are any. "" without data."""
    data = entry.data if isinstance(entry.data, dict) else {}
    return _RESULTS[entry.event](data) if entry.event in _RESULTS else ""


def _after_colon(words: str) -> str:
    return f": {words}" if words else ""


def _with_role(data: Mapping[str, Any]) -> str:
    return f" with the role {data['role']}" if data.get("role") else ""


def _to_role(data: Mapping[str, Any]) -> str:
    return f" to the role {data['role']}" if data.get("role") else ""


def _with_permissions(data: Mapping[str, Any]) -> str:
    names = _names(data.get("permissions"))
    return f" with the permissions {names}" if names else ""


def _changes(data: Mapping[str, Any]) -> str:
    """Return the changed values: what was added to a list and removed from it, or the old and the new value."""
    old, new = data.get("old"), data.get("new")
    if isinstance(old, list) and isinstance(new, list):
        return _after_colon(_list_change(old, new))
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ""
    parts = []
    for name in [name for name in {**old, **new} if old.get(name) != new.get(name)]:
        before, after = old.get(name), new.get(name)
        if isinstance(before, list) and isinstance(after, list):
            words = _list_change(before, after)
        else:
            words = f"from {_value(before)} to {_value(after)}"
        parts.append(f"{name.replace('_', ' ')} {words}")
    return _after_colon("; ".join(parts))


def _list_change(old: Sequence[Any], new: Sequence[Any]) -> str:
    added, removed = [value for value in new if value not in old], [value for value in old if value not in new]
    return " and ".join(f"{word} {_names(values)}" for word, values in (("added", added), ("removed", removed)) if values)


def _names(values: Any) -> str:
    if not isinstance(values, list):
        return ""
    more = len(values) - _MOST_NAMES
    return ", ".join(map(str, values[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if value == "":
        return "empty"
    return ("yes" if value else "no") if isinstance(value, bool) else Truncator(str(value)).chars(_MOST_CHARACTERS)


def _deleted_user(data: Mapping[str, Any]) -> str:
    return (" and blocked the name" if data.get("blocked") else "") + _accounts_of_deleted_user(data)


def _accounts_of_deleted_user(data: Mapping[str, Any]) -> str:
    accounts = data.get("service_accounts")
    if not isinstance(accounts, list) or not accounts:
        return ""
    if data.get("transferred_to"):
        return f": transferred {_names(accounts)} to {data['transferred_to']}"
    return f": {_names(accounts)} without an owner"


def _key(data: Mapping[str, Any]) -> str:
    return str(data.get("key_id", ""))


def _created_token(data: Mapping[str, Any]) -> str:
    return f": {_key(data)}, {_expiry(data)}" if _key(data) else ""


def _expiry(data: Mapping[str, Any]) -> str:
    return f"expires {str(data['expires_at'])[:10]}" if data.get("expires_at") else "never expires"


def _rotated_token(data: Mapping[str, Any]) -> str:
    if not data.get("new"):
        return ""
    expires_at = data.get("old_expires_at")
    if expires_at:
        old = f"expires {str(expires_at)[:16].replace('T', ' ')} UTC"
    else:
        old = "still active" if data.get("grace") else "revoked"
    return f": new {data['new']}, {_expiry(data)}; old {data.get('old', '')}, {old}"


def _sessions(data: Mapping[str, Any]) -> str:
    return f" ({data['number']} sessions)" if isinstance(data.get("number"), int) and data["number"] > 1 else ""


def _address(data: Mapping[str, Any]) -> str:
    return f" for sign-in from {data['address']}" if data.get("address") else ""


_RESULTS: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    Event.GROUP_ROLE_CREATED: _to_role,
    Event.GROUP_ROLE_DELETED: _to_role,
    Event.GROUP_ROLE_UPDATED: _changes,
    Event.ROLE_CREATED: _with_permissions,
    Event.ROLE_UPDATED: _changes,
    Event.ROUTE_UPDATED: _changes,
    Event.SERVICE_ACCOUNT_CREATED: _with_role,
    Event.SERVICE_ACCOUNT_UPDATED: _changes,
    Event.SESSION_ENDED: _sessions,
    Event.SIGN_IN_FAILURES_FORGOTTEN: _address,
    Event.TOKEN_ISSUED: _created_token,
    Event.TOKEN_REVOKED: lambda data: _after_colon(_key(data)),
    Event.TOKEN_ROTATED: _rotated_token,
    Event.USER_CREATED: _with_role,
    Event.USER_PASSWORD_CHANGED: _changes,
    Event.USER_DELETED: _deleted_user,
    Event.USER_UPDATED: _changes,
}


def link(entry: Entry, reader: Principal) -> str:
    """Return the path of the target's page, or "" if there is none or the reader is not allowed to open it."""
    subject = entry.event.partition(".")[0]
    if entry.event == Event.REQUEST_DENIED:
        own = bool(entry.actor_uid) and entry.actor_uid == reader.uid
        visible = bool(entry.reference) and (own or reader.holds(Permission.POLICY_EXPLAIN))
        return reverse("dashboard:decision", args=[entry.reference]) if visible else ""
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
