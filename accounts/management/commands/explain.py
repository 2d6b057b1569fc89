from typing import Any

from django.core.management.base import CommandParser

from accounts import explain
from accounts.management import base


class Command(base.Command):
    help = "Say whether somebody may make a request, and why. Ends with 0 when it is let through, and with 1 when it is not."
    examples = (
        "explain vera@example.com GET /api/jobs",
        "explain pipeline POST /launch --host sky.example.com",
        "explain anonymous GET /api/health",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="The name or id of a user or a service account, or anonymous.")
        parser.add_argument("method", metavar="METHOD", help="The method, such as GET.")
        parser.add_argument("path", metavar="PATH", help="The path as a client would send it.")
        parser.add_argument("--host", metavar="H", default="", help="The host that is asked, where routes differ by host.")

    def act(self, *, user: str, method: str, path: str, host: str, **_: Any) -> None:
        found = explain.explain(who=user, method=method, host=host, path=path)
        principal = found.principal
        if self.as_json:
            self.print_json(
                {
                    "allowed": found.allowed,
                    "status": found.status,
                    "reason": found.reason,
                    "message": found.message,
                    "who": principal.name,
                    "kind": principal.kind,
                    "role": principal.role or None,
                    "needed": found.needed,
                    "rule": found.rule or None,
                    "roles": found.roles,
                }
            )
        else:
            self.print_table(
                ["", ""],
                [
                    ("Allowed", found.allowed),
                    ("Answer", f"{found.status} {found.reason}"),
                    ("Because", found.message),
                    ("Who", f"{principal.name} ({principal.kind}{f', role {principal.role}' if principal.role else ''})"),
                    ("Rule", found.rule or None),
                    ("Needs", found.needed),
                    ("Roles that may", found.roles or None),
                ],
            )
        self.end(base.Exit.DONE if found.allowed else base.Exit.REFUSED)
