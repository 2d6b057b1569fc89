"""Changing one's own password, which takes a proof of the current one."""

from accounts.models import User
from accounts.services import users
from authn.passwords import proves
from core.errors import Conflict, Forbidden, Invalid
from rbac.permissions import Permission
from rbac.principals import Kind, Principal
from rbac.services import require


def change_own_password(*, actor: Principal, current: str, password: str) -> User:
    """Change the actor's own password and return the user. Guesses of the current one are throttled as at sign-in.

    Raises Forbidden, Invalid, Conflict.
    """
    require(actor, Permission.PASSWORD_OWN)
    if actor.kind is not Kind.USER:
        raise Forbidden("Only a user has a password.")
    user = users.get_user(actor.uid)
    if not user.has_usable_password():
        raise Conflict("You sign in through your identity provider, and have no password here.")
    # Outside a transaction: a failure that is rolled back would not be counted.
    if not proves(user.username, user.password, current, actor.peer):
        raise Invalid.field("current_password", "This is not your current password.")
    return users.replace_own_password(actor=actor, user=user, password=password)
