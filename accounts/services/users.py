"""Services for users. An active admin always remains, and nobody grants a permission that they lack."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from axes.models import AccessAttempt
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from accounts.models import RoleSource, ServiceAccount, Session, SignIn, User
from accounts.services import bulk, deleted_users, password_limits, upstream, user_rules
from accounts.services.role_defaults import least_role
from audit.events import Event
from audit.record import record
from core.agreement import asks_first
from core.bulk import batches
from core.errors import Conflict, Forbidden, Invalid, NotFound, ServiceError
from rbac.models import Role
from rbac.permissions import ADMIN, Permission
from rbac.principals import Kind, Principal
from rbac.services import get_role, lock_policy, require, require_all
from rbac.validation import validate


def get_user(uid: str) -> User:
    """Return the user with this id. Raises NotFound."""
    try:
        return User.objects.select_related("role").get(uid=uid)
    except User.DoesNotExist:
        raise NotFound(f"There is no user with the id {uid!r}.") from None


def find_user(name_or_uid: str) -> User:
    """Return the user with this id or name. An id comes first: no name can take another user's place. Raises NotFound."""
    users = User.objects.select_related("role")
    user = users.filter(uid=name_or_uid).first() or users.filter(username=name_or_uid.lower()).first()
    if user is None:
        raise NotFound(f"There is no user named {name_or_uid!r}.")
    return user


def active_admins() -> int:
    """Return the number of active users with the admin role."""
    return User.objects.filter(is_active=True, role__name=ADMIN).count()


def free_uid(username: str) -> str:
    """Return the id for a name, or the next free id after a collision with an id or a name. Call it under `lock_policy`."""
    return user_rules.first_free_uid(username, uid_is_taken)


def uid_is_taken(uid: str) -> bool:
    """Return whether a user has this id, or has it as the name."""
    return User.objects.filter(Q(uid=uid) | Q(username=uid)).exists()


def _canonical(username: str) -> str:
    """Return the canonical name, if it is not taken. Raises Invalid and Conflict."""
    name = user_rules.new_name(username)
    user_rules.require_free_name(
        name,
        is_user=User.objects.filter(username=name).exists(),
        is_uid=User.objects.filter(uid=name).exists(),
        is_account=ServiceAccount.objects.filter(name=name).exists(),
    )
    return name


@dataclass(frozen=True, slots=True)
class HashedPassword:
    """A password that `validate_new_password` accepted, hashed before the lock is taken: hashing many takes minutes."""

    encoded: str = field(repr=False)


def validate_new_password(password: str, user: User) -> None:
    """Raise Invalid unless the password validators accept the password for this user."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages), fields={"password": error.messages}) from None


def _hashed(password: str | HashedPassword, user: User) -> str:
    """Return the hash of a valid password. Raises Invalid."""
    if isinstance(password, HashedPassword):
        return password.encoded
    validate_new_password(password, user)
    return make_password(password)


@transaction.atomic
def create_user(
    *,
    actor: Principal,
    username: str,
    password: str | HashedPassword | None = None,
    role: str | None = None,
    email: str | None = None,
    display_name: str = "",
    sign_in: str | None = None,
    active: bool = True,
    default: Callable[[Principal], Role] = least_role,
) -> User:
    """Create and return a user. Without a password the user signs in by single sign-on; without a role they get the `default`.

    Raises Forbidden, Invalid, Conflict.
    """
    require(actor, Permission.USERS_WRITE)
    lock_policy()
    name = _canonical(username)
    user_role = default(actor) if role is None else get_role(role)
    user = user_rules.new_user(
        actor=actor,
        name=name,
        role=user_role,
        source=RoleSource.DEFAULT if role is None else RoleSource.MANUAL,
        email=email,
        display_name=display_name,
        sign_in=sign_in,
        active=active,
        has_password=password is not None,
    )
    if password is not None:
        password_limits.require_group_roles(actor, name, user.sign_in)
    user.uid = free_uid(name)
    user.password = make_password(None) if password is None else _hashed(password, user)
    validate(user)
    user.save()
    unblocked = deleted_users.discard(actor=actor, username=name)
    record(Event.USER_CREATED, actor=actor, target=name, data=user_rules.creation(user, unblocked=unblocked))
    return user


def require_change(actor: Principal, user: User, doing: str = "change") -> None:
    """Raise Forbidden unless the actor can change this user: nobody changes a user with more permissions than their own."""
    require(actor, Permission.USERS_WRITE)
    user_rules.require_within(actor, user, doing)


def lock_user(user: User) -> User:
    """Take the policy lock and return the user as stored now. Raises NotFound."""
    lock_policy()
    return get_user(user.uid)


def require_other_admin(user: User) -> None:
    """Raise Conflict for the last active admin. Call it under `lock_policy`, before the change (promise 33)."""
    user_rules.require_other_admin(user, has_other_admin)


def has_other_admin(user: User) -> bool:
    """Return whether another active user than this one has the admin role."""
    return User.objects.filter(is_active=True, role__name=ADMIN).exclude(pk=user.pk).exists()


@asks_first
@transaction.atomic
def set_role(*, actor: Principal, user: User, role: str, source: RoleSource = RoleSource.MANUAL) -> User:
    """Change the role of a user and return the user. Raises Forbidden, Invalid, Conflict, NotFound."""
    require(actor, Permission.USERS_WRITE)
    user = lock_user(user)
    before = user.role
    data = user_rules.change_role(actor, user, get_role(role), source, has_other_admin)
    if data is not None:
        upstream.require_user_role(actor, user, before, user.role)
        user.save(update_fields=["role", "role_source"])
        record(Event.USER_UPDATED, actor=actor, target=user.username, data=data)
    return user


@transaction.atomic
def set_active(*, actor: Principal, user: User, active: bool) -> User:
    """Enable or disable a user and return the user. Credentials and service accounts of a disabled user are rejected.

    Raises Forbidden, Conflict, NotFound.
    """
    require(actor, Permission.USERS_WRITE)
    user = lock_user(user)
    data = user_rules.change_active(actor, user, active, has_other_admin)
    if data is not None:
        if active:
            clear_failures([user.username])
        user.save(update_fields=["is_active"])
        record(Event.USER_UPDATED, actor=actor, target=user.username, data=data)
    return user


@transaction.atomic
def update_profile(
    *,
    actor: Principal,
    user: User,
    email: str | None = None,
    display_name: str | None = None,
    sign_in: str | None = None,
) -> User:
    """Change the profile of a user and how they can sign in, and return the user. Raises Forbidden, Invalid, NotFound."""
    require(actor, Permission.USERS_WRITE)
    user = lock_user(user)
    data = user_rules.change_profile(actor, user, email=email, display_name=display_name, sign_in=sign_in)
    validate(user)
    if data is not None:
        if data["old"]["sign_in"] != data["new"]["sign_in"]:
            password_limits.require_group_roles(actor, user.username, user.sign_in)
        user.save(update_fields=["email", "display_name", "sign_in"])
        if user.sign_in == SignIn.SSO:
            password_limits.end_password_sign_ins([user.pk])
        record(Event.USER_UPDATED, actor=actor, target=user.username, data=data)
    return user


@transaction.atomic
def set_password(*, actor: Principal, user: User, password: str, sign_in: str | None = None) -> User:
    """Set the password of a user, which ends all sessions, and return the user. `sign_in` None keeps the sign-in method.

    For a user of single sign-on a password is a second way in, so `sign_in` must be `both` or `password`. Raises Forbidden,
    Invalid, NotFound.
    """
    require(actor, Permission.USERS_WRITE)
    user = lock_user(user)
    if actor.owner == user.pk:  # also through a service account of one's own
        raise Forbidden("This is your own password. To change it, you need the current one: use Change password on your profile.")
    require_change(actor, user, "set the password of")
    password_limits.require_group_roles(actor, user.username, sign_in or user.sign_in)
    clear_failures([user.username])
    return _set_password(actor, user, password, sign_in=sign_in)


@transaction.atomic
def replace_own_password(*, actor: Principal, user: User, password: str, keep_session: str = "") -> User:
    """Set the password of the actor, whose current password `authn.own_password` has verified against `user`.

    All sessions of the user are deleted, except the one with the digest `keep_session`. Raises Forbidden, Invalid, and Conflict
    if the password has changed since then.
    """
    require(actor, Permission.PASSWORD_OWN)
    if actor.kind is not Kind.USER or actor.uid != user.uid:
        raise Forbidden("You can only change your own password.")
    locked = lock_user(user)
    if locked.password != user.password:
        raise Conflict("Your password was changed in the meantime. Sign in again.")
    if locked.sign_in == SignIn.SSO:
        raise Conflict("You sign in through your identity provider, and have no password here.")
    return _set_password(actor, locked, password, keep_session=keep_session)


def clear_failures(usernames: Sequence[str]) -> None:
    """Delete the counted wrong passwords of users whom an admin enables: a lockout would refuse the right one."""
    for part in batches(usernames):
        AccessAttempt.objects.filter(username__in=part).delete()


def _set_password(actor: Principal, user: User, password: str, *, sign_in: str | None = None, keep_session: str = "") -> User:
    before = str(user.sign_in)
    user.sign_in = before if sign_in is None else sign_in
    if user.sign_in == SignIn.SSO:
        raise Invalid.field(
            "sign_in",
            f"{user.username} signs in through single sign-on. A password would be a second way to sign in. To allow both, "
            "choose the sign-in method both. To replace single sign-on, choose password.",
        )
    user.password = _hashed(password, user)
    user_rules.require_usable(user)
    validate(user)
    user.save(update_fields=["password", "sign_in"])
    # Every session names the password it began under, and so is refused from now on: it must not be listed any more.
    Session.objects.filter(user=user).exclude(session_key=keep_session).delete()
    data = {"old": {"sign_in": before}, "new": {"sign_in": str(user.sign_in)}}
    record(Event.USER_PASSWORD_CHANGED, actor=actor, target=user.username, data=data)
    return user


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The result for one item of a bulk action; `error` is None on success."""

    target: str
    error: str | None = None


def bulk_set_role(*, actor: Principal, uids: Iterable[str], role: str) -> list[BulkResult]:
    """Give each of these users, by id or name, a role and return a result for each. The actor's own role is changed last.

    Raises Forbidden and Invalid if the role cannot be given.
    """
    require(actor, Permission.USERS_WRITE)
    require_all(actor, get_role(role).holds, f"give the role {role}")
    results = []
    for uid in sorted(uids, key=lambda uid: uid in (actor.uid, actor.name)):
        try:
            bulk.one_of_many(actor, partial(set_role, actor=actor, user=find_user(uid), role=role))
            results.append(BulkResult(uid))
        except ServiceError as error:
            results.append(BulkResult(uid, error.message))
    return results
