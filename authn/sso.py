"""Users whom a trusted proxy names: created at their first sign-in, with the role of their groups at each one."""

import logging
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts import selectors
from accounts.identifiers import contact_address
from accounts.models import DeletedUser, RoleSource, SignIn, User
from accounts.selectors import UserRecord
from accounts.services import deleted_users
from accounts.services.role_defaults import default_role
from accounts.services.users import find_user, free_uid, set_role
from audit.events import Event
from audit.record import record
from authn.credentials import InvalidCredential
from core import agreement
from core.errors import Invalid, ServiceError
from rbac import principals
from rbac.fallback import lesser_role
from rbac.principals import Method
from rbac.services import get_role, lock_policy, role_table

logger = logging.getLogger("skyauth.sso")
ACTOR = principals.system("single sign-on")


def sign_in(username: str, groups: tuple[str, ...] | None) -> UserRecord | None:
    """Return the user of a canonical name, or None when there is none and AUTH_CREATE_USERS is off. Raises InvalidCredential.

    With `groups` None SkyAuth reads no groups, and the role stays. An empty tuple is a user in no group. A role that came from a
    group is replaced when none of the groups gives one; a role that an admin gave stays.
    """
    user = selectors.user_by_name(username)
    role = selectors.role_of_groups(groups) if groups else None
    if user is None:
        if not settings.AUTH_CREATE_USERS:
            return None
        _create(username, role)
        return selectors.user_by_name(username)
    if groups is None or not user.active or user.sign_in == SignIn.PASSWORD:
        return user
    if role is not None and (user.role != role or user.role_source != RoleSource.GROUP):
        return _change_role(user, role)
    if role is None and user.role_source == RoleSource.GROUP:
        return _change_role(user, None)
    return user


@transaction.atomic
def _create(username: str, role: str | None) -> None:
    """Create the user, unless a parallel request has done so. A deleted user who returns has at most the role from before.

    Raises InvalidCredential for a blocked name.
    """
    lock_policy()
    if User.objects.filter(username=username).exists():
        return
    deleted = DeletedUser.objects.filter(username=username).first()
    if deleted is not None and deleted.blocked:
        raise InvalidCredential(
            "deleted user whose name is blocked", method=Method.PROXY, claimed=username, message=deleted_users.BLOCKED
        )
    if role is None:
        role_name = default_role().name
        new_role = get_role(role_name if deleted is None else lesser_role(role_name, deleted.role, role_table()))
    else:
        new_role = get_role(role)
    User.objects.create(
        username=username,
        uid=free_uid(username),
        email=contact_address(username),
        sign_in=SignIn.SSO,
        password=make_password(None),
        role=new_role,
        role_source=RoleSource.DEFAULT if role is None else RoleSource.GROUP,
    )
    data: dict[str, Any] = {"role": new_role.name, "sign_in": SignIn.SSO.value}
    if deleted is not None:
        deleted.delete()
        data["returned"] = True
    record(Event.USER_CREATED, actor=ACTOR, target=username, data=data)


def _change_role(user: UserRecord, role: str | None) -> UserRecord | None:
    """Give the user the role of a group, or None for the role after the last group, and return the user.

    The last admin keeps theirs, whatever the groups are.
    """
    try:
        # The identity provider has decided: the SkyPilot server is asked before the user's next request (ADR 14).
        with agreement.assumed(), transaction.atomic():
            lock_policy()
            row = find_user(user.username)
            if role is not None:
                kept, source = _role_before_groups(row), RoleSource.GROUP
            elif row.role_source != RoleSource.GROUP:
                return selectors.user_by_name(user.username)  # a parallel request or an admin has replaced the group's role
            else:
                role, source = _role_after_groups(row)
                kept = None
            set_role(actor=ACTOR, user=row, role=role, source=source)
            User.objects.filter(pk=row.pk).update(role_before_group=kept)
    except ServiceError as error:
        logger.warning("The role of a user stays as it is: %s", error.message)
        return replace(user, settled=False)
    return selectors.user_by_name(user.username)


def _role_before_groups(user: User) -> str | None:
    """Return the role to keep for the time after the groups, or None for the default role.

    It is the one that an admin gave, or less than the default: that is what is left of a role that the user has lost before.
    """
    if user.role_source == RoleSource.GROUP:
        return user.role_before_group
    if user.role_source == RoleSource.MANUAL:
        return user.role.name
    try:
        default = default_role().name
    except Invalid:  # the default role was deleted
        return user.role.name
    role = lesser_role(default, user.role.name, role_table())
    return None if role == default else role


def _role_after_groups(user: User) -> tuple[str, RoleSource]:
    """Return the role of a user whose groups give none any more: at most the one that an admin gave before, else the default."""
    table = role_table()
    given = user.role_before_group
    if given is None or given not in table:
        return lesser_role(default_role().name, user.role.name, table), RoleSource.DEFAULT
    role = lesser_role(given, user.role.name, table)
    return role, RoleSource.MANUAL if role == given else RoleSource.DEFAULT
