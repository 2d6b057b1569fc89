"""How a command line gets a credential of the person who signed in in a browser: a code that works once, or a text to paste.

The code is the challenge of RFC 7636 (S256): the command line keeps the verifier, and whoever shows it first gets the credential,
which is made only then. Where SkyAuth itself signed the person in, that is a session of the command line's own, which its owner
sees and can end; behind an auth proxy it is the cookies by which the proxy knows the person, as SkyPilot documents.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts import explain
from accounts.models import CliCode, User
from accounts.principals import Kind, Method, Principal
from accounts.services.sessions import begin_cli_session
from audit.events import Event
from audit.record import record
from rbac.errors import Conflict, Forbidden, Invalid

LIFE: Final = timedelta(minutes=5)
MOST: Final = 20  # codes that wait for one person; the oldest goes first
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # RFC 7636 section 4.1
_SIGNED_IN: Final = frozenset({Method.SESSION, Method.BASIC, Method.PROXY})


def may_authorize(actor: Principal) -> bool:
    """Return whether somebody can sign a command line in: a person, here in a browser. A command line cannot prolong itself."""
    return actor.kind is Kind.USER and actor.method in _SIGNED_IN


def valid_challenge(text: str) -> bool:
    """Return whether a text is the S256 challenge of a verifier by its shape."""
    return bool(_CHALLENGE.match(text))


@transaction.atomic
def authorize(*, actor: Principal, challenge: str, cookies: Mapping[str, str], address: str, agent: str) -> None:
    """Let whoever knows the verifier of this challenge act as the actor. Raises Forbidden, Invalid, Conflict.

    `cookies` are those of the actor's request, kept only for somebody who came by an auth proxy.
    """
    user = _person(actor)
    if not valid_challenge(challenge):
        raise Invalid.field("code_challenge", "Invalid code_challenge format")
    now = timezone.now()
    CliCode.objects.filter(expires_at__lte=now).delete()
    try:
        CliCode.objects.update_or_create(
            challenge=challenge,
            user=user,
            defaults={
                "auth_hash": user.get_session_auth_hash(),
                "sealed_cookies": _seal(challenge, cookies) if actor.method is Method.PROXY else "",
                "expires_at": now + LIFE,
            },
        )
    except IntegrityError:  # the challenge is there, and somebody else's: of two at once, the first
        raise Conflict("Somebody else authorized this request already. Begin again in your terminal.") from None
    waiting = CliCode.objects.filter(user=user).order_by("-expires_at", "pk").values_list("pk", flat=True)
    CliCode.objects.filter(pk__in=list(waiting[MOST:])).delete()
    record(Event.CLI_AUTHORIZED, actor=actor, target=user.username, data={"by": "code", "address": address, "agent": agent})


def redeem(*, verifier: str, address: str, agent: str) -> str | None:
    """Return the text for the command line that shows this verifier, exactly once; None while there is nothing for it.

    `address` and `agent` are the command line's. A code of somebody who was disabled, or whose password was changed, since then
    is worth nothing.
    """
    if not _VERIFIER.match(verifier):
        return None
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")
    if not CliCode.objects.filter(challenge=challenge).exists():
        return None
    with transaction.atomic():
        code = CliCode.objects.select_related("user", "user__role").filter(challenge=challenge).first()
        # Of several who show it at the same moment one takes it: the others find that nothing was left to delete.
        if code is None or not CliCode.objects.filter(challenge=challenge).delete()[0]:
            return None
        user = code.user
        if code.expires_at <= timezone.now() or not user.is_active:
            return None
        if not constant_time_compare(code.auth_hash, user.get_session_auth_hash()):
            return None
        if code.sealed_cookies:
            cookies = _unseal(challenge, code.sealed_cookies)
            return None if cookies is None else _text(user, cookies)
        return _text(user, _own_session(user, address, agent))


@transaction.atomic
def text_to_paste(*, actor: Principal, cookies: Mapping[str, str], address: str, agent: str) -> str:
    """Return the text for a command line that signs in as the actor; nothing can show it again. Raises Forbidden."""
    user = _person(actor)
    record(Event.CLI_AUTHORIZED, actor=actor, target=user.username, data={"by": "text", "address": address, "agent": agent})
    return _text(user, dict(cookies) if actor.method is Method.PROXY else _own_session(user, address, agent))


def _person(actor: Principal) -> User:
    user = User.objects.filter(pk=actor.pk or 0, is_active=True).first() if may_authorize(actor) else None
    if user is None:
        raise Forbidden("Only a person who signed in in a browser can sign a command line in.")
    return user


def _own_session(user: User, address: str, agent: str) -> dict[str, str]:
    person, _ = explain.person(user)
    return {settings.SESSION_COOKIE_NAME: begin_cli_session(actor=person, address=address, agent=agent)[0]}


def _text(user: User, cookies: Mapping[str, str]) -> str:
    """Return what the CLI reads: base64 of JSON with the version of its form, the user's id, and the cookies to send."""
    return base64.b64encode(json.dumps({"v": 1, "user": user.uid, "cookies": dict(cookies)}).encode()).decode("ascii")


def _seal(challenge: str, cookies: Mapping[str, str]) -> str:
    """Return the cookies so that the database alone does not give them away: they are the person's at the auth proxy."""
    return _key(challenge).encrypt(json.dumps(dict(cookies)).encode()).decode("ascii")


def _unseal(challenge: str, sealed: str) -> dict[str, str] | None:
    """Return the cookies, or None when they were sealed under another SECRET_KEY."""
    try:
        opened: dict[str, str] = json.loads(_key(challenge).decrypt(sealed.encode("ascii")))
    except InvalidToken:
        return None
    return opened


def _key(challenge: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=challenge.encode("ascii"), info=b"skyauth cli code").derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
