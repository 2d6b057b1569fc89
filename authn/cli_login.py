"""Hands a command line what it signs in with: at once to the page of the person, or to whoever proves to have asked for it.

Where SkyAuth itself signed the person in, that is a session of the command line's own. Behind an authenticating proxy it is the
proxy's cookies, which alone lead through the proxy.
"""

import base64
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import Error, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import CliAuthorization, CliLoginRequest, User
from accounts.principal_lookup import user_principal
from audit.events import Event
from audit.record import record
from authn import nonces
from authn.sessions import begin_cli_session
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.lock_timeout import short_lock_timeout
from rbac import auth_methods
from rbac.auth_methods import Interface
from rbac.principals import Method, Principal
from rbac.services import lock_policy

LIFETIME: Final = timedelta(minutes=5)  # as long as the sky CLI asks
MOST_WAITING: Final = 20  # of one person: more than anybody needs at the same time
MOST_ASKERS: Final = 1_000
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # RFC 7636 section 4.1
_REFUSED: Final = {
    Method.BEARER: "A service account signs in with its token: sky api login --token.",
    Method.CLI: "A command line cannot sign another one in. Open this address in your browser.",
}


@dataclass(frozen=True, slots=True)
class CliCredentials:
    """What a command line signs in with: the cookies that it sends from now on, and the id of whose they are."""

    uid: str
    cookies: Mapping[str, str] = field(repr=False)


def refusal(method: Method) -> Forbidden:
    """Return the error for a caller whose sign-in method cannot authorize a CLI login; its message says what to do instead."""
    return Forbidden(_REFUSED.get(method, "A password that several people share signs nobody in. Sign in under your own name."))


def _require_browser(actor: Principal) -> None:
    if not auth_methods.opens(actor.method, Interface.CLI_LOGIN):
        raise refusal(actor.method)


def is_challenge(text: str) -> bool:
    """Return whether this can be a challenge: the URL-safe base64 of a SHA-256 digest."""
    return _CHALLENGE.match(text) is not None


@transaction.atomic
def authorize(*, actor: Principal, challenge: str, cookies: Mapping[str, str]) -> None:
    """Let whoever knows the verifier of this challenge sign in as the actor, once and soon.

    `cookies` are those of the actor's browser, for a person whom a proxy signed in. Raises Forbidden, Invalid, NotFound, and
    Conflict when somebody else authorised it.
    """
    _require_browser(actor)
    if not is_challenge(challenge):
        raise Invalid.field("code_challenge", "Invalid code_challenge format")
    lock_policy()
    user = _user(actor)
    now = timezone.now()
    CliAuthorization.objects.filter(expires_at__lte=now).delete()
    earlier = CliAuthorization.objects.filter(challenge=challenge).first()
    if earlier is not None and earlier.user_id != user.pk:
        raise Conflict("Somebody else has authorized this sign-in. Start it again in your terminal.")
    mine = CliAuthorization.objects.filter(user=user)
    mine.filter(challenge=challenge).delete()
    newest = list(mine.order_by("-expires_at", "-pk").values_list("pk", flat=True)[: MOST_WAITING - 1])
    mine.exclude(pk__in=newest).delete()
    CliAuthorization.objects.create(
        challenge=challenge,
        user=user,
        session_auth_hash=user.get_session_auth_hash(),
        encrypted_cookies=_encrypted(challenge, _theirs(actor, cookies)) if actor.method is Method.PROXY else "",
        expires_at=now + LIFETIME,
    )
    record(Event.CLI_AUTHORIZED, actor=actor, target=user.username, data={"code": challenge[-8:]})


def redeem(*, verifier: str, client: str, agent: str) -> CliCredentials | None:
    """Return what was authorised for the challenge of this verifier, once; None when there is nothing (any more).

    Not for a person who was disabled or deleted, or whose password changed, in the meantime. One query when there is nothing.
    """
    if not _VERIFIER.match(verifier):
        return None
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    found = CliAuthorization.objects.filter(challenge=challenge, expires_at__gt=timezone.now()).first()
    if found is None:
        askers.note(challenge, client, agent)
        return None
    with transaction.atomic():
        lock_policy()  # so that no password is changed between here and the end
        # Of parallel requests one deletes it. Should the rest fail, it is there again.
        if CliAuthorization.objects.filter(pk=found.pk).delete()[0] != 1:
            return None
        user = User.objects.select_related("role").filter(pk=found.user_id, is_active=True).first()
        if user is None or not constant_time_compare(found.session_auth_hash, user.get_session_auth_hash()):
            return None
        actor = replace(user_principal(user)[0], method=Method.CLI, peer=client)
        if not found.encrypted_cookies:
            return _session(actor, user, client, agent)
        cookies = _decrypted(challenge, found.encrypted_cookies)
        if cookies is None:
            return None
        record(Event.CLI_SIGNED_IN, actor=actor, target=user.username, data={"address": client, "agent": agent})
        return CliCredentials(user.uid, cookies)


def asker(challenge: str) -> CliLoginRequest | None:
    """Return from where a command line asks for what is authorised for this challenge, or None when none was heard yet."""
    return CliLoginRequest.objects.filter(challenge=challenge, at__gt=timezone.now() - LIFETIME).first()


class LoginRequestLog:
    """Notes from where is asked, once for each challenge. Strangers may ask too: so few from one address, and not many in all."""

    def __init__(self) -> None:
        self._heard: OrderedDict[str, None] = OrderedDict()  # what this process has noted, or decided not to

    def note(self, challenge: str, address: str, agent: str) -> None:
        """Note it, unless it was noted or too many were. Its failure fails nothing."""
        if challenge in self._heard:
            return
        self._heard[challenge] = None
        while len(self._heard) > MOST_ASKERS:
            self._heard.popitem(last=False)
        now = timezone.now()
        rows = CliLoginRequest.objects.filter(at__gt=now - LIFETIME)
        try:
            # Counted before anything is written: who is one too many must not have the database's one writer at work.
            if rows.count() >= MOST_ASKERS or rows.filter(address=address).count() >= MOST_WAITING:
                return
            with short_lock_timeout():
                CliLoginRequest.objects.filter(at__lte=now - LIFETIME).delete()
                row = CliLoginRequest(challenge=challenge, address=address[:64], agent=agent[:200], at=now)
                CliLoginRequest.objects.bulk_create([row], ignore_conflicts=True)
        except Error:
            return


askers = LoginRequestLog()


def issue_nonce(actor: Principal, port: int | None) -> str:
    """Return a nonce for one `grant_now`, good for an hour."""
    return nonces.issue(actor, _purpose(port))


@transaction.atomic
def grant_now(*, actor: Principal, cookies: Mapping[str, str], port: int | None, nonce: str, agent: str) -> CliCredentials:
    """Return what the actor's command line signs in with, to be shown to the actor alone.

    `port` is the one on which it listens on the actor's computer, if it does. Raises Forbidden, NotFound, and Conflict when the
    nonce was not offered for this, or is used up.
    """
    _require_browser(actor)
    lock_policy()
    if not nonces.consume(nonce, actor, _purpose(port)):
        raise Conflict("This page has been used. What it shows is shown once; open it anew for another one.")
    user = _user(actor)
    way = "shown" if port is None else f"localhost:{port}"
    record(Event.CLI_AUTHORIZED, actor=actor, target=user.username, data={"way": way})
    if actor.method is not Method.PROXY:
        return _session(actor, user, actor.peer, agent)
    theirs = _theirs(actor, cookies)
    record(Event.CLI_SIGNED_IN, actor=actor, target=user.username, data={"address": actor.peer, "agent": agent})
    return CliCredentials(user.uid, theirs)


def _purpose(port: int | None) -> str:
    return f"hand over to {port}"


def _user(actor: Principal) -> User:
    user = User.objects.filter(pk=actor.pk or 0, is_active=True).first()
    if user is None:
        raise NotFound("You are no longer a user here.")
    return user


def _session(actor: Principal, user: User, address: str, agent: str) -> CliCredentials:
    key, _ = begin_cli_session(actor=actor, address=address, agent=agent)
    return CliCredentials(user.uid, {settings.SESSION_COOKIE_NAME: key})


def _theirs(actor: Principal, cookies: Mapping[str, str]) -> dict[str, str]:
    """Return the cookies that are not ours. Raises Forbidden when none is left, for then nothing would lead through the proxy."""
    ours = {settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME}
    theirs = {name: value for name, value in cookies.items() if name not in ours}
    if not theirs:
        raise Forbidden(
            f"The single sign-on recognised you as {actor.name} without a cookie, so there is nothing to give to a command line. "
            "Use a service account's token."
        )
    return theirs


def _cipher(challenge: str) -> Fernet:
    """Return the cipher for what waits under a challenge.

    Its key hangs on SECRET_KEY, which the database does not have: the cookies are of no use to whoever reads a copy of it.
    """
    derived = HKDF(SHA256(), 32, salt=challenge.encode(), info=b"skyauth.handover").derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def _encrypted(challenge: str, cookies: Mapping[str, str]) -> str:
    return _cipher(challenge).encrypt(json.dumps(cookies).encode()).decode()


def _decrypted(challenge: str, encrypted: str) -> dict[str, str] | None:
    try:
        return dict(json.loads(_cipher(challenge).decrypt(encrypted.encode())))
    except InvalidToken:  # written round the services, or SECRET_KEY was changed
        return None
