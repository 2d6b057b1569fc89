"""What limits the passwords of users who can also, or only, use single sign-on."""

from accounts.models import CliAuthorization, Session, SignIn, User
from rbac.models import Role
from rbac.principals import Principal
from rbac.services import require_all


def require_group_roles(actor: Principal, username: str, sign_in: str) -> None:
    """Raise Forbidden if a group could give this user more permissions than the actor has, who may know the password.

    It concerns users who can sign in in both ways: a group can give the user its role at any single sign-on, and the password
    then opens that role, too (promise 30). `sign_in` is the method after the change. Call it under `lock_policy`.
    """
    if sign_in == SignIn.BOTH:
        held = frozenset[str]().union(*(role.holds for role in Role.objects.filter(group_roles__isnull=False).distinct()))
        require_all(actor, held, f"let {username} use a password beside single sign-on, where groups give roles")


def end_password_sign_ins(user: User) -> None:
    """End what began with the password of a user who cannot use one any more: sessions, and CLI logins that become sessions.

    A CLI login behind an auth proxy has the proxy's cookies, and stays.
    """
    Session.objects.filter(user=user).delete()
    CliAuthorization.objects.filter(user=user, encrypted_cookies="").delete()
