"""Asks the SkyPilot API server (SKYPILOT_URL) before a change that it can refuse, and makes the change there first.

The server refuses to take the role admin from a user, or to delete one, while that user owns clusters or jobs that would be out
of reach. It has no question without the change. So the change is made there, and then here; if it is not made here after all,
the role that counts here is sent again before the next request.
"""

from typing import Final

from django.conf import settings

from accounts.identifiers import user_uid
from core import agreement
from core.agreement import CallerChange
from core.errors import Conflict, ServiceError, Unavailable
from integrations.skypilot import role_sync
from integrations.skypilot.client import REFUSALS, Reply, UpstreamUnavailable, ask, reason_of
from integrations.skypilot.roles import skypilot_role

_TIMEOUT_SECONDS: Final = 5.0  # the server looks at all clusters and jobs, and somebody waits for the page


def register() -> None:
    """Let services ask the server, wherever one is configured."""
    agreement.register(request_change, lambda: bool(settings.SKYPILOT_URL))


def request_change(change: CallerChange) -> ServiceError | None:
    """Make the change at the server. Return None, or the error that refuses it.

    While the server does not answer, a lower role is accepted: it counts here at once, and the caller's requests get 503 until
    the server has it. A deletion is refused, because nobody could find out later who owned a cluster.
    """
    if role_sync.shares_id(change.identity):
        return None  # at the server this is somebody else, too
    try:
        reply = _send(change)
    except UpstreamUnavailable:
        reply = None
    finally:
        role_sync.clear_confirmed_role(change.identity)
    if reply is not None and reply.status in REFUSALS:
        reason = reason_of(reply)
        is_unknown = reason == f"User {user_uid(change.identity)} does not exist"
        return None if is_unknown else Conflict(f"The SkyPilot API server refuses this: {reason}")
    if change.permissions is not None or (reply is not None and reply.status == 200):
        return None
    return Unavailable(
        f"The SkyPilot API server does not answer, so SkyAuth cannot find out whether {change.identity} owns clusters or jobs. "
        "Nothing was deleted. Try again later, or disable instead of deleting."
    )


def _send(change: CallerChange) -> Reply:
    """Return the server's response. Raises UpstreamUnavailable."""
    if role_sync.attempts.are_paused:
        raise UpstreamUnavailable("The SkyPilot API server was unavailable a moment ago.")
    user_id = user_uid(change.identity)
    try:
        if change.permissions is None:
            return ask("POST", "/users/delete", body={"user_id": user_id}, timeout=_TIMEOUT_SECONDS)
        body = {"user_id": user_id, "role": skypilot_role(change.permissions)}
        return ask("POST", "/users/update", body=body, timeout=_TIMEOUT_SECONDS)
    except UpstreamUnavailable:
        role_sync.attempts.pause()
        raise
