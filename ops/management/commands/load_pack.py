from typing import Any

from django.core.management.base import CommandParser

from ops import base, diff
from ops.apply import reconcile
from rbac import packs


class Command(base.Command):
    help = "Replace the route table by a pack that comes with SkyAuth, and show what changed."
    examples = ("load_pack --list", "load_pack skypilot", "load_pack read-write --if-empty")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", nargs="?", help="The pack's name.")
        parser.add_argument("--list", action="store_true", dest="list_packs", help="List the packs.")
        parser.add_argument("--if-empty", action="store_true", help="Do nothing where there are routes already.")

    def act(self, *, name: str | None, list_packs: bool, if_empty: bool, **_: Any) -> None:
        if list_packs:
            found = [packs.load(each) for each in packs.names()]
            rows = [{"name": pack.name, "routes": len(pack.routes), "description": pack.description} for pack in found]
            self.print_rows(
                rows, {"name": "NAME", "routes": "ROUTES", "description": "DESCRIPTION"}, nothing="There are no packs."
            )
            return
        if name is None:
            self.misused("Give the name of a pack, or --list.")
        changes = reconcile.load_pack(actor=self.actor, name=name, if_empty=if_empty)
        diff.show(self, changes or [], applied=bool(changes), pack=name)
        if changes is None:
            self.say("There are routes already; nothing was changed (--if-empty).")
        else:
            self.say(f"Loaded the pack {name}." if changes else f"The routes are those of the pack {name} already.")
