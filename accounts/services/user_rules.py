"""The rules for users, without queries: `users` applies them to one user, and `user_import` to all users of a file.

Each `change_*` function changes the row that it receives, and returns the data of the audit entry, or None if nothing changes.
The caller saves the row. `has_other_admin` returns whether another active user than this one has the admin role.
"""

import secrets
from collections.abc import Callable
from typing import Any

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX, UNUSABLE_PASSWORD_SUFFIX_LENGTH

from accounts.identifiers import BadName, canonical_email, canonical_username, contact_address, new_username, user_uid
from accounts.models import RoleSource, SignIn, User
from accounts.shared_credential import shared_hash
from core.errors import Conflict, Invalid
from rbac.models import Role
from rbac.permissions import ADMIN
from rbac.principals import Principal
from rbac.services import require_all

HasOtherAdmin = Callable[[User], bool]


def canonical_name(username: str) -> str:
    """Return the canonical form of a user name. Raises Invalid."""
    try:
        return canonical_username(username)
    except BadName as error:
        raise Invalid.field("username", str(error)) from None


def new_name(username: str) -> str:
    """Return the canonical name of a user to create. Raises Invalid."""
    try:
        return new_username(username)
    except BadName as error:
        raise Invalid.field("username", str(error)) from None


def require_free_name(name: str, *, is_user: bool, is_uid: bool, is_account: bool) -> None:
    """Raise Conflict for a canonical name that a user has, that is a user's id, or that something else has."""
    if is_user:
        raise Conflict(f"User {name!r} already exists.", fields={"username": [f"User {name!r} already exists."]})
    if is_uid:
        raise Conflict(f"The name {name!r} is the id of a user.", fields={"username": ["This name is the id of a user."]})
    if is_account or shared_hash(name) is not None:
        raise Conflict(
            f"The name {name!r} is taken by a service account or the shared password.",
            fields={"username": ["This name is taken."]},
        )


def first_free_uid(username: str, is_taken: Callable[[str], bool]) -> str:
    """Return the id for a name, or the next free one after a collision."""
    attempt = 0
    while is_taken(uid := user_uid(username, attempt)):
        attempt += 1
    return uid


def new_user(
    *,
    actor: Principal,
    name: str,
    role: Role,
    source: RoleSource,
    email: str | None,
    display_name: str,
    sign_in: str | None,
    active: bool,
    has_password: bool,
) -> User:
    """Return the row of a new user with this canonical name, without an id and a password. Raises Forbidden, Invalid."""
    require_all(actor, role.holds, f"give the role {role.name}")
    user = User(
        username=name,
        email=contact_address(name) if email is None else email_address(email),
        display_name=display_name,
        sign_in=sign_in or (SignIn.PASSWORD if has_password else SignIn.SSO),
        role=role,
        role_source=source,
        is_active=active,
    )
    if not has_password and user.sign_in == SignIn.PASSWORD:
        raise Invalid.field("password", "A user who signs in by password needs a password.")
    if user.sign_in != SignIn.PASSWORD and "@" not in name:
        raise Invalid.field(
            "username", "Single sign-on identifies users by e-mail address. Use one as the user name, or set a password."
        )
    return user


def unusable_password() -> str:
    """Return what a user without a password has in its place: random, and in no time, unlike Django's."""
    return UNUSABLE_PASSWORD_PREFIX + secrets.token_hex(UNUSABLE_PASSWORD_SUFFIX_LENGTH // 2)


def creation(user: User, *, unblocked: bool) -> dict[str, Any]:
    """Return the data of the audit entry of a new user."""
    data: dict[str, Any] = {"uid": user.uid, "role": user.role.name, "sign_in": user.sign_in}
    return {**data, **({} if user.is_active else {"active": False}), **({"unblocked": True} if unblocked else {})}


def email_address(text: str) -> str:
    """Return the canonical form of an e-mail address, or "" for none. Raises Invalid."""
    try:
        return canonical_email(text) if text else ""
    except BadName as error:
        raise Invalid.field("email", str(error)) from None


def change_role(
    actor: Principal, user: User, role: Role, source: RoleSource, has_other_admin: HasOtherAdmin
) -> dict[str, Any] | None:
    """Give a user a role. Raises Forbidden, Conflict."""
    before = user.role
    require_all(actor, role.holds | before.holds, f"change the role of {user.username} from {before.name} to {role.name}")
    if role.name != ADMIN:
        require_other_admin(user, has_other_admin)
    if (role.pk, source) == (before.pk, user.role_source):
        return None
    user.role, user.role_source = role, source
    return {"old": {"role": before.name}, "new": {"role": role.name}}


def change_active(actor: Principal, user: User, active: bool, has_other_admin: HasOtherAdmin) -> dict[str, Any] | None:
    """Enable or disable a user. Raises Forbidden, Conflict."""
    require_within(actor, user, "enable" if active else "disable")
    if not active:
        require_other_admin(user, has_other_admin)
    if user.is_active == active:
        return None
    user.is_active = active
    return {"old": {"active": not active}, "new": {"active": active}}


def change_profile(
    actor: Principal, user: User, *, email: str | None, display_name: str | None, sign_in: str | None
) -> dict[str, Any] | None:
    """Change the profile of a user; None keeps a value. Raises Forbidden, Invalid. The caller validates the row."""
    require_within(actor, user)
    before = {"email": user.email, "display_name": user.display_name, "sign_in": str(user.sign_in)}
    user.email = user.email if email is None else email_address(email)
    user.display_name = user.display_name if display_name is None else display_name
    user.sign_in = user.sign_in if sign_in is None else sign_in
    require_usable(user)
    after = {"email": user.email, "display_name": user.display_name, "sign_in": str(user.sign_in)}
    return None if after == before else {"old": before, "new": after}


def require_within(actor: Principal, user: User, doing: str = "change") -> None:
    """Raise Forbidden for a user with more permissions than the actor's."""
    require_all(actor, user.role.holds, f"{doing} {user.username}")


def require_other_admin(user: User, has_other_admin: HasOtherAdmin) -> None:
    """Raise Conflict for the last active admin (promise 33)."""
    if user.is_active and user.role.name == ADMIN and not has_other_admin(user):
        raise Conflict(f"{user.username} is the last active admin. Give another user the admin role first.")


def require_usable(user: User) -> None:
    """Raise Invalid unless the user can sign in by their sign-in method."""
    if user.sign_in != SignIn.PASSWORD and "@" not in user.username:
        raise Invalid.field("sign_in", "Single sign-on identifies users by e-mail address, and this user name is not one.")
    if user.sign_in != SignIn.SSO and not user.has_usable_password():
        raise Invalid.field("sign_in", "Set a password first.")
