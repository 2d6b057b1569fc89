from typing import Any

from django.conf import settings

from core.errors import Invalid
from integrations.skypilot import role_sync
from ops import base


class Command(base.Command):
    help = """Have the SkyPilot API server told everybody's role again, each before their next request.

SkyAuth tells a role once, and again when it changes. Run this where roles were changed at the server
itself, or its database was restored or replaced."""
    examples = ("tell_roles", "tell_roles --json")

    def act(self, **_: Any) -> None:
        if not settings.SKYPILOT_URL:
            raise Invalid("There is no SkyPilot API server: SKYPILOT_URL is empty.")
        number = role_sync.forget()
        if self.as_json:
            self.print_json({"forgotten": number})
        else:
            self.say(f"{number} roles will be told again.")
