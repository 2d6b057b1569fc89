from typing import Any

from django.core.management.base import CommandParser

from ops import base, rows
from rbac import shadows
from rbac.filters import matching_routes
from rbac.models import Route
from rbac.permissions import Permission

_COLUMNS = {"position": "#", "methods": "METHODS", "where": "HOST AND PATH", "permission": "PERMISSION", "note": "NOTE"}


class Command(base.Command):
    help = "List the route table in its order. The first route that matches a request decides which permission it requires."
    examples = (
        "list_routes",
        "list_routes --search /api/jobs/7/logs --method GET",
        "list_routes --permission upstream:admin --json",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--search", metavar="TEXT", default="", help="Only routes that contain this text, or that match this path."
        )
        parser.add_argument("--method", metavar="METHOD", default="", help="Only routes for this method, such as GET.")
        parser.add_argument("--host", metavar="HOST", default="", help="Only routes for this host, and for any host.")
        parser.add_argument(
            "--permission",
            choices=list(map(str, Permission)),
            metavar="PERMISSION",
            default="",
            help="Only routes that require this permission.",
        )

    def act(self, *, search: str, method: str, host: str, permission: str, **_: Any) -> None:
        table = list(Route.objects.all())
        dead = shadows.shadowed(table)
        filters = {"q": search, "method": method.upper(), "host": host.lower(), "permission": permission}
        listed = [
            rows.route(row) | {"where": f"{row.host}{row.path}", "shadowed_by": dead.get(row.pk)}
            for row in matching_routes(table, filters)
        ]
        if self.as_json:
            for row in listed:
                del row["where"]
        nothing = "No routes match." if table else "There are no routes, so every request is denied."
        self.print_rows(listed, _COLUMNS, nothing=nothing)
        for row in listed:
            if row["shadowed_by"]:
                self.say(f"Warning: #{row['position']} never decides a request, because of {row['shadowed_by']}")
