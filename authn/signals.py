"""Receives Django's login signals."""

from typing import Any, cast

from axes.signals import handle_user_logged_in, handle_user_login_failed
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import User
from audit.events import Event
from audit.record import record
from authn.requests import proxied_of
from authn.session_store import SIGNED_IN_AT, SessionStore
from rbac.principals import Kind, Method, Principal


def connect() -> None:
    """Connect the receivers, and disconnect those of axes: `authn.lockout` counts failures for every interface."""
    user_logged_in.connect(mark_session, dispatch_uid="accounts.mark_session")
    user_login_failed.disconnect(handle_user_login_failed)
    user_logged_in.disconnect(handle_user_logged_in)


def mark_session(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Store in the session when and from where the user signed in, and record the sign-in."""
    request.session[SIGNED_IN_AT] = timezone.now().timestamp()
    store = cast(SessionStore, request.session)
    store.address, store.agent = proxied_of(request).client, request.headers.get("User-Agent", "")
    actor = Principal(
        Kind.USER, user.uid, user.username, role=user.role.name, method=Method.SESSION, peer=proxied_of(request).client
    )
    record(Event.SIGN_IN, actor=actor, target=user.username)
