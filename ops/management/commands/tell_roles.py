from typing import Any

from ops.management.commands import sync_roles


class Command(sync_roles.Command):
    help = "Deprecated: the former name of sync_roles."
    examples = ("tell_roles", "tell_roles --json")

    def act(self, **options: Any) -> None:
        self.say("tell_roles is deprecated. Use: manage.py sync_roles")
        super().act(**options)
