"""Users whom a trusted proxy names: created at first sight, given the role of their groups at each sign-in."""

import logging
from dataclasses import replace

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts import selectors
from accounts.models import RoleSource, SignIn, User
from accounts.selectors import UserRecord
from accounts.services.users import default_role, find_user, free_uid, set_role
from audit.events import Event
from audit.record import record
from core.errors import ServiceError
from rbac import principals
from rbac.services import get_role, lock_policy

logger = logging.getLogger("skyauth.sso")
ACTOR = principals.system("single sign-on")


def sign_in(username: str, groups: tuple[str, ...] | None) -> UserRecord | None:
    """Return the user of a canonical name, or None when there is none and none may be created.

    `groups` None means that the proxy says nothing of groups: the role stays. A role that came from a group is taken back
    when no group gives one any more.
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
        return _give(user, role, RoleSource.GROUP)
    if role is None and user.role_source == RoleSource.GROUP:
        return _give(user, None, RoleSource.DEFAULT)
    return user


@transaction.atomic
def _create(username: str, role: str | None) -> None:
    """Create the user unless a parallel first request has just done so."""
    lock_policy()
    if User.objects.filter(username=username).exists():
        return
    given = default_role() if role is None else get_role(role)
    User.objects.create(
        username=username,
        uid=free_uid(username),
        email=username,
        sign_in=SignIn.SSO,
        password=make_password(None),
        role=given,
        role_source=RoleSource.DEFAULT if role is None else RoleSource.GROUP,
    )
    record(Event.USER_CREATED, actor=ACTOR, target=username, data={"role": given.name, "sign_in": SignIn.SSO.value})


def _give(user: UserRecord, role: str | None, source: RoleSource) -> UserRecord | None:
    """Give the role that the groups say (None: the default one). The last admin keeps theirs, whatever the groups say."""
    try:
        with transaction.atomic():
            lock_policy()
            name = default_role().name if role is None else role
            set_role(actor=ACTOR, user=find_user(user.username), role=name, source=source)
    except ServiceError as error:
        logger.warning("The role of a user stays as it is: %s", error.message)
        return replace(user, settled=False)
    return selectors.user_by_name(user.username)
