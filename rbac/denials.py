"""Denied requests: record one, and find it again by its decision id."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit.events import Event
from audit.models import Entry
from audit.record import Key, record_refusal
from core.errors import Conflict, NotFound
from core.text import clean
from rbac.explain import CredentialStatus, Explanation, explain
from rbac.permissions import EVERYTHING, Permission
from rbac.policy import Decision, Reason, holders
from rbac.principals import Kind, Method, Principal
from rbac.services import role_table
from rbac.targets import NOT_RECEIVED, RawTarget, Target

_MAX_PATH: Final = 1_000  # characters of the path that is recorded
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"  # no request path contains it
_FACTS: Final = ("method", "host", "path", "needed", "rule", "kind", "role", "source")


def facts(principal: Principal, decision: Decision, *, method: str, host: str, path: str) -> dict[str, str]:
    """Return everything that the decision depended on, as text: the data of its audit entry."""
    recorded = path if len(path) <= _MAX_PATH else path[: _MAX_PATH - 1] + _CUT
    values = (
        clean(method, 32),
        clean(host, 300),
        clean(recorded, _MAX_PATH),
        decision.needed or "",
        decision.rule,
        principal.kind,
        principal.role,
        principal.method,
    )
    return dict(zip(_FACTS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Denial:
    """Who was denied what, and why. `target` is None for an unreadable request; then `raw` has what was received."""

    principal: Principal
    decision: Decision
    target: Target | None
    raw: RawTarget = NOT_RECEIVED

    @property
    def asked(self) -> str:
        """The request as one line of text."""
        return "unreadable request" if self.target is None else str(self.target)

    @property
    def reason(self) -> str:
        """The reason as a word, and the message."""
        return f"{self.decision.reason}: {self.decision.message}"

    def facts(self) -> dict[str, str]:
        """Return everything that the decision depended on, as `facts` does."""
        if self.target is None:
            method, host, path = self.raw.method, self.raw.host, self.raw.path
        else:
            method, host, path = self.target.method, self.target.host, self.target.text
        return facts(self.principal, self.decision, method=method, host=host, path=path)

    def key(self) -> Key:
        """Return the key of the denial: denials with the same key have one audit entry per minute.

        Callers differ by all facts, but anonymous ones only by their address, so that trying many paths makes one entry. Faulty
        requests have an entry for each reason, because their response has the decision id.
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


PrincipalLookup = Callable[[Kind, str, str], tuple[Principal, CredentialStatus] | None]
"""Finds the current principal of a kind, uid and name, such as `accounts.principal_lookup.current_principal`."""


@dataclass(frozen=True, slots=True)
class PastDenial:
    """A denied request, its caller and the reason, and how it would be decided now.

    `source` is how the caller was authenticated (`principals.Method`), `reason` a stable word. `method`, `host` and `path` are
    as the proxy sent them. `roles` have the required permission today. If `now` is None, `now_unknown` says why.
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
    """Return the denial with this decision id. Raises NotFound."""
    return _past_denial(_entry(reference), current)


def past_denial_for(*, actor: Principal, reference: str, current: PrincipalLookup) -> PastDenial:
    """Return the denial with this decision id, if it is the actor's own or the actor can explain others. Raises NotFound."""
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
        f"There is no recorded decision {clean(reference, 32)!r}. It may be mistyped, pruned with old audit entries, or one of "
        "many denials in the same minute, which are counted but not recorded one by one. To see how a request is decided now, "
        "use: explain USER METHOD PATH."
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
    entry: Entry, current: tuple[Principal, CredentialStatus] | None, method: str, host: str, path: str
) -> tuple[Explanation | None, str]:
    """Return how the same request of the same caller is decided now, or None and the reason why that is unknown."""
    if entry.reason.partition(":")[0] == Reason.CROSS_ORIGIN:
        return None, "It depends on the page that sends the request."
    if not (method and host and path) or path.endswith(_CUT):
        return None, "The recorded request is incomplete, so it cannot be decided again."
    if current is None:
        return None, f"The {entry.data['kind']} {entry.actor} no longer exists."
    try:
        return explain(*current, method=method, host=host, path=path), ""
    except Conflict as error:
        return None, error.message
