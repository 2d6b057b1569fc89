"""What limits the passwords of users who can also, or only, use single sign-on."""

from collections.abc import Sequence

from accounts.models import CliAuthorization, Session, SignIn
from core.bulk import batches
from rbac.models import Role
from rbac.principals import Principal
from rbac.services import require_all


def require_group_roles(actor: Principal, username: str, sign_in: str) -> None:
    """Raise Forbidden if a group could give this user permissions that the actor lacks, because the actor can know the password.

    It concerns users who can sign in in both ways: a group can give the user its role at any single sign-on, and the password
    then opens that role, too (promise 30). `sign_in` is the method after the change. Call it under `lock_policy`.
    """
    if sign_in == SignIn.BOTH:
        roles = Role.objects.filter(group_roles__isnull=False).distinct()
        require_permissions_of_groups(actor, username, sign_in, frozenset[str]().union(*(role.holds for role in roles)))


def require_permissions_of_groups(actor: Principal, username: str, sign_in: str, held: frozenset[str]) -> None:
    """As `require_group_roles`, where the permissions of the roles that groups give are known."""
    if sign_in == SignIn.BOTH:
        require_all(actor, held, f"let {username} use a password beside single sign-on, where groups give roles")


def end_password_sign_ins(users: Sequence[int]) -> None:
    """End what began with the passwords of users (by key) who cannot use one any more: sessions, and CLI logins.

    A CLI login behind an auth proxy has the proxy's cookies, and stays.
    """
    for part in batches(users):
        Session.objects.filter(user__in=part).delete()
        CliAuthorization.objects.filter(user__in=part, encrypted_cookies="").delete()
