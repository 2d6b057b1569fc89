"""Services for users. An active admin always remains, and nobody grants a permission that they lack."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from axes.models import AccessAttempt
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from accounts.identifiers import BadName, canonical_email, contact_address, new_username, user_uid
from accounts.models import RoleSource, ServiceAccount, Session, SignIn, User
from accounts.services import bulk, deleted_users, password_limits, upstream
from accounts.services.role_defaults import least_role
from accounts.shared_credential import shared_hash
from audit.events import Event
from audit.record import record
from core.agreement import asks_first
from core.errors import Conflict, Forbidden, Invalid, NotFound, ServiceError
from rbac.models import Role
from rbac.permissions import ADMIN, Permission
from rbac.principals import Kind, Principal
from rbac.services import get_role, lock_policy, require, require_all, validate


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
    attempt = 0
    while User.objects.filter(Q(uid=(uid := user_uid(username, attempt))) | Q(username=uid)).exists():
        attempt += 1
    return uid


def _canonical(username: str) -> str:
    """Return the canonical name, if it is not taken. Raises Invalid and Conflict."""
    try:
        name = new_username(username)
    except BadName as error:
        raise Invalid.field("username", str(error)) from None
    if User.objects.filter(username=name).exists():
        raise Conflict(f"User {name!r} already exists.", fields={"username": [f"User {name!r} already exists."]})
    if User.objects.filter(uid=name).exists():
        raise Conflict(f"The name {name!r} is the id of a user.", fields={"username": ["This name is the id of a user."]})
    if ServiceAccount.objects.filter(name=name).exists() or shared_hash(name) is not None:
        raise Conflict(
            f"The name {name!r} is taken by a service account or the shared password.",
            fields={"username": ["This name is taken."]},
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
    require_all(actor, user_role.holds, f"give the role {user_role.name}")
    user = User(
        username=name,
        uid=free_uid(name),
        email=contact_address(name) if email is None else _email(email),
        display_name=display_name,
        sign_in=sign_in or (SignIn.PASSWORD if password else SignIn.SSO),
        role=user_role,
        role_source=RoleSource.DEFAULT if role is None else RoleSource.MANUAL,
        is_active=active,
    )
    if password is None and user.sign_in == SignIn.PASSWORD:
        raise Invalid.field("password", "A user who signs in by password needs a password.")
    if user.sign_in != SignIn.PASSWORD and "@" not in name:
        raise Invalid.field(
            "username", "Single sign-on identifies users by e-mail address. Use one as the user name, or set a password."
        )
    if password is not None:
        password_limits.require_group_roles(actor, name, user.sign_in)
    user.password = make_password(None) if password is None else _hashed(password, user)
    validate(user)
    user.save()
    data = {"uid": user.uid, "role": user_role.name, "sign_in": user.sign_in, **({} if active else {"active": False})}
    if deleted_users.discard(actor=actor, username=name):
        data["unblocked"] = True
    record(Event.USER_CREATED, actor=actor, target=name, data=data)
    return user


def _email(text: str) -> str:
    try:
        return canonical_email(text) if text else ""
    except BadName as error:
        raise Invalid.field("email", str(error)) from None


def require_change(actor: Principal, user: User, doing: str = "change") -> None:
    """Raise Forbidden unless the actor can change this user: nobody changes a user with more permissions than their own."""
    require(actor, Permission.USERS_WRITE)
    require_all(actor, user.role.holds, f"{doing} {user.username}")


def lock_user(user: User) -> User:
    """Take the policy lock and return the user as stored now. Raises NotFound."""
    lock_policy()
    return get_user(user.uid)


def require_other_admin(user: User) -> None:
    """Raise Conflict for the last active admin. Call it under `lock_policy`, before the change (promise 33)."""
    if (
        user.is_active
        and user.role.name == ADMIN
        and not User.objects.filter(is_active=True, role__name=ADMIN).exclude(pk=user.pk).exists()
    ):
        raise Conflict(f"{user.username} is the last active admin. Give another user the admin role first.")


@asks_first
@transaction.atomic
def set_role(*, actor: Principal, user: User, role: str, source: RoleSource = RoleSource.MANUAL) -> User:
    """Change the role of a user and return the user. Raises Forbidden, Invalid, Conflict, NotFound."""
    require(actor, Permission.USERS_WRITE)
    user = lock_user(user)
    new, before = get_role(role), user.role
    require_all(actor, new.holds | before.holds, f"change the role of {user.username} from {before.name} to {new.name}")
    if new.name != ADMIN:
        require_other_admin(user)
    if (new.pk, source) == (before.pk, user.role_source):
        return user
    upstream.require_user_role(actor, user, new)
    user.role, user.role_source = new, source
    user.save(update_fields=["role", "role_source"])
    record(
        Event.USER_UPDATED,
        actor=actor,
        target=user.username,
        data={"old": {"role": before.name}, "new": {"role": new.name}},
    )
    return user


@transaction.atomic
def set_active(*, actor: Principal, user: User, active: bool) -> User:
    """Enable or disable a user and return the user. Credentials and service accounts of a disabled user are rejected.

    Raises Forbidden, Conflict, NotFound.
    """
    require(actor, Permission.USERS_WRITE)
    user = lock_user(user)
    require_change(actor, user, "enable" if active else "disable")
    if not active:
        require_other_admin(user)
    if user.is_active != active:
        if active:
            _clear_failures(user)
        user.is_active = active
        user.save(update_fields=["is_active"])
        record(
            Event.USER_UPDATED,
            actor=actor,
            target=user.username,
            data={"old": {"active": not active}, "new": {"active": active}},
        )
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
    require_change(actor, user)
    before = {"email": user.email, "display_name": user.display_name, "sign_in": str(user.sign_in)}
    user.email = user.email if email is None else _email(email)
    user.display_name = user.display_name if display_name is None else display_name
    user.sign_in = user.sign_in if sign_in is None else sign_in
    _require_usable(user)
    validate(user)
    if user.sign_in != before["sign_in"]:
        password_limits.require_group_roles(actor, user.username, user.sign_in)
    after = {"email": user.email, "display_name": user.display_name, "sign_in": str(user.sign_in)}
    if after != before:
        user.save(update_fields=list(after))
        if user.sign_in == SignIn.SSO:
            password_limits.end_password_sign_ins(user)
        record(Event.USER_UPDATED, actor=actor, target=user.username, data={"old": before, "new": after})
    return user


def _require_usable(user: User) -> None:
    """Raise Invalid unless the user can sign in by their sign-in method."""
    if user.sign_in != SignIn.PASSWORD and "@" not in user.username:
        raise Invalid.field("sign_in", "Single sign-on identifies users by e-mail address, and this user name is not one.")
    if user.sign_in != SignIn.SSO and not user.has_usable_password():
        raise Invalid.field("sign_in", "Set a password first.")


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
    _clear_failures(user)
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


def _clear_failures(user: User) -> None:
    """Delete the counted wrong passwords of a user whom an admin enables: a lockout would refuse the right one."""
    AccessAttempt.objects.filter(username=user.username).delete()


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
    _require_usable(user)
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
