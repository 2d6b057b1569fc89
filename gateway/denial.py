"""A request that was denied: what is told and kept of it."""

from dataclasses import dataclass

from accounts import decisions
from accounts.principals import Principal
from audit.record import Key
from gateway.forwarded import NOTHING_TOLD, Told
from rbac.policy import Decision
from rbac.routes import Target


@dataclass(frozen=True, slots=True)
class Denial:
    """Who was denied what, and why. `target` is None where the request could not be read; then `told` is all there is of it."""

    principal: Principal
    decision: Decision
    target: Target | None
    told: Told = NOTHING_TOLD

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
            method, host, path = self.told.method, self.told.host, self.told.path
        else:
            method, host, path = self.target.method, self.target.host, self.target.text
        return decisions.facts(self.principal, self.decision, method=method, host=host, path=path)

    def key(self) -> Key:
        """Return what makes two denials one, for which one entry a minute is enough: the same facts.

        Of a stranger one tells enough, whatever paths they try; and one of each kind that they are told the id of.
        """
        if not self.principal.is_authenticated:
            return ("anonymous", self.principal.peer, self.reason if self.decision.whoever_asks else "")
        return (self.principal.uid, self.principal.peer, self.reason, *self.facts().values())
