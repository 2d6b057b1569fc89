"""`/users`: people, as SkyPilot's CLI and dashboard manage them. Every write goes through the services."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from accounts.models import ServiceAccount, User
from accounts.services import offboarding, service_accounts, users
from authn import own_password
from authn.requests import basic_of
from core.errors import ServiceError
from integrations.skypilot.roles import ROLES, skypilot_role
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, require_all
from skypilot.errors import Refused
from skypilot.health import user_type
from skypilot.operations import ANYBODY, Call, Operation
from skypilot.validation import OPTIONAL, REQUIRED, Field, Shape

MAX_BULK: Final = 1_000
DEFAULT_WORKSPACE: Final = "default"
_WRITE: Final = (Permission.USERS_WRITE,)


def listed(call: Call) -> list[dict[str, Any]]:  # noqa: ARG001 - as every operation
    """Return all people, oldest first."""
    return [
        {
            "id": user.uid,
            "name": user.username,
            "created_at": int(user.created_at.timestamp()),
            "role": skypilot_role(user.role.holds),
            "user_type": user_type(user),
        }
        for user in User.objects.select_related("role").order_by("created_at", "pk")
    ]


def own_role(call: Call) -> dict[str, str]:
    """Return who calls, and which of SkyPilot's roles they have."""
    return {"id": call.actor.uid, "name": call.actor.name, "role": skypilot_role(call.actor.permissions)}


def create(call: Call) -> None:
    """Create a person who signs in by password; without a role, with the default one."""
    username, password, role = call.given["username"], call.given["password"], call.given.get("role")
    if not username or not password:
        raise Refused(400, "Username and password are required")
    if role and role not in ROLES:
        raise Refused(400, f"Invalid role: {role}")
    if User.objects.filter(username=username.lower()).exists():
        raise Refused(400, f"User {username!r} already exists")
    users.create_user(actor=call.actor, username=username, password=password, role=role or None)


def update(call: Call) -> None:
    """Give somebody another role, another password, or both. Who manages no users changes their own password alone.

    Raises in the order in which SkyPilot does. A value that is missing or empty changes nothing.
    """
    uid, role, password = call.given["user_id"], call.given.get("role"), call.given.get("password")
    if role and role not in ROLES:
        raise Refused(400, f"Invalid role: {role}")
    target = _find(uid)
    manages = call.actor.holds(Permission.USERS_WRITE)
    if not manages:
        if role and (target is None or role != skypilot_role(target.role.holds)):
            raise Refused(403, "Only admin can update user role")
        if password and uid != call.actor.uid:
            raise Refused(403, "Only admin can update password for other users")
    if target is None:
        raise _unknown(uid)
    if password and not manages:
        _change_own_password(call, password)
        return
    with transaction.atomic():  # both, or neither
        if password:
            if isinstance(target, ServiceAccount):
                raise Refused(400, "A service account has no password.")
            users.set_password(actor=call.actor, user=target, password=password)
        if role and manages:
            _set_role(call.actor, target, role)


def _change_own_password(call: Call, password: str) -> None:
    """Change the caller's password, which they prove to know: by having signed in with it, or by `current_password`."""
    shown = basic_of(call.request)
    current = shown.password if shown is not None else call.given.get("current_password")
    if current is None:
        raise Refused(400, "Send your current password too, as current_password, or sign in with it.")
    own_password.change_own_password(actor=call.actor, current=current, password=password)


def batch_update(call: Call) -> dict[str, Any]:
    """Give many the same role, each on their own."""
    role, uids = call.given["role"], call.given["user_ids"]
    if role not in ROLES:
        raise Refused(400, f"Invalid role: {role}")
    if not uids:
        raise Refused(400, "user_ids must not be empty")
    if len(uids) > MAX_BULK:
        raise Refused(400, f"These are more than {MAX_BULK:,} users. Change them in several steps.")
    require_all(call.actor, get_role(role).holds, f"give the role {role}")
    succeeded: list[str] = []
    failed: list[dict[str, str]] = []
    for uid in uids:
        try:
            if (target := _find(uid)) is None:
                raise _unknown(uid)
            _set_role(call.actor, target, role)
            succeeded.append(uid)
        except (Refused, ServiceError) as error:
            failed.append({"user_id": uid, "error": str(error)})
    return {"succeeded": succeeded, "failed": failed}


def delete(call: Call) -> None:
    """Delete a person, whose service accounts stay without an owner, or a service account with all its tokens."""
    target = _find(call.given["user_id"])
    match target:
        case None:
            raise _unknown(call.given["user_id"])
        case ServiceAccount():
            service_accounts.delete_service_account(actor=call.actor, account=target)
        case User():
            offboarding.delete_user(actor=call.actor, user=target)


def workspace(call: Call) -> dict[str, Any]:  # noqa: ARG001
    """Return the one workspace there is without a SkyPilot server; behind a gateway the server answers instead."""
    return {
        "workspace": DEFAULT_WORKSPACE,
        "source": "default-fallback",
        "note": None,
        "preferred": None,
        "accessible": [DEFAULT_WORKSPACE],
        "read_only": [],
    }


def prefer_workspace(call: Call) -> dict[str, Any]:
    """Return the preferred workspace, of which there is one to choose from."""
    preferred = call.given.get("preferred")
    if preferred not in (None, DEFAULT_WORKSPACE):
        raise Refused(404, f"Workspace {preferred!r} does not exist.")
    return {"preferred": preferred}


def _find(uid: str) -> User | ServiceAccount | None:
    """Return whoever has the id, a person or a machine."""
    user = User.objects.select_related("role").filter(uid=uid).first()
    return user or ServiceAccount.objects.select_related("role").filter(uid=uid).first()


def _unknown(uid: str) -> Refused:
    return Refused(400, f"User {uid} does not exist")


def _set_role(actor: Principal, target: User | ServiceAccount, role: str) -> None:
    if target.role.name == role:
        return
    if isinstance(target, ServiceAccount):
        service_accounts.update_service_account(actor=actor, account=target, role=role)
    else:
        users.set_role(actor=actor, user=target, role=role)


_UPDATE: Final[Mapping[str, Field]] = {
    "user_id": REQUIRED,
    "role": OPTIONAL,
    "password": OPTIONAL,
    "current_password": OPTIONAL,
}
OPERATIONS: Final = (
    Operation("GET", "users", (Permission.USERS_READ,), listed),
    Operation("GET", "users/role", ANYBODY, own_role),
    Operation("POST", "users/create", _WRITE, create, {"username": REQUIRED, "password": REQUIRED, "role": OPTIONAL}),
    Operation("POST", "users/update", (Permission.PASSWORD_OWN, Permission.USERS_WRITE), update, _UPDATE),
    Operation("POST", "users/batch_update", _WRITE, batch_update, {"user_ids": Field(Shape.TEXTS), "role": REQUIRED}),
    Operation("POST", "users/delete", _WRITE, delete, {"user_id": REQUIRED}),
    Operation("GET", "users/me/workspace", ANYBODY, workspace),
    Operation("POST", "users/me/workspace", (Permission.UPSTREAM_WRITE,), prefer_workspace, {"preferred": OPTIONAL}, by_cli=True),
)
