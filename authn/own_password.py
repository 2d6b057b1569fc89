"""Changes the user's own password, which requires the current one."""

from accounts.models import SignIn, User
from accounts.services import users
from authn.passwords import matches_hash
from core.errors import Conflict, Forbidden, Invalid
from rbac.permissions import Permission
from rbac.principals import Kind, Principal
from rbac.services import require


def change_own_password(*, actor: Principal, current: str, password: str, keep_session: str = "") -> User:
    """Change the actor's own password and return the user. Guesses of the current one are throttled as at sign-in.

    The actor's sessions end. The one that is stored under `keep_session` stays, for the caller to put the new password's hash in.
    Raises Forbidden, Invalid, Conflict.
    """
    require(actor, Permission.PASSWORD_OWN)
    if actor.kind is not Kind.USER:
        raise Forbidden("Only a user has a password.")
    user = users.get_user(actor.uid)
    if user.sign_in == SignIn.SSO or not user.has_usable_password():
        raise Conflict("You sign in through your identity provider, and have no password here.")
    # Not in a transaction: a rollback would undo the count of a failure.
    if not matches_hash(user.username, user.password, current, actor.peer):
        raise Invalid.field("current_password", "This is not your current password.")
    return users.replace_own_password(actor=actor, user=user, password=password, keep_session=keep_session)
