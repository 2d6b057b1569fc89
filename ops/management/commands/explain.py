from typing import Any

from django.core.management.base import CommandParser

from accounts.principal_lookup import current_principal, find_principal
from ops import base
from rbac import denials
from rbac.denials import PastDenial
from rbac.explain import Explanation, explain


class Command(base.Command):
    help = """
    Show whether a request would be allowed, and why. With a decision ID, show a request that was denied, and the answer
    that it would get now. The ID is in the body of the 403 response, in its header X-Skyauth-Decision and on the error page.

    The exit code is 0 if the request would be allowed now, and 1 if not.
    """
    examples = (
        "explain vera@example.com GET /api/jobs",
        "explain pipeline POST /launch --host sky.example.com",
        "explain anonymous GET /api/health",
        "explain 4fGh7Kp2Xw9Q",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "who",
            metavar="WHO",
            help="The name or ID of a user or service account, or anonymous. Without METHOD and PATH: a decision ID.",
        )
        parser.add_argument("method", metavar="METHOD", nargs="?", help="The HTTP method, such as GET.")
        parser.add_argument("path", metavar="PATH", nargs="?", help="The path, as a client sends it.")
        parser.add_argument("--host", metavar="H", default="", help="The host of the request, if routes differ by host.")

    def act(self, *, who: str, method: str | None, path: str | None, host: str, **_: Any) -> None:
        if method is None:
            if host:
                self.misused("--host needs METHOD and PATH. A past decision already has a host.")
            self._show_denial(denials.past_denial(who, current=current_principal))
        elif path is None:
            self.misused("Specify WHO METHOD PATH, or only a decision ID.")
        else:
            self._show(explain(*find_principal(who), method=method, host=host, path=path))

    def _show(self, explanation: Explanation) -> None:
        principal = explanation.principal
        if self.as_json:
            self.print_json(_as_json(explanation))
        else:
            self.print_table(
                ["", ""],
                [
                    ("Allowed", explanation.allowed),
                    ("Status", f"{explanation.status} {explanation.reason}"),
                    ("Reason", explanation.message),
                    ("Caller", _caller(principal.name, principal.kind, principal.role)),
                    ("Matched route", explanation.rule or None),
                    ("Required permission", explanation.needed),
                    ("Roles with this permission", explanation.roles or None),
                ],
            )
        self.end(base.Exit.DONE if explanation.allowed else base.Exit.REFUSED)

    def _show_denial(self, denial: PastDenial) -> None:
        now = denial.now
        if self.as_json:
            self.print_json(
                {
                    "decision": denial.reference,
                    "at": denial.at,
                    "who": denial.name,
                    "uid": denial.uid or None,
                    "kind": denial.kind,
                    "role": denial.role or None,
                    "identity_source": denial.source,
                    "peer": denial.peer,
                    "method": denial.method,
                    "host": denial.host,
                    "path": denial.path,
                    "reason": denial.reason,
                    "message": denial.message,
                    "needed": denial.needed or None,
                    "rule": denial.rule or None,
                    "roles": denial.roles,
                    "now": None if now is None else _as_json(now),
                    "now_unknown": denial.now_unknown or None,
                }
            )
        else:
            self.print_table(
                ["", ""],
                [
                    ("Decision ID", denial.reference),
                    ("When", denial.at),
                    ("Caller", _caller(denial.name, denial.kind, denial.role)),
                    ("Authenticated by", f"{denial.source}, from {denial.peer or 'an unknown address'}"),
                    (
                        "Request",
                        f"{denial.method} {denial.host}{denial.path}".strip() or "the proxy sent no single method, host and path",
                    ),
                    ("Status", f"403 {denial.reason}"),
                    ("Reason", denial.message),
                    ("Matched route", denial.rule or None),
                    ("Required permission", denial.needed or None),
                    ("Roles with this permission", denial.roles or None),
                    ("Same request now", _now(now) if now is not None else f"Unknown. {denial.now_unknown}"),
                ],
            )
        self.end(base.Exit.DONE if now is not None and now.allowed else base.Exit.REFUSED)


def _caller(name: str, kind: str, role: str) -> str:
    return f"{name} ({kind}{f', role {role}' if role else ''})"


def _now(now: Explanation) -> str:
    """Return the answer that the same request would get now."""
    if now.allowed:
        return f"allowed: {now.message}"
    return f"still denied, {now.status} {now.reason}: {now.message}"


def _as_json(explanation: Explanation) -> dict[str, Any]:
    return {
        "allowed": explanation.allowed,
        "status": explanation.status,
        "reason": explanation.reason,
        "message": explanation.message,
        "who": explanation.principal.name,
        "kind": explanation.principal.kind,
        "role": explanation.principal.role or None,
        "needed": explanation.needed,
        "rule": explanation.rule or None,
        "roles": explanation.roles,
    }
