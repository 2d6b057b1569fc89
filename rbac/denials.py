"""Denied requests: what is recorded of one, and what is known of it later by its decision id."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit.events import Event
from audit.models import Entry
from audit.record import Key, record_refusal
from core.errors import Conflict, NotFound
from core.text import clean
from rbac.explain import Explanation, Standing, explain
from rbac.permissions import EVERYTHING, Permission
from rbac.policy import Decision, holders
from rbac.principals import Kind, Method, Principal
from rbac.services import role_table
from rbac.targets import NOT_RECEIVED, RawTarget, Target

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
class Denial:
    """Who was denied what, and why. `target` is None where the request could not be read; then `raw` is all there is of it."""

    principal: Principal
    decision: Decision
    target: Target | None
    raw: RawTarget = NOT_RECEIVED

    @property
    def asked(self) -> str:
        """The request in a line."""
        return "unreadable request" if self.target is None else str(self.target)

    @property
    def reason(self) -> str:
        """Why, in a word and a sentence."""
        return f"{self.decision.reason}: {self.decision.message}"

    def facts(self) -> dict[str, str]:
        """Return everything that the decision hung on."""
        if self.target is None:
            method, host, path = self.raw.method, self.raw.host, self.raw.path
        else:
            method, host, path = self.target.method, self.target.host, self.target.text
        return facts(self.principal, self.decision, method=method, host=host, path=path)

    def key(self) -> Key:
        """Return what makes two denials one, for which one entry a minute is enough: the same facts.

        Of a stranger one tells enough, whatever paths they try; and one of each kind that they are told the id of.
        """
        if not self.principal.is_authenticated:
            return ("anonymous", self.principal.peer, self.reason if self.decision.is_request_fault else "")
        return (self.principal.uid, self.principal.peer, self.reason, *self.facts().values())


def record_denial(principal: Principal, asked: str, reason: str, *, key: Key = (), facts: Mapping[str, str] | None = None) -> str:
    """Record that `principal` was denied what they `asked`, such as "GET /skyauth/users", and return the decision id.

    `reason` is a message or, of a decision, its stable word and its message. `key` and `facts` are those of
    `audit.record.record_refusal`: only with `facts` can `past_denial` find the denial by its id. Never raises.
    """
    return record_refusal(Event.REQUEST_DENIED, actor=principal, target=asked, reason=reason, key=key, facts=facts)


PrincipalLookup = Callable[[Kind, str, str], tuple[Principal, Standing] | None]
"""Finds the principal of a kind, uid and name as it is now; `accounts.principal_lookup.current_principal` is the one there is."""


@dataclass(frozen=True, slots=True)
class PastDenial:
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
    now: Explanation | None
    now_unknown: str


def past_denial(reference: str, *, current: PrincipalLookup) -> PastDenial:
    """Return the decision that a refused caller was told the id of. Raises NotFound."""
    return _past_denial(_entry(reference), current)


def past_denial_for(*, actor: Principal, reference: str, current: PrincipalLookup) -> PastDenial:
    """Return what `past_denial` does, to an actor who is allowed to ask; everybody is about themselves. Others look absent.

    Raises NotFound.
    """
    entry = _entry(reference)
    if not actor.holds(Permission.POLICY_EXPLAIN) and (not actor.uid or entry.actor_uid != actor.uid):
        raise _no_decision(reference)
    return _past_denial(entry, current)


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


def _past_denial(entry: Entry, current: PrincipalLookup) -> PastDenial:
    method, host, path, needed, rule, kind, role, source = (str(entry.data[name]) for name in _FACTS)
    reason, _, message = entry.reason.partition(": ")
    now, now_unknown = _now(entry, current(Kind(kind), entry.actor_uid, entry.actor), method, host, path)
    return PastDenial(
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


def _now(
    entry: Entry, found: tuple[Principal, Standing] | None, method: str, host: str, path: str
) -> tuple[Explanation | None, str]:
    """Return what the same request of the same caller would be answered now, or None and why that cannot be told."""
    if not (method and host and path) or path.endswith(_CUT):
        return None, "The request is not known well enough to be asked about again."
    if found is None:
        return None, f"There is no {entry.data['kind']} {entry.actor} any more."
    try:
        return explain(*found, method=method, host=host, path=path), ""
    except Conflict as error:
        return None, error.message
