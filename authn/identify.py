"""Authenticates a credential: `identify` returns its principal. Every interface uses this one implementation."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.db.models import Model
from django.utils import timezone

from accounts import group_names, selectors, token_format
from accounts.identifiers import BadName, canonical_identity
from accounts.models import ServiceAccount, Session, SessionKind, SignIn, Token, User
from accounts.querysets import session_expires_at
from accounts.selectors import TokenRecord, UserRecord
from audit.events import Event
from audit.record import record_refusal, suppress
from authn import credentials, jwt_verify, lockout, passwords, sso
from authn.credentials import Basic, Bearer, Credential, InvalidCredential, ProxyHeader, SessionCookie, shown
from authn.session_store import SIGNED_IN_AT, SessionStore, digest, proves_password
from core.watched import GROUPS, Tag
from rbac import principals
from rbac.models import Role
from rbac.principals import Kind, Method, Principal
from revision import last_used
from revision.last_used import Touch

NAME_REFUSED: Final = "the name of the user: "  # begins the reason for a name that an auth proxy sends and that cannot be used
FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class AuthenticationResult:
    """The principal of a credential, and until when that is valid while nothing that it depends on changes.

    `until` is in seconds since the epoch; 0 means that the result must not be reused. `touches` are the last-used timestamps
    to write. `depends_on` names the rows that were read (`core.watched`); None is everything that can change.
    """

    principal: Principal
    until: float = FOREVER
    touches: tuple[Touch, ...] = ()
    depends_on: tuple[Tag, ...] | None = None


def identify(credential: Credential | None, *, client: str) -> Principal:
    """Return the principal of a credential, ANONYMOUS for None. `client` is the client's address.

    Raises InvalidCredential for a bad credential, after recording the refusal. Any other exception (a database error,
    `passwords.Busy`, `provider_keys.KeysUnavailable`) is a failure of SkyAuth, not of the credential.
    """
    return authenticate(credential, client=client).principal


def authenticate(credential: Credential | None, *, client: str, record: bool = True) -> AuthenticationResult:
    """Return what `identify` does, with its validity, and touch the last-used timestamps. Raises as `identify` does.

    With `record=False` the caller records a refusal.
    """
    try:
        result = _authenticate(credential, client)
    except InvalidCredential as refusal:
        if record:
            record_bad_credential(refusal, client=client)
        raise
    for touch in result.touches:
        last_used.touch(touch)
    return result


def _authenticate(credential: Credential | None, client: str) -> AuthenticationResult:
    match credential:
        case None:
            return AuthenticationResult(principals.anonymous(client))
        case Bearer():
            return _bearer(credential, client)
        case Basic():
            return _basic(credential, client)
        case ProxyHeader():
            return _proxy_header(credential, client)
        case SessionCookie():
            session = _session(credential, client)
            if credential.beside_foreign and not session.principal.is_authenticated:
                raise credentials.foreign()
            return session


def record_bad_credential(refusal: InvalidCredential, *, client: str) -> None:
    """Record a refused sign-in, also for a credential that could not be parsed."""
    actor = principals.claimed(refusal.claimed, refusal.method, client)
    record_refusal(Event.SIGN_IN_REFUSED, actor=actor, reason=refusal.reason, key=_sampler_key(actor, refusal))


def is_suppressed(refusal: InvalidCredential, *, client: str) -> bool:
    """Count a refused sign-in, and return whether the refusal sampler drops its audit entry. Uses no database."""
    actor = principals.claimed(refusal.claimed, refusal.method, client)
    return suppress(Event.SIGN_IN_REFUSED, _sampler_key(actor, refusal)) is not None


def _sampler_key(actor: Principal, refusal: InvalidCredential) -> tuple[str, ...]:
    """Return the key of a refused sign-in: many have no name, and one proxy's address, and differ in the reason alone."""
    return (actor.name, actor.peer, refusal.reason)


def _bearer(credential: Bearer, client: str) -> AuthenticationResult:
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        raise InvalidCredential("service accounts are switched off", method=Method.BEARER)
    parsed = token_format.parse(credential.token)
    if parsed is None:
        raise InvalidCredential("malformed token", method=Method.BEARER)
    token = selectors.token_by_key(parsed.key_id)
    if token is None or not token_format.matches(parsed.digest, token.digest):
        raise InvalidCredential("unknown token", method=Method.BEARER)
    if reason := unusable(token):
        raise InvalidCredential(reason, method=Method.BEARER, claimed=token.account_name)
    principal = Principal(
        Kind.SERVICE_ACCOUNT,
        token.account_uid,
        token.account_name,
        role=token.role,
        permissions=token.permissions,
        method=Method.BEARER,
        peer=client,
        pk=token.account_pk,
        owner=token.owner_pk,
        token_key_id=parsed.key_id,
    )
    until = token.expires_at.timestamp() if token.expires_at is not None else FOREVER
    touches = (Touch(last_used.TOKEN, token.pk, token.last_used_at, client),)
    depends_on = [_tag(Token, token.pk), _tag(ServiceAccount, token.account_pk), *(_tag(Role, name) for name in token.roles)]
    if token.owner_pk is not None:
        depends_on.append(_tag(User, token.owner_pk))
    return AuthenticationResult(principal, until, touches, tuple(depends_on))


def unusable(token: TokenRecord) -> str:
    """Return why a genuine token is refused, or "". A disabled owner's service accounts are refused too."""
    if token.state != "active":
        return f"{token.state} token"
    if not token.account_active:
        return "disabled service account"
    return "" if token.owner_active else "service account of a disabled owner"


def _basic(credential: Basic, client: str) -> AuthenticationResult:
    if not settings.AUTH_BASIC:
        raise InvalidCredential("Basic is switched off", method=Method.BASIC)
    user = passwords.verify(credential, client)
    # The result is valid as long as the pair is cached here, so that each process hashes a password again after that time.
    until = passwords.cached_until(credential, user)
    failures = lockout.tag(client)
    if user is None:
        return AuthenticationResult(principals.shared(credential.username, client), until, depends_on=(failures,))
    return _user(user, Method.BASIC, client, until, failures)


def sign_in_with_password(credential: Basic, client: str) -> Principal:
    """Return the principal of a name and password that were typed into a sign-in form, also where HTTP Basic is switched off.

    Raises as `identify` does, but leaves it to the caller to record a refusal.
    """
    user = passwords.verify(credential, client)
    if user is None:
        return principals.shared(credential.username, client)
    result = _user(user, Method.BASIC, client)
    for touch in result.touches:
        last_used.touch(touch)
    return result.principal


def _proxy_header(credential: ProxyHeader, client: str) -> AuthenticationResult:
    is_jwt = settings.AUTH_USER_HEADER_FORMAT == "jwt"
    if is_jwt:
        subject, groups, groups_fault = jwt_verify.verify(credential.subject)
    else:
        subject, groups, groups_fault = credential.subject, _groups(credential.groups), credential.groups_fault
    try:
        username = canonical_identity(subject, settings.AUTH_USER_PREFIX)
    except BadName as error:
        raise InvalidCredential(f"{NAME_REFUSED}{error}", method=Method.PROXY, claimed=shown(subject)) from None
    user = sso.sign_in(username, groups)
    if user is None:
        raise InvalidCredential("unknown user, and users are not created at sign-in", method=Method.PROXY, claimed=username)
    if user.sign_in == SignIn.PASSWORD:
        raise InvalidCredential("this user signs in by password only", method=Method.PROXY, claimed=username)
    if not user.active:
        raise InvalidCredential("disabled user", method=Method.PROXY, claimed=username)
    # An assertion expires, and its key can be withdrawn, so it is verified for each request.
    reusable = not is_jwt and user.settled
    result = _user(user, Method.PROXY, client, FOREVER if reusable else 0, GROUPS)
    if groups_fault:
        key = (username, client, groups_fault)
        record_refusal(Event.SIGN_IN_GROUPS_IGNORED, actor=result.principal, reason=groups_fault, key=key)
    if groups:
        result = replace(result, touches=(*result.touches, Touch(last_used.GROUPS, user.pk, user.groups_seen_at)))
    return replace(result, principal=replace(result.principal, groups=groups or ()))


def _groups(text: str | None) -> tuple[str, ...] | None:
    """Return the groups of a header; without the header none, and None where no header has groups (promise 46)."""
    if text is None and group_names.unread_reason():
        return None
    return group_names.split(text or "")


def _session(credential: SessionCookie, client: str) -> AuthenticationResult:
    """Return the user of a session. An unknown or expired session is not a bad credential: its caller is anonymous."""
    anonymous = AuthenticationResult(principals.anonymous(client), 0)  # a session of this key can begin at any time
    session = selectors.session_by_digest(digest(credential.session_key))
    if session is None:
        return anonymous
    user, data = session.user, SessionStore().decode(session.data)
    user_pk, auth_hash, signed_in_at = data.get(SESSION_KEY), data.get(HASH_SESSION_KEY), data.get(SIGNED_IN_AT)
    if user_pk != str(user.pk) or not isinstance(auth_hash, str) or not isinstance(signed_in_at, int | float):
        return anonymous
    started_at = min(session.created_at, datetime.fromtimestamp(signed_in_at, UTC))  # the second one is signed
    until = session_expires_at(
        kind=session.kind, created_at=started_at, last_used_at=session.last_used_at, expire_date=session.expire_date
    ).timestamp()
    if not user.active or user.sign_in == SignIn.SSO or until <= timezone.now().timestamp():
        return anonymous  # a session began with a password
    if not proves_password(User(password=user.password), auth_hash):
        return anonymous
    method = Method.CLI if session.kind is SessionKind.CLI else Method.SESSION
    result = _user(user, method, client, until, _tag(Session, session.pk))
    principal = replace(result.principal, session_digest=session.pk)
    touches = (*result.touches, Touch(last_used.SESSION, session.pk, session.last_used_at, client))
    return replace(result, principal=principal, touches=touches)


def _tag(model: type[Model], key: int | str) -> Tag:
    """Return the tag of the row of a watched table that has this value in the field that its model declares as the key."""
    return model.watched.kind, str(key)  # type: ignore[attr-defined]


def _user(user: UserRecord, method: Method, client: str, until: float = FOREVER, *depends_on: Tag) -> AuthenticationResult:
    """Return a user who was authenticated, which depends on their row, on their role and on `depends_on`."""
    principal = Principal(
        Kind.USER,
        user.uid,
        user.username,
        role=user.role,
        permissions=user.permissions,
        method=method,
        peer=client,
        pk=user.pk,
        owner=user.pk,
        display_name=user.display_name,
        email=user.email,
    )
    depends_on = (_tag(User, user.pk), _tag(Role, user.role), *depends_on)
    return AuthenticationResult(principal, until, (Touch(last_used.USER, user.pk, user.last_seen_at),), depends_on)
