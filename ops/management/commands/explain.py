from typing import Any

from django.core.management.base import CommandParser

from accounts.principal_lookup import current_principal, find_principal
from ops import base
from rbac import denials
from rbac.denials import PastDenial
from rbac.explain import Explanation, explain


class Command(base.Command):
    help = """
    Say whether somebody may make a request, and why; or, with the id that a refused caller was told (in the body of the 403, in
    its header X-Skyauth-Decision and on the page), what was refused then and whether it would be now.

    Ends with 0 when it is let through now, and with 1 when it is not.
    """
    examples = (
        "explain vera@example.com GET /api/jobs",
        "explain pipeline POST /launch --host sky.example.com",
        "explain anonymous GET /api/health",
        "explain 4fGh7Kp2Xw9Q",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "user",
            metavar="USER",
            help="The name or id of a user or a service account, or anonymous; alone: the id of a decision.",
        )
        parser.add_argument("method", metavar="METHOD", nargs="?", help="The method, such as GET.")
        parser.add_argument("path", metavar="PATH", nargs="?", help="The path as a client would send it.")
        parser.add_argument("--host", metavar="H", default="", help="The host that is asked, where routes differ by host.")

    def act(self, *, user: str, method: str | None, path: str | None, host: str, **_: Any) -> None:
        if method is None:
            if host:
                self.misused("--host goes with METHOD and PATH: a decision knows its host.")
            self._recall(denials.past_denial(user, current=current_principal))
        elif path is None:
            self.misused("Write USER METHOD PATH, or the id of a decision alone.")
        else:
            self._explain(explain(*find_principal(user), method=method, host=host, path=path))

    def _explain(self, found: Explanation) -> None:
        principal = found.principal
        if self.as_json:
            self.print_json(_as_json(found))
        else:
            self.print_table(
                ["", ""],
                [
                    ("Allowed", found.allowed),
                    ("Answer", f"{found.status} {found.reason}"),
                    ("Because", found.message),
                    ("Who", _who(principal.name, principal.kind, principal.role)),
                    ("Rule", found.rule or None),
                    ("Needs", found.needed),
                    ("Roles that may", found.roles or None),
                ],
            )
        self.end(base.Exit.DONE if found.allowed else base.Exit.REFUSED)

    def _recall(self, found: PastDenial) -> None:
        now = found.now
        if self.as_json:
            self.print_json(
                {
                    "decision": found.reference,
                    "at": found.at,
                    "who": found.name,
                    "uid": found.uid or None,
                    "kind": found.kind,
                    "role": found.role or None,
                    "identity_source": found.source,
                    "peer": found.peer,
                    "method": found.method,
                    "host": found.host,
                    "path": found.path,
                    "reason": found.reason,
                    "message": found.message,
                    "needed": found.needed or None,
                    "rule": found.rule or None,
                    "roles": found.roles,
                    "now": None if now is None else _as_json(now),
                    "now_unknown": found.now_unknown or None,
                }
            )
        else:
            self.print_table(
                ["", ""],
                [
                    ("Decision", found.reference),
                    ("When", found.at),
                    ("Who", _who(found.name, found.kind, found.role)),
                    ("Identification by", f"{found.source}, from {found.peer or 'an unknown address'}"),
                    ("Asked", f"{found.method} {found.host}{found.path}".strip() or "what the proxy did not say in one way"),
                    ("Answer", f"403 {found.reason}"),
                    ("Because", found.message),
                    ("Rule", found.rule or None),
                    ("Needs", found.needed or None),
                    ("Roles that may", found.roles or None),
                    ("Now", _now(now) if now is not None else f"Cannot be told. {found.now_unknown}"),
                ],
            )
        self.end(base.Exit.DONE if now is not None and now.allowed else base.Exit.REFUSED)


def _who(name: str, kind: str, role: str) -> str:
    return f"{name} ({kind}{f', role {role}' if role else ''})"


def _now(now: Explanation) -> str:
    """Return what the same request would be answered now."""
    if now.allowed:
        return f"allowed since: {now.message}"
    return f"still denied, {now.status} {now.reason}: {now.message}"


def _as_json(found: Explanation) -> dict[str, Any]:
    return {
        "allowed": found.allowed,
        "status": found.status,
        "reason": found.reason,
        "message": found.message,
        "who": found.principal.name,
        "kind": found.principal.kind,
        "role": found.principal.role or None,
        "needed": found.needed,
        "rule": found.rule or None,
        "roles": found.roles,
    }
