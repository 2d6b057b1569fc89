"""Keeps the roles of the SkyPilot API server behind SkyAuth (SKYPILOT_URL) in sync, before a caller's first request.

The server creates a user for every name that it receives, with a default role of its own: `admin`, unless its operator set
another one. So no request is allowed before the server has confirmed the role that counts here; where it cannot, the answer
is 503.

A `SyncedRole` row holds what the server has confirmed. Its role is empty from before a change is sent until the change is
certain. One process at a time holds the row's lease, and it sends the role that counts at that moment, not the role that its
request came with. So an older request cannot bring back an older role.
"""

import logging
import threading
import time
from datetime import timedelta
from typing import Final
from uuid import uuid4

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import selectors
from accounts.identifiers import user_uid
from accounts.models import SyncedRole, User
from integrations.skypilot.client import UpstreamUnavailable, ask
from integrations.skypilot.roles import skypilot_role
from rbac.principals import Kind, Principal

logger = logging.getLogger("skyauth.skypilot")

IDENTITY: Final = "X-Auth-Request-Email"  # the gateways of deploy/skypilot use the same name
NOTHING: Final = ""

_TIMEOUT_SECONDS: Final = 2.0  # for each of the two questions that telling takes
_PATIENCE_SECONDS: Final = 4.0  # for another process that is just telling; less than the verify line's own
# Longer than telling may take. Whoever ends in the middle keeps others out for so long, and no longer.
_HELD: Final = timedelta(seconds=15)
_LOOK_SECONDS: Final = 0.05
# A server that is away is asked by one caller a second; all others hear at once that it is.
_AWAY_SECONDS: Final = 1.0
# Of the verify line's eight threads: a server that hangs must not keep those waiting who need nothing of it.
_AT_ONCE: Final = 4
_SLOT_SECONDS: Final = 0.5  # longer than several take one after another, where the server answers


class _Attempts:
    """Who is telling just now in this process, and until when nobody need try."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(_AT_ONCE)
        self.away_until = 0.0


attempts = _Attempts()


def needed(principal: Principal) -> bool:
    """Return whether the server has to know the caller's role: there is a server, and the caller has a name there."""
    return bool(settings.SKYPILOT_URL) and bool(principal.identity)


def is_synced(principal: Principal) -> bool:
    """Return whether the server has confirmed the role that the caller has. One query."""
    return _said(principal) == skypilot_role(principal.permissions)


def sync(principal: Principal) -> None:
    """Return once the server has the caller's role. Raises UpstreamUnavailable when it does not confirm it.

    Blocks while it asks the server, at most a few seconds: never call it in the event loop.
    """
    if is_synced(principal):
        return
    if time.monotonic() < attempts.away_until:
        raise UpstreamUnavailable("The SkyPilot API server was away a moment ago.")
    if not attempts.slots.acquire(timeout=_SLOT_SECONDS):
        raise UpstreamUnavailable("Several roles are already being sent to the SkyPilot API server.")
    try:
        _tell_in_lease(principal)
    finally:
        attempts.slots.release()


def forget() -> int:
    """Delete what the server has confirmed, so that every role is sent again before the next request; return how many."""
    return SyncedRole.objects.filter(server=settings.SKYPILOT_URL).delete()[0]


def _said(principal: Principal) -> str:
    return _row(principal).values_list("role", flat=True).first() or NOTHING


def _tell_in_lease(principal: Principal) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (lease := _lease(principal)) is None:
        if is_synced(principal):
            return
        if time.monotonic() > deadline:
            raise UpstreamUnavailable("Somebody else is telling this role, and does not end.")
        time.sleep(_LOOK_SECONDS)
    certain = NOTHING  # what fails may have been heard nevertheless
    try:
        role = _role_that_counts(principal)
        _require_own_id(principal.identity)
        _say(principal.identity, role)
        certain = role
    finally:
        kept = _row(principal).filter(lease=lease).update(role=certain, lease="", lease_since=None)
    if not kept:
        raise UpstreamUnavailable("Telling took so long that somebody else began anew.")
    logger.info("The SkyPilot API server was told that %s is %s.", principal.identity, certain)


def _lease(principal: Principal) -> str | None:
    """Take the row's lease, empty its role and return the lease; None when another process has it or has just finished."""
    now = timezone.now()
    lease = uuid4().hex
    new = SyncedRole(server=settings.SKYPILOT_URL, name=principal.identity)
    SyncedRole.objects.bulk_create([new], ignore_conflicts=True)  # unless there is one
    free = _row(principal).filter(Q(lease="") | Q(lease_since__lt=now - _HELD))
    untold = free.exclude(role=skypilot_role(principal.permissions))
    return lease if untold.update(role=NOTHING, lease=lease, lease_since=now) else None


def _row(principal: Principal) -> QuerySet[SyncedRole]:
    return SyncedRole.objects.filter(server=settings.SKYPILOT_URL, name=principal.identity)


def _role_that_counts(principal: Principal) -> str:
    """Return the role that the caller has by now. Raises UpstreamUnavailable when there is no such caller any more."""
    found = (
        selectors.token_by_key(principal.token_key_id)
        if principal.kind is Kind.SERVICE_ACCOUNT
        else selectors.user_by_pk(principal.pk or 0)
    )
    if found is None:
        raise UpstreamUnavailable("The caller is gone.")
    return skypilot_role(found.permissions)


def _require_own_id(name: str) -> None:
    """Raise UpstreamUnavailable for a name that the server would take for another user's.

    It makes a user's id of 32 bits of the name's digest. Of two with the same, SkyAuth gives the second another id, the server
    does not: to it they would be one, with one role and the same clusters.
    """
    other = User.objects.filter(uid=user_uid(name)).exclude(username=name).first()
    if other is not None:
        logger.error("To the SkyPilot API server %s would be %s: give one of them another name.", name, other.username)
        raise UpstreamUnavailable("The SkyPilot API server would take the caller for somebody else.")


def _say(name: str, role: str) -> None:
    """Let the server know the name, and give it the role. Raises UpstreamUnavailable unless the server did both."""
    try:
        user_id, had = _made_known(name)
        if had != role:
            # Without an identity: so it does what it is asked, on the private connection that is nobody else's.
            reply = ask("POST", "/users/update", body={"user_id": user_id, "role": role}, timeout=_TIMEOUT_SECONDS)
            if reply.status != 200:
                raise UpstreamUnavailable(f"The SkyPilot API server answered {reply.status} when it was told a role.")
    except UpstreamUnavailable as error:
        attempts.away_until = time.monotonic() + _AWAY_SECONDS
        logger.warning("A role could not be told: %s", error)
        raise


def _made_known(name: str) -> tuple[str, str]:
    """Return the id and the role that a name has at the server, which makes a user of it. Raises UpstreamUnavailable."""
    reply = ask("GET", "/users/role", headers={IDENTITY: name}, timeout=_TIMEOUT_SECONDS)
    known = reply.json() if reply.status == 200 else None
    match known:
        case {"id": str(user_id), "name": str(named), "role": str(role)} if user_id and named == name:
            return user_id, role
    # One that does not believe the header takes everybody for nobody in particular.
    raise UpstreamUnavailable(f"The SkyPilot API server answered {reply.status} and does not know who was named.")
