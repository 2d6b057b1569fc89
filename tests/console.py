"""Changes made from outside to a running server's data, as an operator makes them: through the services.

`python -m tests.console` migrates and then answers lines of JSON `[verb, {arguments}]` with lines of JSON, so that a test
pays for one start and not for one per change.
"""

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")


def create_user(name: str, role: str | None = None, password: str | None = None, sign_in: str | None = None) -> str:
    """Create a user and return the id. Without a password the user comes by the proxy's header."""
    from accounts.services import users

    return users.create_user(actor=_actor(), username=name, role=role, password=password, sign_in=sign_in).uid


def set_role(name: str, role: str) -> None:
    """Give a user another role."""
    from accounts.services import users

    users.set_role(actor=_actor(), user=users.find_user(name), role=role)


def set_active(name: str, active: bool) -> None:
    """Enable or disable a user."""
    from accounts.services import users

    users.set_active(actor=_actor(), user=users.find_user(name), active=active)


def end_sessions(name: str) -> int:
    """End all sessions of a user."""
    from accounts.services import users
    from authn import sessions

    return sessions.end_sessions(actor=_actor(), user=users.find_user(name))


def begin_session(name: str, kind: str) -> str:
    """Begin a browser session ("browser") or a CLI session ("cli") of a user and return its key."""
    from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
    from django.utils import timezone

    from accounts.models import SessionKind
    from accounts.services import users
    from authn.session_store import SIGNED_IN_AT, SessionStore

    user = users.find_user(name)
    store = SessionStore(kind=SessionKind(kind))
    store[SESSION_KEY], store[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    store[SIGNED_IN_AT] = timezone.now().timestamp()
    store.create()
    return str(store.session_key)


def role_of(name: str) -> str:
    """Return the role of a user."""
    from accounts.services import users

    return users.find_user(name).role.name


def ensure_role(name: str, permissions: list[str]) -> None:
    """Create a role unless there is one of that name."""
    from rbac import services
    from rbac.models import Role

    if not Role.objects.filter(name=name).exists():
        services.create_role(actor=_actor(), name=name, permissions=permissions)


def set_permissions(name: str, permissions: list[str]) -> None:
    """Change the permissions of a role."""
    from rbac import services

    services.update_role(actor=_actor(), name=name, permissions=permissions)


def map_group(group: str, role: str, priority: int = 100) -> None:
    """Give a group of the identity provider a role."""
    from accounts.services import groups

    groups.create_group_role(actor=_actor(), group=group, role=role, priority=priority)


def delete_user(name: str, block: bool | None = None) -> None:
    """Delete a user."""
    from accounts.services import offboarding, users

    offboarding.delete_user(actor=_actor(), user=users.find_user(name), block=block)


def create_account(name: str, role: str, owner: str | None = None) -> str:
    """Create a service account and return its id."""
    from accounts.services import service_accounts, users

    who = {"owner": users.find_user(owner)} if owner else {"unowned": True}
    return service_accounts.create_service_account(actor=_actor(), name=name, role=role, **who).uid


def ensure_account(name: str, role: str, owner: str | None = None) -> str:
    """Create a service account unless there is one of that name, and return its id."""
    from accounts.models import ServiceAccount

    found = ServiceAccount.objects.filter(name=name).first()
    return found.uid if found else create_account(name, role, owner)


def update_account(name: str, **changes: Any) -> None:
    """Change a service account."""
    from accounts.services import service_accounts

    service_accounts.update_service_account(actor=_actor(), account=service_accounts.get_account(_actor(), name), **changes)


def issue(account: str) -> str:
    """Return a new token of an account."""
    from accounts.services import service_accounts, tokens

    return tokens.issue_token(actor=_actor(), account=service_accounts.get_account(_actor(), account)).plaintext


def revoke(token: str) -> None:
    """Revoke a token."""
    from accounts.services import tokens

    tokens.revoke_token(actor=_actor(), token=tokens.get_token(_actor(), token.split("_")[1]))


def last_used(token: str) -> str | None:
    """Return from where a token was used last, or None when it was not yet."""
    from accounts.models import Token

    row = Token.objects.get(key_id=token.split("_")[1])
    return row.last_used_from if row.last_used_at else None


def expire(token: str) -> None:
    """Let a token have expired a second ago: time is the one thing that no service changes."""
    from django.utils import timezone

    from accounts.models import Token

    now = timezone.now()
    row = Token.objects.filter(key_id=token.split("_")[1])
    assert row.update(created_at=now - timedelta(days=31), expires_at=now - timedelta(seconds=1)) == 1


def load_pack(name: str) -> None:
    """Make a pack the route table."""
    from rbac import services

    services.load_pack(actor=_actor(), name=name)


def replace_routes(routes: list[dict[str, Any]]) -> None:
    """Make these the route table, written as in a pack."""
    from rbac import packs, services

    specs = [packs.read_route(row, f"route {n}") for n, row in enumerate(routes, 1)]
    services.replace_routes(actor=_actor(), specs=specs, source="tests")


def no_routes() -> None:
    """Empty the route table: then everything is denied."""
    from rbac import services

    services.replace_routes(actor=_actor(), specs=[], source="tests")


def forget_told_roles() -> int:
    """Have the SkyPilot server told every role again, and return how many."""
    from integrations.skypilot import role_sync

    return role_sync.clear_confirmed_roles()


def refusals() -> list[dict[str, str]]:
    """Return what the audit log has of refusals, the oldest first."""
    from audit.models import Entry

    rows = Entry.objects.filter(event__in=["sign-in.refused", "sign-in.groups-ignored", "request.denied"]).order_by("pk")
    return [
        {"event": row.event, "actor": row.actor, "peer": row.peer, "target": row.target, "reason": row.reason} for row in rows
    ]


def recent(method: str) -> list[list[Any]]:
    """Return who asked what lately by this method, and whether it was allowed."""
    from rbac.models import RecentRequest

    return [[row.caller, row.path, row.allowed] for row in RecentRequest.objects.filter(method=method)]


VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb
    for verb in (
        create_user, set_role, set_active, end_sessions, begin_session, role_of, ensure_role, create_account, ensure_account,
        set_permissions, update_account, issue, revoke, last_used, expire, load_pack, replace_routes, no_routes,
        forget_told_roles, refusals, recent,
        map_group, delete_user,
    )
}  # fmt: skip


def _actor() -> Any:
    from rbac.principals import system

    return system("tests")


def main() -> None:
    """Migrate, say so, and carry out what is asked until there is nothing more."""
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    connection.close()
    print(json.dumps({"done": None}), flush=True)  # noqa: T201 - standard output is the protocol
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            answer = {"done": VERBS[verb](**arguments)}
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the test's to show
            answer = {"failed": f"{type(error).__name__}: {error}"}
        connection.close()  # no lock and no snapshot outlives a change
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
