"""`/users`: users, as SkyPilot's CLI and dashboard manage them."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

from django.db import transaction

from accounts.models import ServiceAccount, User
from accounts.services import bulk, offboarding, role_defaults, service_accounts, users
from authn import own_password
from authn.requests import basic_of
from core.agreement import asks_first
from core.errors import ServiceError
from integrations.skypilot.roles import ROLES, skypilot_role
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, require_all, role_table
from skypilot.account_ids import accounts_by_id, caller_id
from skypilot.errors import HTTPException
from skypilot.health import user_type
from skypilot.operations import AUTHENTICATED, Call, Operation
from skypilot.validation import OPTIONAL, REQUIRED, REQUIRED_STRINGS, BodyField

MAX_BULK: Final = 1_000
DEFAULT_WORKSPACE: Final = "default"
_WRITE: Final = (Permission.USERS_WRITE,)


def list_users(call: Call) -> list[dict[str, Any]]:  # noqa: ARG001 - as every operation
    """Return all users, oldest first. SkyPilot's list has no pages, and every viewer can call it: hence no rows as objects."""
    roles = {name: skypilot_role(permissions) for name, permissions in role_table().items()}
    rows = User.objects.order_by("created_at", "pk").values_list("uid", "username", "created_at", "role__name", "sign_in")
    return [
        {
            "id": uid,
            "name": name,
            "created_at": int(created_at.timestamp()),
            "role": roles.get(role, "viewer"),  # a role that was created since
            "user_type": user_type(sign_in),
        }
        for uid, name, created_at, role, sign_in in rows.iterator(chunk_size=2_000)
    ]


def own_role(call: Call) -> dict[str, str]:
    """Return the caller and their SkyPilot role."""
    return {"id": caller_id(call.actor), "name": call.actor.name, "role": skypilot_role(call.actor.permissions)}


def default_role(call: Call) -> dict[str, str]:
    """Return the SkyPilot role that `create_user` gives without `role`. SkyPilot has this since its nightly 1.0.0.dev20261027."""
    return {"role": skypilot_role(role_defaults.default_role(call.actor).holds)}


def create_user(call: Call) -> None:
    """Create a user who signs in with a password. Without `role` they get RBAC_DEFAULT_ROLE, as on SkyPilot's server."""
    username, password, role = call.body["username"], call.body["password"], call.body.get("role")
    if not username or not password:
        raise HTTPException(400, "Username and password are required")
    if role and role not in ROLES:
        raise HTTPException(400, f"Invalid role: {role}")
    if User.objects.filter(username=username.lower()).exists():
        raise HTTPException(400, f"User {username!r} already exists")
    users.create_user(
        actor=call.actor, username=username, password=password, role=role or None, default=role_defaults.default_role
    )


def update_user(call: Call) -> None:
    """Set the role of a user, the password, or both. A caller without users:write can only change their own password.

    Raises errors in SkyPilot's order. A missing or empty value changes nothing.
    """
    uid, role, password = call.body["user_id"], call.body.get("role"), call.body.get("password")
    if role and role not in ROLES:
        raise HTTPException(400, f"Invalid role: {role}")
    target = _targets([uid]).get(uid)
    manages = call.actor.holds(Permission.USERS_WRITE)
    if not manages:
        if role and (target is None or role != skypilot_role(target.role.holds)):
            raise HTTPException(403, "Only admin can update user role")
        if password and uid != call.actor.uid:
            raise HTTPException(403, "Only admin can update password for other users")
    if target is None:
        raise _not_found(uid)
    if password and uid == call.actor.uid:
        if manages and role and role != skypilot_role(target.role.holds):
            raise HTTPException(400, "Change your own password and your role in two requests.")
        _change_own_password(call, password)
        return
    _update(call, target, role if manages else None, password)


@asks_first
@transaction.atomic
def _update(call: Call, target: User | ServiceAccount, role: str | None, password: str | None) -> None:
    """Set password and role: both, or neither."""
    if password:
        if isinstance(target, ServiceAccount):
            raise HTTPException(400, "A service account has no password.")
        users.set_password(actor=call.actor, user=target, password=password, sign_in=call.body.get("sign_in"))
    if role:
        _set_role(call.actor, target, role)


def _change_own_password(call: Call, password: str) -> None:
    """Change the caller's own password. The current one is that of the Basic credential, or `current_password`."""
    credential = basic_of(call.request)
    current = credential.password if credential is not None else call.body.get("current_password")
    if current is None:
        raise HTTPException(400, "Send your current password too, as current_password, or sign in with it.")
    own_password.change_own_password(actor=call.actor, current=current, password=password)


def batch_update(call: Call) -> dict[str, Any]:
    """Set the role of many users. A user who cannot be changed does not stop the others."""
    role, uids = call.body["role"], call.body["user_ids"]
    if role not in ROLES:
        raise HTTPException(400, f"Invalid role: {role}")
    if not uids:
        raise HTTPException(400, "user_ids must not be empty")
    if len(uids) > MAX_BULK:
        raise HTTPException(400, f"The request has more than {MAX_BULK:,} users. Split it into several requests.")
    require_all(call.actor, get_role(role).holds, f"give the role {role}")
    succeeded: list[str] = []
    failed: list[dict[str, str]] = []
    targets = _targets(uids)
    for uid in sorted(uids, key=lambda uid: uid == call.actor.uid):  # the caller's own role last
        try:
            if (target := targets.get(uid)) is None:
                raise _not_found(uid)
            bulk.one_of_many(call.actor, partial(_set_role, call.actor, target, role))
            succeeded.append(uid)
        except (HTTPException, ServiceError) as error:
            failed.append({"user_id": uid, "error": str(error)})
    return {"succeeded": succeeded, "failed": failed}


def delete_user(call: Call) -> None:
    """Delete a user, whose service accounts stay without an owner, or a service account with all its tokens."""
    uid = call.body["user_id"]
    match _targets([uid]).get(uid):
        case None:
            raise _not_found(uid)
        case ServiceAccount() as account:
            service_accounts.delete_service_account(actor=call.actor, account=account)
        case User() as user:
            offboarding.delete_user(actor=call.actor, user=user)


def get_workspace(call: Call) -> dict[str, Any]:  # noqa: ARG001
    """Return the default workspace, the only one without a SkyPilot server. Behind a gateway the server itself responds."""
    return {
        "workspace": DEFAULT_WORKSPACE,
        "source": "default-fallback",
        "note": None,
        "preferred": None,
        "accessible": [DEFAULT_WORKSPACE],
        "read_only": [],
    }


def set_workspace(call: Call) -> dict[str, Any]:
    """Return the preferred workspace, which can only be the default one."""
    preferred = call.body.get("preferred")
    if preferred not in (None, DEFAULT_WORKSPACE):
        raise HTTPException(404, f"Workspace {preferred!r} does not exist.")
    return {"preferred": preferred}


def _targets(uids: Collection[str]) -> dict[str, User | ServiceAccount]:
    """Return the users and service accounts with these ids, by id."""
    found: dict[str, User | ServiceAccount] = {
        user.uid: user for user in User.objects.select_related("role").filter(uid__in=uids)
    }
    return found | accounts_by_id(set(uids) - found.keys())


def _not_found(uid: str) -> HTTPException:
    return HTTPException(400, f"User {uid} does not exist")


def _set_role(actor: Principal, target: User | ServiceAccount, role: str) -> None:
    if target.role.name == role:
        return
    if isinstance(target, ServiceAccount):
        service_accounts.update_service_account(actor=actor, account=target, role=role)
    else:
        users.set_role(actor=actor, user=target, role=role)


_UPDATE: Final[Mapping[str, BodyField]] = {
    "user_id": REQUIRED,
    "role": OPTIONAL,
    "password": OPTIONAL,
    "current_password": OPTIONAL,
    "sign_in": OPTIONAL,  # not in SkyPilot: required for a user of single sign-on
}
OPERATIONS: Final = (
    Operation("GET", "users", (Permission.USERS_READ,), list_users),
    Operation("GET", "users/role", AUTHENTICATED, own_role),
    Operation("GET", "users/default-role", (Permission.UPSTREAM_WRITE,), default_role),
    Operation("POST", "users/create", _WRITE, create_user, {"username": REQUIRED, "password": REQUIRED, "role": OPTIONAL}),
    Operation("POST", "users/update", (Permission.UPSTREAM_WRITE, Permission.USERS_WRITE), update_user, _UPDATE),
    Operation("POST", "users/batch_update", _WRITE, batch_update, {"user_ids": REQUIRED_STRINGS, "role": REQUIRED}),
    Operation("POST", "users/delete", _WRITE, delete_user, {"user_id": REQUIRED}),
    Operation("GET", "users/me/workspace", AUTHENTICATED, get_workspace),
    Operation("POST", "users/me/workspace", (Permission.UPSTREAM_WRITE,), set_workspace, {"preferred": OPTIONAL}, by_cli=True),
)
