"""Principals of users and service accounts without a credential, as they would be after authentication."""

from collections.abc import Callable, Iterable

from django.conf import settings

from accounts.identifiers import ACCOUNT_PREFIX
from accounts.models import ServiceAccount, User
from accounts.shared_credential import shared_hash
from core.errors import Forbidden, NotFound
from rbac import principals
from rbac.explain import CredentialStatus
from rbac.models import Role
from rbac.permissions import Permission, cap_to_owner
from rbac.principals import ANONYMOUS, Kind, Method, Principal

CallerKey = tuple[str, str]  # kind and uid


def find_principal(name: str) -> tuple[Principal, CredentialStatus]:
    """Return the principal with this id or name as after authentication, and the status of its credentials.

    An id comes first, as in `services.users.find_user`. Raises NotFound.
    """
    if name.lower() == ANONYMOUS.name and not User.objects.filter(username=name.lower()).exists():
        return ANONYMOUS, CredentialStatus.GOOD
    if shared_hash(name) is not None:  # it takes precedence over a user of the same name
        return principals.shared(name, ""), CredentialStatus.GOOD
    users = User.objects.select_related("role")
    accounts = ServiceAccount.objects.select_related("role", "owner", "owner__role")
    if user := users.filter(uid=name).first() or users.filter(username=name.lower()).first():
        return user_principal(user)
    if account := accounts.filter(name=name.lower()).first():
        return service_account_principal(account)
    if name.startswith(ACCOUNT_PREFIX) and (account := accounts.filter(uid=name).first()):
        return service_account_principal(account)
    raise NotFound(f"There is no user or service account {name!r}.")


def find_principal_for(*, actor: Principal, name: str) -> tuple[Principal, CredentialStatus]:
    """Return what `find_principal` does, or the actor for an empty name. Only others require the permission to explain.

    Raises Forbidden, whether or not there is such a principal, and NotFound.
    """
    if not name or _is(actor, name):
        return actor, CredentialStatus.GOOD
    if not actor.holds(Permission.POLICY_EXPLAIN):
        raise Forbidden(
            f"To explain other callers you need the permission {Permission.POLICY_EXPLAIN}, which your role does not have."
        )
    return find_principal(name)


def _is(actor: Principal, name: str) -> bool:
    """Return whether the name or id is the actor's."""
    try:
        return find_principal(name)[0].uid == actor.uid
    except NotFound:
        return False


def current_principal(kind: Kind, uid: str, name: str) -> tuple[Principal, CredentialStatus] | None:
    """Return the current principal of this kind and id, and the status of its credentials; None if it no longer exists."""
    match kind:
        case Kind.USER:
            user = User.objects.select_related("role").filter(uid=uid).first()
            return user_principal(user) if user is not None else None
        case Kind.SERVICE_ACCOUNT:
            account = ServiceAccount.objects.select_related("role", "owner", "owner__role").filter(uid=uid).first()
            return service_account_principal(account) if account is not None else None
        case Kind.SHARED:
            return (principals.shared(name, ""), CredentialStatus.GOOD) if shared_hash(name) is not None else None
        case _:
            return ANONYMOUS, CredentialStatus.GOOD


def require_unchanged(actor: Principal, message: str) -> None:
    """Raise Forbidden with this message if the actor has lost a permission, or the credentials, since the request began."""
    if actor.kind is Kind.SYSTEM:
        return
    current = current_principal(actor.kind, actor.uid, actor.name)
    if current is None or current[1] is not CredentialStatus.GOOD or not actor.permissions <= current[0].permissions:
        raise Forbidden(message)


def user_principal(user: User) -> tuple[Principal, CredentialStatus]:
    """Return the principal of a user, and the status of its credentials."""
    principal = Principal(
        Kind.USER,
        user.uid,
        user.username,
        role=user.role.name,
        permissions=user.role.holds,
        pk=user.pk,
        owner=user.pk,
        display_name=user.display_name,
        email=user.email,
    )
    return principal, CredentialStatus.GOOD if user.is_active else CredentialStatus.DISABLED_USER


def service_account_principal(account: ServiceAccount) -> tuple[Principal, CredentialStatus]:
    """Return the principal of a service account, and the status of its credentials."""
    role, permissions = account.role.name, account.role.holds
    if account.owner is not None:
        role, permissions = cap_to_owner(role, permissions, account.owner.role.name, account.owner.role.holds)
    principal = Principal(
        Kind.SERVICE_ACCOUNT,
        account.uid,
        account.name,
        role=role,
        permissions=permissions,
        method=Method.BEARER,
        pk=account.pk,
        owner=account.owner_id,
    )
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        return principal, CredentialStatus.SWITCHED_OFF
    if not account.is_active:
        return principal, CredentialStatus.DISABLED_ACCOUNT
    owner_disabled = account.owner is not None and not account.owner.is_active
    return principal, CredentialStatus.DISABLED_OWNER if owner_disabled else CredentialStatus.GOOD


def permissions_of(
    callers: Iterable[tuple[CallerKey, str]], role_of: Callable[[Role], Role] = lambda role: role
) -> dict[CallerKey, frozenset[str]]:
    """Return the permissions of each caller, by kind and uid, with each role replaced by `role_of`.

    `callers` are pairs of a key and a name. A caller whose credentials are rejected, such as a disabled user, is left out.
    """
    names = dict(callers)
    uids = {kind: {uid for key_kind, uid in names if key_kind == kind} for kind in Kind}
    by_caller: dict[CallerKey, frozenset[str]] = {}

    def add(key: CallerKey, principal: Principal, status: CredentialStatus) -> None:
        if status is CredentialStatus.GOOD:
            by_caller[key] = principal.permissions

    for user in User.objects.select_related("role").filter(uid__in=uids[Kind.USER]):
        user.role = role_of(user.role)
        add((Kind.USER, user.uid), *user_principal(user))
    accounts = ServiceAccount.objects.select_related("role", "owner", "owner__role")
    for account in accounts.filter(uid__in=uids[Kind.SERVICE_ACCOUNT]):
        account.role = role_of(account.role)
        if account.owner is not None:
            account.owner.role = role_of(account.owner.role)
        add((Kind.SERVICE_ACCOUNT, account.uid), *service_account_principal(account))
    for kind in (Kind.ANONYMOUS, Kind.SHARED):
        for uid in uids[kind]:
            if (current := current_principal(kind, uid, names[kind, uid])) is not None:
                add((kind, uid), *current)
    return by_caller
