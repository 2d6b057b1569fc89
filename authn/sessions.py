"""Sessions of users: their owner, and callers who can change the user, list and end them."""

from typing import Final

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import CliAuthorization, Session, SessionKind, User
from accounts.services.users import require_change
from audit.events import Event
from audit.record import record
from authn.session_store import SIGNED_IN_AT, SessionStore, digest
from core.errors import NotFound
from rbac.permissions import EVERYTHING, Permission
from rbac.principals import Kind, Principal
from rbac.services import is_permitted, require, require_all

# A session for each computer on which a user runs `sky`, with room for containers that sign in anew.
MAX_CLI_SESSIONS: Final = 50


def list_sessions(*, actor: Principal, user: User) -> QuerySet[Session]:
    """Return the live sessions of a user, the last-used one first. Raises Forbidden."""
    _require(actor, user)
    return Session.objects.live().filter(user=user).order_by("-last_used_at", "-created_at")


def list_all_sessions(*, actor: Principal) -> QuerySet[Session]:
    """Return the live sessions of all users, the last-used one first. Raises Forbidden unless the actor can change every user."""
    require(actor, Permission.USERS_WRITE)
    require_all(actor, EVERYTHING, "list the sessions of all users")
    return Session.objects.live().select_related("user").order_by("-last_used_at", "-created_at")


@transaction.atomic
def end_session(*, actor: Principal, key: str) -> None:
    """End the session with this primary key. Raises NotFound, also for another user's, unless the actor can change that user."""
    row = Session.objects.select_for_update().filter(session_key=key, user__isnull=False).first()
    owner = User.objects.select_related("role").filter(pk=row.user_id or 0).first() if row is not None else None
    if row is None or owner is None or not is_permitted(_require, actor, owner):
        raise NotFound("There is no such session. It may have expired.")
    row.delete()
    _recorded(actor, owner, [row])


@transaction.atomic
def end_sessions(*, actor: Principal, user: User, but: str = "") -> int:
    """End all sessions of a user except the one with the primary key `but`, and return how many. Raises Forbidden.

    CLI logins that are authorized and not redeemed are deleted too.
    """
    _require(actor, user)
    CliAuthorization.objects.filter(user=user).delete()
    rows = list(Session.objects.select_for_update().filter(user=user).exclude(session_key=but))
    Session.objects.filter(pk__in=[row.pk for row in rows]).delete()
    if rows:
        _recorded(actor, user, rows)
    return len(rows)


@transaction.atomic
def begin_cli_session(*, actor: Principal, address: str, agent: str) -> tuple[str, Session]:
    """Begin a session for the actor's CLI, and return its key, which is not stored, and its row.

    It is valid for CLI_SESSION_DAYS, until the user's password changes. If the user has MAX_CLI_SESSIONS, the one that has not
    been used for the longest time ends. Call it under `lock_policy`. Raises NotFound when the actor is not an active user.
    """
    user = User.objects.filter(pk=actor.pk or 0, is_active=True).first() if actor.kind is Kind.USER else None
    if user is None:
        raise NotFound("Only an active user can sign a CLI in.")
    _make_room(actor, user)
    store = SessionStore(kind=SessionKind.CLI)
    store[SESSION_KEY] = str(user.pk)
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store[SIGNED_IN_AT] = timezone.now().timestamp()
    store.address, store.agent = address, agent
    store.set_expiry(settings.CLI_SESSION_DAYS * 86_400)
    store.create()
    key = str(store.session_key)
    row = Session.objects.get(pk=digest(key))
    record(Event.CLI_SIGNED_IN, actor=actor, target=user.username, data={"address": address, "agent": agent})
    return key, row


def _make_room(actor: Principal, user: User) -> None:
    """End the user's CLI sessions that are too many beside a new one."""
    sessions = Session.objects.filter(user=user, kind=SessionKind.CLI).order_by("-last_used_at", "-created_at")
    rows = list(sessions[MAX_CLI_SESSIONS - 1 :])
    if rows:
        Session.objects.filter(pk__in=[row.pk for row in rows]).delete()
        _recorded(actor, user, rows, limit=MAX_CLI_SESSIONS)


def _require(actor: Principal, user: User) -> None:
    """Raise Forbidden unless the sessions are the actor's own, or those of a user whom the actor can change."""
    if not (actor.kind is Kind.USER and actor.pk == user.pk):
        require_change(actor, user, "end the sessions of")


def _recorded(actor: Principal, owner: User, rows: list[Session], **reason: int) -> None:
    kinds = sorted(row.kind for row in rows)
    record(Event.SESSION_ENDED, actor=actor, target=owner.username, data={"kinds": kinds, "number": len(rows), **reason})
