"""CLI login: a user authorizes it in a browser, and the CLI gets credentials, from the page or by redeeming its PKCE verifier.

The credentials of a user who signed in to SkyAuth itself are a CLI session. Behind an auth proxy they are the proxy's cookies,
because requests pass the proxy only with these. The pages are in `skypilot/sign_in.py`, which also records refused logins.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import Error, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import CliAuthorization, CliLoginRequest, SignIn, User
from accounts.principal_lookup import user_principal
from audit.events import Event
from audit.record import record, record_refusal
from authn import nonces
from authn.session_store import proves_password
from authn.sessions import begin_cli_session
from core.bounded_cache import BoundedCache
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.lock_timeout import short_lock_timeout
from rbac import auth_methods, principals
from rbac.auth_methods import Interface
from rbac.principals import Method, Principal
from rbac.services import lock_policy

LIFETIME: Final = timedelta(minutes=5)  # as long as the sky CLI polls
MAX_PENDING: Final = 20  # authorizations of one user, and login requests from one address
MAX_LOGIN_REQUESTS: Final = 1_000
_REDEEMED: Final = ""  # in the place of the hash: a row without one grants nothing
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # RFC 7636 section 4.1
_REFUSED: Final = {
    Method.BEARER: "A service account signs in with its token: sky api login --token.",
    Method.CLI: "A CLI session cannot sign another CLI in. Open this address in your browser.",
}


@dataclass(frozen=True, slots=True)
class CliCredentials:
    """What the CLI signs in with: the cookies to send with each request, and the id of the user."""

    uid: str
    cookies: Mapping[str, str] = field(repr=False)


def refusal(method: Method) -> Forbidden:
    """Return the error for a caller whose sign-in method cannot authorize a CLI login; its message says what to do instead."""
    return Forbidden(_REFUSED.get(method, "A shared password cannot sign a CLI in. Sign in with your own user name."))


def _require_browser(actor: Principal) -> None:
    if not auth_methods.opens(actor.method, Interface.CLI_LOGIN):
        raise refusal(actor.method)


def is_challenge(text: str) -> bool:
    """Return whether this can be a PKCE challenge: the URL-safe base64 of a SHA-256 digest (RFC 7636, S256)."""
    return _CHALLENGE.match(text) is not None


@transaction.atomic
def authorize(*, actor: Principal, challenge: str, cookies: Mapping[str, str]) -> None:
    """Let the client with the verifier of this challenge sign in as the actor, once and within LIFETIME.

    `cookies` are those of the actor's browser; a CLI behind an auth proxy gets the proxy's. Raises Forbidden, Invalid, NotFound,
    and Conflict when another user has authorized the challenge.
    """
    _require_browser(actor)
    if not is_challenge(challenge):
        raise Invalid.field("code_challenge", "Invalid code_challenge format")
    lock_policy()
    user = _active_user(actor)
    now = timezone.now()
    CliAuthorization.objects.filter(Q(expires_at__lte=now) | Q(challenge=challenge, session_auth_hash=_REDEEMED)).delete()
    earlier = CliAuthorization.objects.filter(challenge=challenge).first()
    if earlier is not None and earlier.user_id != user.pk:
        raise Conflict("Another user has authorized this CLI login. Start it again in your terminal.")
    pending = CliAuthorization.objects.filter(user=user)
    pending.filter(challenge=challenge).delete()
    newest = list(pending.order_by("-expires_at", "-pk").values_list("pk", flat=True)[: MAX_PENDING - 1])
    pending.exclude(pk__in=newest).delete()
    CliAuthorization.objects.create(
        challenge=challenge,
        user=user,
        session_auth_hash=user.get_session_auth_hash(),
        encrypted_cookies=_encrypted(challenge, _proxy_cookies(actor, cookies)) if actor.method is Method.PROXY else "",
        expires_at=now + LIFETIME,
    )
    record(Event.CLI_AUTHORIZED, actor=actor, target=user.username, data={"code": challenge[-8:]})


def redeem(*, verifier: str, client: str, agent: str) -> CliCredentials | None:
    """Return the credentials that were authorized for the challenge of this verifier, once; None when there are none.

    There are none for a user who has since been disabled or deleted, or whose password has changed or is no longer accepted. A
    second attempt is recorded: another client may have the verifier. Without an authorization this takes one query, because the
    CLI polls.
    """
    if not _VERIFIER.match(verifier):
        return None
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    authorization = CliAuthorization.objects.filter(challenge=challenge, expires_at__gt=timezone.now()).first()
    if authorization is None:
        login_requests.add(challenge, client, agent)
        return None
    if authorization.session_auth_hash == _REDEEMED:
        actor = principals.claimed(authorization.user.username, Method.CLI, client)
        record_refusal(Event.SIGN_IN_REFUSED, actor=actor, reason="this CLI login was already redeemed")
        return None
    with transaction.atomic():
        lock_policy()  # so that no password changes before this transaction ends
        row = CliAuthorization.objects.filter(pk=authorization.pk)
        # One of several parallel requests changes the row. If the rest fails, the rollback restores it.
        unredeemed = row.filter(session_auth_hash=authorization.session_auth_hash)
        if unredeemed.update(session_auth_hash=_REDEEMED, encrypted_cookies="") != 1:
            return None
        credentials = _authorized_credentials(authorization, client, agent)
        if credentials is None:
            row.delete()
        return credentials


def _authorized_credentials(authorization: CliAuthorization, client: str, agent: str) -> CliCredentials | None:
    """Return the credentials of an authorization, or None where there are none any more."""
    user = User.objects.select_related("role").filter(pk=authorization.user_id, is_active=True).first()
    if user is None or not proves_password(user, authorization.session_auth_hash):
        return None
    actor = replace(user_principal(user)[0], method=Method.CLI, peer=client)
    if not authorization.encrypted_cookies:
        if user.sign_in == SignIn.SSO:
            return None
        return _session_credentials(actor, user, client, agent)
    cookies = _decrypted(authorization.challenge, authorization.encrypted_cookies)
    if cookies is None:
        return None
    record(Event.CLI_SIGNED_IN, actor=actor, target=user.username, data={"address": client, "agent": agent})
    return CliCredentials(user.uid, cookies)


def login_request(challenge: str) -> CliLoginRequest | None:
    """Return the address and user agent of the CLI that polls with this challenge's verifier, or None when none has yet."""
    return CliLoginRequest.objects.filter(challenge=challenge, at__gt=timezone.now() - LIFETIME).first()


class LoginRequestLog:
    """Stores from where CLIs poll, once for each challenge. Anybody can poll, so rows are limited, per address and in total."""

    def __init__(self) -> None:
        # The challenges that this process has stored, or decided not to.
        self._seen: BoundedCache[str, None] = BoundedCache(MAX_LOGIN_REQUESTS)

    def add(self, challenge: str, address: str, agent: str) -> None:
        """Store a login request, unless it is stored or there are too many. A failure of the database is ignored."""
        if challenge in self._seen:
            return
        self._seen[challenge] = None
        now = timezone.now()
        rows = CliLoginRequest.objects.filter(at__gt=now - LIFETIME)
        try:
            # Counted before anything is written, so that requests above the limit never hold SQLite's one write lock.
            if rows.count() >= MAX_LOGIN_REQUESTS or rows.filter(address=address).count() >= MAX_PENDING:
                return
            with short_lock_timeout():
                CliLoginRequest.objects.filter(at__lte=now - LIFETIME).delete()
                row = CliLoginRequest(challenge=challenge, address=address[:64], agent=agent[:200], at=now)
                CliLoginRequest.objects.bulk_create([row], ignore_conflicts=True)
        except Error:
            return


login_requests = LoginRequestLog()


def issue_nonce(actor: Principal, port: int | None) -> str:
    """Return a nonce for one `grant_now`, valid for an hour."""
    return nonces.issue(actor, _purpose(port))


@transaction.atomic
def grant_now(*, actor: Principal, cookies: Mapping[str, str], port: int | None, nonce: str, agent: str) -> CliCredentials:
    """Return credentials for the actor's CLI, to be shown to the actor only.

    `port` is the one on which the CLI listens on the actor's computer, or None. Raises Forbidden, NotFound, and Conflict when the
    nonce was issued for something else or is consumed.
    """
    _require_browser(actor)
    lock_policy()
    if not nonces.consume(nonce, actor, _purpose(port)):
        raise Conflict("This page was already used. It shows its token once. Reload it to create another token.")
    user = _active_user(actor)
    way = "shown" if port is None else f"localhost:{port}"
    record(Event.CLI_AUTHORIZED, actor=actor, target=user.username, data={"way": way})
    if actor.method is not Method.PROXY:
        return _session_credentials(actor, user, actor.peer, agent)
    proxy_cookies = _proxy_cookies(actor, cookies)
    record(Event.CLI_SIGNED_IN, actor=actor, target=user.username, data={"address": actor.peer, "agent": agent})
    return CliCredentials(user.uid, proxy_cookies)


def _purpose(port: int | None) -> str:
    return f"CLI login on port {port}"


def _active_user(actor: Principal) -> User:
    user = User.objects.filter(pk=actor.pk or 0, is_active=True).first()
    if user is None:
        raise NotFound("Your user has been disabled or deleted.")
    return user


def _session_credentials(actor: Principal, user: User, address: str, agent: str) -> CliCredentials:
    key, _ = begin_cli_session(actor=actor, address=address, agent=agent)
    return CliCredentials(user.uid, {settings.SESSION_COOKIE_NAME: key})


def _proxy_cookies(actor: Principal, cookies: Mapping[str, str]) -> dict[str, str]:
    """Return the cookies that are not SkyAuth's. Raises Forbidden when there is none: the CLI could not pass the proxy."""
    own = {settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME}
    proxy_cookies = {name: value for name, value in cookies.items() if name not in own}
    if not proxy_cookies:
        raise Forbidden(
            f"The single sign-on authenticated you as {actor.name} without a cookie, so there is none for the CLI. "
            "Use a service account's token."
        )
    return proxy_cookies


def _cipher(challenge: str) -> MultiFernet:
    """Return the cipher for the cookies of an authorization. It also decrypts with the keys of SECRET_KEY_FALLBACKS.

    Its key is derived from SECRET_KEY, which is not in the database: a copy of the database is not enough to decrypt the cookies.
    """
    return MultiFernet([_fernet(challenge, key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _fernet(challenge: str, secret_key: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=challenge.encode(), info=b"skyauth.handover").derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def _encrypted(challenge: str, cookies: Mapping[str, str]) -> str:
    return _cipher(challenge).encrypt(json.dumps(cookies).encode()).decode()


def _decrypted(challenge: str, encrypted: str) -> dict[str, str] | None:
    try:
        return dict(json.loads(_cipher(challenge).decrypt(encrypted.encode())))
    except InvalidToken:  # SECRET_KEY has changed, or the row was not written by `authorize`
        return None
