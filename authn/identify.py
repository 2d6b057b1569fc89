"""Who is this: `identify` turns a credential into a principal. The one implementation behind every door."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts import selectors, token_format
from accounts.identifiers import BadName, canonical_email, canonical_username
from accounts.models import SessionKind, SignIn, User
from accounts.querysets import session_expires_at
from accounts.selectors import TokenRecord, UserRecord
from audit.events import Event
from audit.record import record_refusal, suppress
from authn import jwt_verify, passwords, sso
from authn.credentials import Basic, Bearer, Credential, InvalidCredential, ProxyHeader, Session
from authn.session_store import SIGNED_IN_AT, SessionStore, digest
from rbac import principals
from rbac.principals import Kind, Method, Principal
from revision import last_used
from revision.last_used import Touch

FOR_EVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Identification:
    """Who shows a credential, and for how long that stands if nothing that decides is changed in the database.

    `until` is in seconds since the epoch; 0 means that it has to be found out anew each time. `touches` are what is to be noted
    of it now and then.
    """

    principal: Principal
    until: float = FOR_EVER
    touches: tuple[Touch, ...] = ()


def identify(credential: Credential | None, *, client: str) -> Principal:
    """Return who shows this credential; ANONYMOUS for None. `client` is the client's address.

    Raises InvalidCredential for one that is bad in any way, after recording the refusal. Whatever else is raised
    (a database error, `passwords.Busy`, `assertions.KeysUnavailable`) is trouble of ours.
    """
    return resolve(credential, client=client).principal


def resolve(credential: Credential | None, *, client: str, quietly: bool = False) -> Identification:
    """Return what `identify` does, and for how long it stands. Notes the use. `quietly` leaves it to the caller to record."""
    try:
        found = _recognise(credential, client)
    except InvalidCredential as refusal:
        if not quietly:
            refused(refusal, client=client)
        raise
    for touch in found.touches:
        last_used.touch(touch)
    return found


def _recognise(credential: Credential | None, client: str) -> Identification:
    match credential:
        case None:
            return Identification(principals.anonymous(client))
        case Bearer():
            return _bearer(credential, client)
        case Basic():
            return _basic(credential, client)
        case ProxyHeader():
            return _proxy_header(credential, client)
        case Session():
            return _session(credential, client)


def refused(refusal: InvalidCredential, *, client: str) -> None:
    """Record a refused sign-in; also for a credential that could not even be read."""
    actor = principals.claimed(refusal.claimed, refusal.method, client)
    record_refusal(Event.SIGN_IN_REFUSED, actor=actor, reason=refusal.reason)


def is_suppressed(refusal: InvalidCredential, *, client: str) -> bool:
    """Count a refused sign-in for which nothing is to be written, and return whether it is such a one. Touches no database."""
    actor = principals.claimed(refusal.claimed, refusal.method, client)
    return suppress(Event.SIGN_IN_REFUSED, (actor.name, actor.peer, "")) is not None


def _bearer(credential: Bearer, client: str) -> Identification:
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        raise InvalidCredential("service accounts are switched off", method=Method.BEARER)
    presented = token_format.parse(credential.token)
    if presented is None:
        raise InvalidCredential("malformed token", method=Method.BEARER)
    token = selectors.token_by_key(presented.key_id)
    if token is None or not token_format.matches(presented.digest, token.digest):
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
        token_key_id=presented.key_id,
    )
    until = token.expires_at.timestamp() if token.expires_at is not None else FOR_EVER
    return Identification(principal, until, (Touch(last_used.TOKEN, token.pk, token.last_used_at, client),))


def unusable(token: TokenRecord) -> str:
    """Return why a genuine token is refused, or "" when it is good. A disabled owner's accounts stop with them."""
    if token.state != "active":
        return f"{token.state} token"
    if not token.account_active:
        return "disabled service account"
    return "" if token.owner_active else "service account of a disabled owner"


def _basic(credential: Basic, client: str) -> Identification:
    if not settings.AUTH_BASIC:
        raise InvalidCredential("Basic is switched off", method=Method.BASIC)
    user = passwords.verify(credential, client)
    # A password is looked at anew when the process no longer remembers it, changed or not.
    until = passwords.remembered_until(credential, user)
    if user is None:
        return Identification(principals.shared(credential.username, client), until)
    return _person(user, Method.BASIC, client, until)


def sign_in_with_password(credential: Basic, client: str) -> Principal:
    """Return who has this name and password; what the login page asks, also where Basic itself is switched off."""
    user = passwords.verify(credential, client)
    if user is None:
        return principals.shared(credential.username, client)
    found = _person(user, Method.BASIC, client)
    for touch in found.touches:
        last_used.touch(touch)
    return found.principal


def _proxy_header(credential: ProxyHeader, client: str) -> Identification:
    if settings.AUTH_USER_HEADER_FORMAT == "jwt":
        subject, groups = jwt_verify.verify(credential.subject)
    else:
        subject, groups = credential.subject, _split_groups(credential.groups)
    try:
        username = canonical_username(canonical_email(subject))
    except BadName:
        raise InvalidCredential("the proxy's header is not one e-mail address of a person", method=Method.PROXY) from None
    user = sso.sign_in(username, groups)
    if user is None:
        raise InvalidCredential("unknown user, and users are not created at sign-in", method=Method.PROXY, claimed=username)
    if user.sign_in == SignIn.PASSWORD:
        raise InvalidCredential("this user signs in by password only", method=Method.PROXY, claimed=username)
    if not user.active:
        raise InvalidCredential("disabled user", method=Method.PROXY, claimed=username)
    # An assertion has an end, and its key may be withdrawn: it is verified anew each time.
    stands = settings.AUTH_USER_HEADER_FORMAT != "jwt" and user.settled
    found = _person(user, Method.PROXY, client, FOR_EVER if stands else 0)
    return replace(found, principal=replace(found.principal, groups=groups or ()))


def _split_groups(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(group for group in (part.strip() for part in text.split(",")) if group)


def _session(credential: Session, client: str) -> Identification:
    """Return whose session this is. An unknown or ended session is no credential any more: anonymous, not an error."""
    nobody = Identification(principals.anonymous(client), 0)  # a session of this key may begin at any time
    session = selectors.session_by_digest(digest(credential.session_key))
    if session is None:
        return nobody
    user, data = session.user, SessionStore().decode(session.data)
    key, shown, since = data.get(SESSION_KEY), data.get(HASH_SESSION_KEY), data.get(SIGNED_IN_AT)
    if key != str(user.pk) or not isinstance(shown, str) or not isinstance(since, int | float):
        return nobody
    started_at = min(session.created_at, datetime.fromtimestamp(since, UTC))  # the database cannot move what is signed
    until = session_expires_at(
        kind=session.kind, created_at=started_at, last_used_at=session.last_used_at, expire_date=session.expire_date
    ).timestamp()
    if not user.active or until <= timezone.now().timestamp():
        return nobody
    if not constant_time_compare(shown, User(password=user.password).get_session_auth_hash()):
        return nobody
    method = Method.CLI if session.kind is SessionKind.CLI else Method.SESSION
    found = _person(user, method, client, until)
    return replace(found, touches=(*found.touches, Touch(last_used.SESSION, session.pk, session.last_used_at, client)))


def _person(user: UserRecord, method: Method, client: str, until: float = FOR_EVER) -> Identification:
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
    return Identification(principal, until, (Touch(last_used.USER, user.pk, user.last_seen_at),))
