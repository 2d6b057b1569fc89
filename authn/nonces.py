"""Nonces for forms that work once, so that a repeated form neither shows a secret again nor creates another (promise 11).

A nonce is signed, so issuing one writes nothing. A consumed nonce is a row in the session table until it would have expired; of
two parallel requests, one can insert it.
"""

from datetime import timedelta
from secrets import token_urlsafe
from typing import Final

from django.core import signing
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Session
from authn.session_store import SessionStore, digest
from rbac.principals import Principal

LIFETIME_SECONDS: Final = 3_600
_SALT: Final = "accounts.once"


def issue(actor: Principal, purpose: str) -> str:
    """Return a nonce for one use by this actor, for this purpose."""
    return signing.dumps([actor.uid, purpose, token_urlsafe(12)], salt=_SALT)


def consume(nonce: str, actor: Principal, purpose: str) -> bool:
    """Return whether the nonce is valid, and consume it. Call it in the same transaction as the action that it protects."""
    try:
        uid, issued_for, _ = signing.loads(nonce, salt=_SALT, max_age=LIFETIME_SECONDS)
    except (signing.BadSignature, UnicodeError):  # a form can contain half a surrogate pair
        return False
    if [uid, issued_for] != [actor.uid, purpose]:
        return False
    expires_at = timezone.now() + timedelta(seconds=LIFETIME_SECONDS)
    try:
        with transaction.atomic():
            Session.objects.create(session_key=digest(nonce), session_data=SessionStore().encode({}), expire_date=expires_at)
    except IntegrityError:
        return False
    return True
