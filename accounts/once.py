"""Forms that work once, so that sending one again cannot show again what it showed, nor make another (promise 11).

What is offered is a row beside the sessions, taken by one DELETE: of two parallel requests one gets it. It ends by itself.
"""

from typing import Final

from accounts.models import Session
from accounts.principals import Principal
from accounts.sessions import SessionStore, digest

LIFETIME_SECONDS: Final = 3_600
_KEY: Final = "skyauth_once"


def offer(actor: Principal, purpose: str) -> str:
    """Return a new nonce, good once, for this actor and purpose."""
    store = SessionStore()
    store[_KEY] = [actor.uid, purpose]
    store.set_expiry(LIFETIME_SECONDS)
    store.create()
    return str(store.session_key)


def take(nonce: str, actor: Principal, purpose: str) -> bool:
    """Return whether the nonce was good, and use it up. Call it in the transaction of what it is for: both happen or neither."""
    if not nonce or SessionStore(nonce).load().get(_KEY) != [actor.uid, purpose]:
        return False
    return Session.objects.filter(session_key=digest(nonce)).delete()[0] == 1
