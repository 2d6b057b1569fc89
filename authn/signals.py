"""Hears Django's own login events, which no service sees."""

from typing import Any

from axes.signals import handle_user_logged_in, handle_user_login_failed
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import User
from audit.events import Event
from audit.record import record
from authn.requests import proxied_of
from authn.session_store import SIGNED_IN_AT
from rbac.principals import Kind, Method, Principal


def connect() -> None:
    """Connect the receivers, and disconnect those of axes: `authn.lockout` counts, once, for every door."""
    user_logged_in.connect(mark_session, dispatch_uid="accounts.mark_session")
    user_login_failed.disconnect(handle_user_login_failed)
    user_logged_in.disconnect(handle_user_logged_in)


def mark_session(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Note in the session when it began, for its absolute end, and record the sign-in."""
    request.session[SIGNED_IN_AT] = timezone.now().timestamp()
    request.session.address = proxied_of(request).client  # type: ignore[attr-defined] # of authn.session_store
    request.session.agent = request.headers.get("User-Agent", "")  # type: ignore[attr-defined]
    actor = Principal(
        Kind.USER, user.uid, user.username, role=user.role.name, method=Method.SESSION, peer=proxied_of(request).client
    )
    record(Event.SIGN_IN, actor=actor, target=user.username)
