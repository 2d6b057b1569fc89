"""What a manifest would do to callers: who would lose or gain permissions, and which recent requests would get another answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from accounts.models import GroupRole, ServiceAccount, User
from accounts.principal_lookup import permissions_of, service_account_principal, user_principal
from core.errors import Conflict
from ops.apply import reconcile
from ops.apply.changes import Change
from ops.apply.manifest import Manifest
from ops.base import Command
from ops.rehearsal import rehearsed
from rbac import preview as previews
from rbac import services
from rbac.explain import CredentialStatus
from rbac.preview import Preview
from rbac.principals import Principal

MOST_ROWS: Final = 50  # of each table; JSON has all
_GROUP: Final = "group"

# Kind and id of a caller, with the name and the permissions: none if the credentials are not accepted.
_Snapshot = Mapping[tuple[str, str], tuple[str, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class PermissionChange:
    """A user, a service account or a group whose permissions would change."""

    kind: str
    name: str
    loses: tuple[str, ...]
    gains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consequences:
    """The callers whose permissions would change, and the recent requests; None: the stored routes cannot be read."""

    callers: tuple[PermissionChange, ...]
    requests: Preview | None

    def json(self) -> dict[str, Any]:
        found = self.requests
        return {
            "callers": [
                {"kind": row.kind, "name": row.name, "loses": list(row.loses), "gains": list(row.gains)} for row in self.callers
            ],
            "requests_tried": found.tried if found else None,
            "requests": [
                {
                    "caller": effect.request.caller,
                    "kind": effect.request.caller_kind,
                    "method": effect.request.method,
                    "host": effect.request.host,
                    "path": effect.request.path,
                    "at": effect.request.at,
                    "allowed": effect.gained,
                }
                for effect in (found.effects if found else ())
            ],
        }


def preview(*, actor: Principal, manifest: Manifest, prune: bool) -> tuple[list[Change], Consequences]:
    """Apply the manifest, roll it back, and return the differences and what they would do. Raises what `apply` does."""
    with rehearsed(True):
        services.lock_policy()
        requests = previews.recent_requests()
        before, now = _callers(), _policy(requests)
        changes = reconcile.apply(actor=actor, manifest=manifest, prune=prune)
        after, then = _callers(), _policy(requests)
    effects = previews.compare(requests, now, then) if now is not None and then is not None else None
    return changes, Consequences(tuple(_changed(before, after)), effects)


def _policy(requests: Sequence[Any]) -> previews.PolicySnapshot | None:
    try:
        return previews.stored_policy(requests, permissions_of)
    except Conflict:
        return None


def _callers() -> _Snapshot:
    found: dict[tuple[str, str], tuple[str, frozenset[str]]] = {}
    users = map(user_principal, User.objects.select_related("role"))
    accounts = map(service_account_principal, ServiceAccount.objects.select_related("role", "owner", "owner__role"))
    for principal, status in (*users, *accounts):
        held = principal.permissions if status is CredentialStatus.GOOD else frozenset()
        found[principal.kind, principal.uid] = principal.name, held
    for row in GroupRole.objects.select_related("role"):
        found[_GROUP, row.group] = row.group, row.role.holds
    return found


def _changed(before: _Snapshot, after: _Snapshot) -> list[PermissionChange]:
    """Return who has other permissions afterwards, sorted by kind and name."""
    rows = []
    nothing: tuple[str, frozenset[str]] = ("", frozenset())
    for key in before.keys() | after.keys():
        (old_name, old), (new_name, new) = before.get(key, nothing), after.get(key, nothing)
        if old != new:
            rows.append(PermissionChange(key[0], new_name or old_name, tuple(sorted(old - new)), tuple(sorted(new - old))))
    return sorted(rows, key=lambda row: (row.kind, row.name))


def show(command: Command, consequences: Consequences) -> None:
    """Print two tables, each after an empty line, and say how much is affected."""
    callers = consequences.callers
    if callers:
        command.stdout.write("")
        command.print_table(
            ["CALLER", "KIND", "LOSES", "GAINS"],
            [(row.name, row.kind, row.loses or "-", row.gains or "-") for row in callers[:MOST_ROWS]],
        )
    requests = consequences.requests
    if requests is not None and requests.effects:
        command.stdout.write("")
        command.print_table(
            ["RECENT REQUEST", "CALLER", "RESULT", "REQUIRES"],
            [
                (
                    f"{effect.request.method} {effect.request.host}{effect.request.path}",
                    effect.request.caller,
                    "newly allowed" if effect.gained else "newly denied",
                    effect.after.needed,
                )
                for effect in requests.effects[:MOST_ROWS]
            ],
        )
    _say_numbers(command, len(callers), requests)


def _say_numbers(command: Command, callers: int, requests: Preview | None) -> None:
    if callers > MOST_ROWS or (requests is not None and len(requests.effects) > MOST_ROWS):
        command.say(f"The tables show the first {MOST_ROWS} rows. --json has all.")
    if not callers:
        command.say("No user, service account or group would lose or gain permissions.")
    else:
        command.say(f"Users, service accounts and groups whose permissions would change: {callers}.")
    if requests is None:
        command.say("Recent requests cannot be compared: a stored route cannot be read, so every request is answered 503.")
    else:
        denied, allowed = len(requests.lost), len(requests.gained)
        command.say(f"Of {requests.tried} recent requests, {denied} would be newly denied and {allowed} newly allowed.")
