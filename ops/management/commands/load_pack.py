from typing import Any

from django.core.management.base import CommandParser

from ops import base, diff
from ops.apply import reconcile
from rbac import packs


class Command(base.Command):
    help = "Replace the route table with a policy pack, and show the differences. A policy pack is a ready-made route table."
    examples = ("load_pack --list", "load_pack skypilot", "load_pack read-write --if-empty")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", nargs="?", help="The name of the pack.")
        parser.add_argument("--list", action="store_true", dest="list_packs", help="List the packs instead.")
        parser.add_argument("--if-empty", action="store_true", help="Do nothing if there are routes.")

    def act(self, *, name: str | None, list_packs: bool, if_empty: bool, **_: Any) -> None:
        if list_packs:
            loaded = map(packs.load, packs.names())
            rows = [{"name": pack.name, "routes": len(pack.routes), "description": pack.description} for pack in loaded]
            self.print_rows(
                rows, {"name": "NAME", "routes": "ROUTES", "description": "DESCRIPTION"}, nothing="There are no packs."
            )
            return
        if name is None:
            self.misused("Specify the name of a pack, or --list.")
        changes = reconcile.load_pack(actor=self.actor, name=name, if_empty=if_empty)
        diff.show(self, changes or [], applied=bool(changes), pack=name)
        if changes is None:
            self.say("There are routes; nothing was changed (--if-empty).")
        else:
            self.say(f"Policy pack {name} loaded." if changes else f"The routes already match the policy pack {name}.")
