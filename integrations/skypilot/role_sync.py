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
from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from uuid import uuid4

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import selectors
from accounts.identifiers import user_uid
from accounts.models import ServiceAccount, SyncedRole, User
from accounts.principal_lookup import service_account_principal
from core.bounded_cache import BoundedCache
from core.watched import Tag
from integrations.skypilot.client import REFUSALS, UpstreamUnavailable, ask, reason_of
from integrations.skypilot.roles import skypilot_role
from rbac.principals import Kind, Principal, account_identity

logger = logging.getLogger("skyauth.skypilot")

IDENTITY: Final = "X-Auth-Request-Email"  # the gateways of deploy/skypilot use the same name
UNCONFIRMED: Final = ""

_TIMEOUT_SECONDS: Final = 2.0  # for each of the two requests that a sync takes
_LEASE_WAIT_SECONDS: Final = 4.0  # for another process that holds the lease; less than the gateway's time-out
# Longer than a sync takes. A process that ends while it holds the lease blocks others for this long.
_LEASE_LIFETIME: Final = timedelta(seconds=15)
_POLL_SECONDS: Final = 0.05
# While the server is unavailable, one request a second tries to reach it; all others fail at once.
_UNAVAILABLE_SECONDS: Final = 1.0
# Of the gateway's eight threads: a server that hangs must not delay requests that do not need it.
_MAX_RUNNING: Final = 4
# The server looks at all clusters and jobs before it refuses a role, so a caller who repeats a request must not repeat that.
_REFUSED_SECONDS: Final = 5.0
_MAX_REFUSED: Final = 1_000
_SLOT_SECONDS: Final = 0.5  # longer than several syncs take, one after another, while the server answers


class RoleRefused(Exception):
    """The server answers, and refuses the caller's role: the caller gets 403 with its reason. Nobody else is affected."""


class RequestFailed(UpstreamUnavailable):
    """The server answers, and fails at this request (500), which can be about the one caller: others are still tried."""


class _Attempts:
    """The syncs that this process is running, until when (by the monotonic clock) none is tried, and the latest refusals."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(_MAX_RUNNING)
        self.unavailable_until = 0.0
        self.refused: BoundedCache[tuple[str, str, str], tuple[float, str]] = BoundedCache(_MAX_REFUSED)

    @property
    def are_paused(self) -> bool:
        """Whether the server did not answer a moment ago."""
        return time.monotonic() < self.unavailable_until

    def pause(self) -> None:
        """Try none for a moment: the server did not answer."""
        self.unavailable_until = time.monotonic() + _UNAVAILABLE_SECONDS


attempts = _Attempts()


def needs_sync(principal: Principal) -> bool:
    """Return whether the caller's role must be synced: a server is configured, and the caller has an identity."""
    return bool(settings.SKYPILOT_URL) and bool(principal.identity)


def tag(principal: Principal) -> Tag:
    """Return the tag of what is stored about the caller's role at the server."""
    return SyncedRole.watched.kind, principal.identity


def is_synced(principal: Principal) -> bool:
    """Return whether the server has confirmed the caller's current role. One query."""
    return _confirmed_role(principal) == skypilot_role(principal.permissions)


def sync(principal: Principal) -> None:
    """Return once the server has the caller's role. Raises UpstreamUnavailable when it does not confirm it, and RoleRefused.

    Blocks for up to a few seconds: never call it in the event loop.
    """
    if is_synced(principal):
        return
    key = (settings.SKYPILOT_URL, principal.identity, skypilot_role(principal.permissions))
    until, reason = attempts.refused.get(key, (0.0, ""))
    if time.monotonic() < until:
        raise RoleRefused(reason)
    if attempts.are_paused:
        raise UpstreamUnavailable("The SkyPilot API server was unavailable a moment ago.")
    if not attempts.slots.acquire(timeout=_SLOT_SECONDS):
        raise UpstreamUnavailable("Several roles are already being sent to the SkyPilot API server.")
    try:
        _sync_in_lease(principal)
    except RoleRefused as refusal:
        attempts.refused[key] = (time.monotonic() + _REFUSED_SECONDS, str(refusal))
        logger.warning("The SkyPilot API server refuses the role %s for %s: %s", key[2], principal.identity, refusal)
        raise
    finally:
        attempts.slots.release()


def clear_confirmed_roles() -> int:
    """Delete the confirmed roles, so that each is sent again before the next request; return how many there were."""
    return SyncedRole.objects.filter(server=settings.SKYPILOT_URL).delete()[0]


def clear_confirmed_role(identity: str) -> None:
    """Delete the confirmed role of one caller. The new policy revision makes every process ask the server again."""
    SyncedRole.objects.filter(server=settings.SKYPILOT_URL, name=identity).delete()


def roles_of(identities: Iterable[str]) -> dict[str, str]:
    """Return the role that each of these callers has now, by identity; callers who were deleted are left out."""
    names = set(identities)
    roles = {
        user.username: skypilot_role(user.role.holds) for user in User.objects.select_related("role").filter(username__in=names)
    }
    uids = {name.rpartition("@")[2] for name in names}
    for account in ServiceAccount.objects.select_related("role", "owner__role").filter(uid__in=uids):
        roles[account.upstream_name] = skypilot_role(service_account_principal(account)[0].permissions)
    return {name: role for name, role in sorted(roles.items()) if name in names}


def _confirmed_role(principal: Principal) -> str:
    return _row(principal).values_list("role", flat=True).first() or UNCONFIRMED


def _sync_in_lease(principal: Principal) -> None:
    deadline = time.monotonic() + _LEASE_WAIT_SECONDS
    while (lease := _take_lease(principal)) is None:
        if is_synced(principal):
            return
        if time.monotonic() > deadline:
            raise UpstreamUnavailable("Another process is sending this role and does not finish.")
        time.sleep(_POLL_SECONDS)
    confirmed = UNCONFIRMED  # a failed request can have reached the server
    try:
        role = _current_role(principal)
        _require_own_id(principal.identity)
        _send_role(principal.identity, role)
        confirmed = role
    finally:
        had_lease = _row(principal).filter(lease=lease).update(role=confirmed, lease="", lease_since=None)
    if not had_lease:
        raise UpstreamUnavailable("The sync took so long that another process took the lease.")
    logger.info("The SkyPilot API server has the role %s for %s.", confirmed, principal.identity)


def _take_lease(principal: Principal) -> str | None:
    """Take the row's lease, empty its role and return the lease; None when another process has it or has just finished."""
    now = timezone.now()
    lease = uuid4().hex
    new = SyncedRole(server=settings.SKYPILOT_URL, name=principal.identity)
    SyncedRole.objects.bulk_create([new], ignore_conflicts=True)  # unless it exists
    free = _row(principal).filter(Q(lease="") | Q(lease_since__lt=now - _LEASE_LIFETIME))
    outdated = free.exclude(role=skypilot_role(principal.permissions))
    return lease if outdated.update(role=UNCONFIRMED, lease=lease, lease_since=now) else None


def _row(principal: Principal) -> QuerySet[SyncedRole]:
    return SyncedRole.objects.filter(server=settings.SKYPILOT_URL, name=principal.identity)


def _current_role(principal: Principal) -> str:
    """Return the caller's role as it is now. Raises UpstreamUnavailable when the caller was deleted."""
    record = (
        selectors.token_by_key(principal.token_key_id)
        if principal.kind is Kind.SERVICE_ACCOUNT
        else selectors.user_by_pk(principal.pk or 0)
    )
    if record is None:
        raise UpstreamUnavailable("The caller was deleted.")
    return skypilot_role(record.permissions)


def shares_id(name: str) -> bool:
    """Return whether the server would take this name for another user: then it gets no role, see `_require_own_id`."""
    return _other_with_id(name) is not None


def _other_with_id(name: str) -> str | None:
    """Return the name of the other caller who has this name's id at the server; None if there is none.

    An account's id is made from random digits, so nobody can create an account with the id of a user. It yields only to a user
    who was there before it; a user yields to every account.
    """
    uid = user_uid(name)
    users = User.objects.filter(uid=uid).exclude(username=name)
    account = ServiceAccount.objects.filter(uid=name.rpartition("@")[2]).first()
    if account is not None and account.upstream_name == name:
        return users.filter(created_at__lt=account.created_at).values_list("username", flat=True).first()
    if (user := users.first()) is not None:
        return user.username
    accounts = ServiceAccount.objects.filter(upstream_uid__in=(uid, "")).values_list("name", "uid")
    return next((other for other in (account_identity(*row) for row in accounts.iterator()) if user_uid(other) == uid), None)


def _require_own_id(name: str) -> None:
    """Raise UpstreamUnavailable for a name that has the same id as another user or service account at the server.

    The server makes the id of a user from 32 bits of the name's digest. SkyAuth gives the second of two such users another id,
    the server does not: they would be one user there, with one role and the same clusters.
    """
    other = _other_with_id(name)
    if other is not None:
        logger.error("%s and %s have the same id at the SkyPilot API server. Rename one of them.", name, other)
        raise UpstreamUnavailable("The caller has the same id as another user at the SkyPilot API server.")


def _send_role(name: str, role: str) -> None:
    """Create the user at the server if need be, and set its role.

    Raises UpstreamUnavailable unless the server confirms both, and RoleRefused when it answers that it does not.
    """
    try:
        user_id, current = _server_user(name)
        if current != role:
            # Without an identity header: the server then allows it, on this private connection.
            reply = ask("POST", "/users/update", body={"user_id": user_id, "role": role}, timeout=_TIMEOUT_SECONDS)
            if reply.status in REFUSALS:
                raise RoleRefused(reason_of(reply))
            if reply.status == 500:
                raise RequestFailed("The SkyPilot API server returned 500 to the change of a role.")
            if reply.status != 200:
                raise UpstreamUnavailable(f"The SkyPilot API server returned {reply.status} to the change of a role.")
    except UpstreamUnavailable as error:
        if not isinstance(error, RequestFailed):
            attempts.pause()
        logger.warning("A role could not be synced: %s", error)
        raise


def _server_user(name: str) -> tuple[str, str]:
    """Return the id and the role of a user at the server, which creates an unknown one.

    Raises UpstreamUnavailable and RoleRefused.
    """
    reply = ask("GET", "/users/role", headers={IDENTITY: name}, timeout=_TIMEOUT_SECONDS)
    if reply.status in REFUSALS:
        raise RoleRefused(reason_of(reply))
    user = reply.json() if reply.status == 200 else None
    match user:
        case {"id": str(user_id), "name": str(user_name), "role": str(role)} if user_id and user_name == name:
            return user_id, role
    # A server that does not trust the header returns an anonymous user.
    raise UpstreamUnavailable(f"The SkyPilot API server returned {reply.status} and not the user of the identity header.")
