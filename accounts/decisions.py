"""What is kept of a request that was denied, and the explanation of such a decision by its id."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from accounts import explain, principals
from accounts.explain import Standing
from accounts.models import ServiceAccount, User
from accounts.passwords import shared_hash
from accounts.principals import ANONYMOUS, Kind, Method, Principal
from audit.events import Event
from audit.models import Entry
from core.errors import Conflict, NotFound
from core.text import clean
from rbac.permissions import EVERYTHING, Permission
from rbac.policy import Decision, holders
from rbac.services import role_table

_LONGEST: Final = 1_000  # characters of a path that is kept
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"  # no path as a proxy tells it has one
_FACTS: Final = ("method", "host", "path", "needed", "rule", "kind", "role", "source")


def facts(principal: Principal, decision: Decision, *, method: str, host: str, path: str) -> dict[str, str]:
    """Return everything that a decision hung on as text: the data of its audit entry."""
    kept = path if len(path) <= _LONGEST else path[: _LONGEST - 1] + _CUT
    values = (
        clean(method, 32),
        clean(host, 300),
        clean(kept, _LONGEST),
        decision.needed or "",
        decision.rule,
        principal.kind,
        principal.role,
        principal.method,
    )
    return dict(zip(_FACTS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Recalled:
    """A decision of the past: a request that was denied, to whom and why, and what they would be answered now.

    `source` is how they were recognised (`principals.Method`), `reason` a stable word. `method`, `host` and `path` are what was
    asked, as far as the proxy said it once. `roles` are those that hold what was needed, today. `now` is None where that
    cannot be told: then `now_unknown` says why.
    """

    reference: str
    at: datetime
    name: str
    uid: str
    kind: Kind
    role: str
    source: Method
    peer: str
    method: str
    host: str
    path: str
    reason: str
    message: str
    needed: str
    rule: str
    roles: tuple[str, ...]
    now: explain.Explained | None
    now_unknown: str


def recall(reference: str) -> Recalled:
    """Return the decision that a refused caller was told the id of. Raises NotFound."""
    return _recalled(_entry(reference))


def recall_to(*, actor: Principal, reference: str) -> Recalled:
    """Return what `recall` does, to somebody who may ask; about oneself anybody may. Another's decision looks absent.

    Raises NotFound.
    """
    entry = _entry(reference)
    if not actor.holds(Permission.POLICY_EXPLAIN) and (not actor.uid or entry.actor_uid != actor.uid):
        raise _no_decision(reference)
    return _recalled(entry)


def _entry(reference: str) -> Entry:
    entry = Entry.objects.filter(event=Event.REQUEST_DENIED, reference=reference).first() if reference else None
    if entry is None:
        raise _no_decision(reference)
    return entry


def _no_decision(reference: str) -> NotFound:
    return NotFound(
        f"There is no decision {clean(reference, 32)!r} to be found. It may be mistyped, or as old as audit entries are kept, or"
        " one of a flood of refusals: those are counted and not written down one by one. What somebody would be answered now can"
        " be asked without it: explain WHO METHOD PATH."
    )


def _recalled(entry: Entry) -> Recalled:
    method, host, path, needed, rule, kind, role, source = (str(entry.data[name]) for name in _FACTS)
    reason, _, message = entry.reason.partition(": ")
    now, now_unknown = _now(entry, Kind(kind), method, host, path)
    return Recalled(
        reference=entry.reference,
        at=entry.at,
        name=entry.actor,
        uid=entry.actor_uid,
        kind=Kind(kind),
        role=role,
        source=Method(source),
        peer=entry.peer,
        method=method,
        host=host,
        path=path,
        reason=reason,
        message=message,
        needed=needed,
        rule=rule,
        roles=holders(Permission(needed), role_table()) if needed in EVERYTHING else (),
        now=now,
        now_unknown=now_unknown,
    )


def _now(entry: Entry, kind: Kind, method: str, host: str, path: str) -> tuple[explain.Explained | None, str]:
    """Return what the same request of the same caller would be answered now, or None and why that cannot be told."""
    if not (method and host and path) or path.endswith(_CUT):
        return None, "The request is not known well enough to be asked about again."
    found = standing_as(kind, entry.actor_uid, entry.actor)
    if found is None:
        return None, f"There is no {kind} {entry.actor} any more."
    try:
        return explain.explained(*found, method=method, host=host, path=path), ""
    except Conflict as error:
        return None, error.message


def standing_as(kind: Kind, uid: str, name: str) -> tuple[Principal, Standing] | None:
    """Return the principal of that kind and id as it is now, and its standing; None when there is none any more."""
    match kind:
        case Kind.USER:
            user = User.objects.select_related("role").filter(uid=uid).first()
            return explain.person(user) if user is not None else None
        case Kind.SERVICE_ACCOUNT:
            account = ServiceAccount.objects.select_related("role", "owner", "owner__role").filter(uid=uid).first()
            return explain.machine(account) if account is not None else None
        case Kind.SHARED:
            return (principals.shared(name, ""), Standing.GOOD) if shared_hash(name) is not None else None
        case _:
            return ANONYMOUS, Standing.GOOD
