"""Forms that work once, so that sending one again cannot show again what it showed, nor make another (promise 11).

What a form has is signed, so that looking at it writes nothing. What was sent is a row beside the sessions for as long as the
form would have been good: of two parallel requests one writes it.
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
    """Return a new nonce, good once, for this actor and purpose."""
    return signing.dumps([actor.uid, purpose, token_urlsafe(12)], salt=_SALT)


def consume(nonce: str, actor: Principal, purpose: str) -> bool:
    """Return whether the nonce was good, and use it up. Call it in the transaction of what it is for: both happen or neither."""
    try:
        uid, meant, _ = signing.loads(nonce, salt=_SALT, max_age=LIFETIME_SECONDS)
    except (signing.BadSignature, UnicodeError):  # what is sent may have half a surrogate pair
        return False
    if [uid, meant] != [actor.uid, purpose]:
        return False
    ends = timezone.now() + timedelta(seconds=LIFETIME_SECONDS)
    try:
        with transaction.atomic():
            Session.objects.create(session_key=digest(nonce), session_data=SessionStore().encode({}), expire_date=ends)
    except IntegrityError:
        return False
    return True
