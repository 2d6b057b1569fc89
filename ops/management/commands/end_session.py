import argparse
import re
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from accounts.models import Session
from accounts.services import users
from authn import sessions
from core.errors import Conflict, NotFound
from ops import base

_ID = re.compile(r"[0-9a-f]{8,64}\Z")


def _session_id(text: str) -> str:
    """Return the beginning of an id. Raises ArgumentTypeError, whose message does not contain the value: it can be a cookie."""
    if not _ID.match(text):
        raise argparse.ArgumentTypeError(
            "a session id, or the first 8 or more characters of one, is hexadecimal (see list_sessions)."
        )
    return text


class Command(base.Command):
    help = """End sessions, or all sessions of a user. They are refused from the next request.

With --all, CLI logins of the user that are authorized and not completed are deleted, too. The user can sign in again; to
refuse them, disable the user."""
    examples = ("end_session 0b7e2c94a1d3", "end_session --user bob@example.com --all")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "session", metavar="ID", nargs="*", type=_session_id, help="The ids of the sessions; see list_sessions."
        )
        parser.add_argument("--user", metavar="NAME", help="With --all: the username or id.")
        parser.add_argument("--all", action="store_true", dest="everything", help="End all sessions of the user.")

    def act(self, *, session: list[str], user: str | None, everything: bool, **_: Any) -> None:
        if bool(session) == bool(user) or bool(user) != everything:
            self.misused("Specify session ids, or --user NAME together with --all.")
        if user is not None:
            number = sessions.end_sessions(actor=self.actor, user=users.find_user(user))
        else:
            with transaction.atomic():
                keys = {_find(text) for text in session}
                for key in sorted(keys):
                    sessions.end_session(actor=self.actor, key=key)
            number = len(keys)
        if self.as_json:
            self.print_json({"ended": number})
        else:
            self.say("1 session ended." if number == 1 else f"{number} sessions ended.")


def _find(text: str) -> str:
    """Return the id that begins with this text. Raises NotFound, and Conflict if several do."""
    keys = list(
        Session.objects.filter(session_key__startswith=text, user__isnull=False).values_list("session_key", flat=True)[:2]
    )
    if not keys:
        raise NotFound(f"There is no session {text!r}. It may have expired.")
    if len(keys) > 1:
        raise Conflict(f"Several session ids begin with {text!r}. Use more characters; --json shows them.")
    return str(keys[0])
