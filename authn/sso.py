"""Users whom a trusted proxy names: created at their first sign-in, with the role of their groups at each one."""

import logging
from dataclasses import replace

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts import selectors
from accounts.models import RoleSource, SignIn, User
from accounts.selectors import UserRecord
from accounts.services.role_defaults import default_role
from accounts.services.users import find_user, free_uid, set_role
from audit.events import Event
from audit.record import record
from core import agreement
from core.errors import ServiceError
from rbac import principals
from rbac.services import get_role, lock_policy

logger = logging.getLogger("skyauth.sso")
ACTOR = principals.system("single sign-on")


def sign_in(username: str, groups: tuple[str, ...] | None) -> UserRecord | None:
    """Return the user of a canonical name, or None when there is none and AUTH_CREATE_USERS is off.

    With `groups` None the proxy sends no groups, and the role stays. A role that came from a group is replaced by the default
    role when none of the groups gives one.
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
    """Create the user, unless a parallel request has done so."""
    lock_policy()
    if User.objects.filter(username=username).exists():
        return
    new_role = default_role() if role is None else get_role(role)
    User.objects.create(
        username=username,
        uid=free_uid(username),
        email=username,
        sign_in=SignIn.SSO,
        password=make_password(None),
        role=new_role,
        role_source=RoleSource.DEFAULT if role is None else RoleSource.GROUP,
    )
    record(Event.USER_CREATED, actor=ACTOR, target=username, data={"role": new_role.name, "sign_in": SignIn.SSO.value})


def _give(user: UserRecord, role: str | None, source: RoleSource) -> UserRecord | None:
    """Give the user a role (None: the default one) and return the user. The last admin keeps theirs, whatever the groups are."""
    try:
        # The identity provider has decided: the SkyPilot server is asked before the user's next request (ADR 14).
        with agreement.assumed(), transaction.atomic():
            lock_policy()
            name = default_role().name if role is None else role
            set_role(actor=ACTOR, user=find_user(user.username), role=name, source=source)
    except ServiceError as error:
        logger.warning("The role of a user stays as it is: %s", error.message)
        return replace(user, settled=False)
    return selectors.user_by_name(user.username)
