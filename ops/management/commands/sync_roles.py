from typing import Any

from django.conf import settings

from core.errors import Invalid
from integrations.skypilot import role_sync
from ops import base


class Command(base.Command):
    help = """Send the role of every user to the SkyPilot API server again, each before the user's next request.

SkyAuth sends a role once, and again when it changes. Run this command after roles were changed on the server itself, or
after its database was restored or replaced."""
    examples = ("sync_roles", "sync_roles --json")

    def act(self, **_: Any) -> None:
        if not settings.SKYPILOT_URL:
            raise Invalid("SKYPILOT_URL is empty: no SkyPilot API server is configured.")
        number = role_sync.clear_confirmed_roles()
        if self.as_json:
            self.print_json({"roles": number, "forgotten": number})  # the second is the former name of the first
        else:
            self.say(f"{number} role{'s' * (number != 1)} will be sent again.")
