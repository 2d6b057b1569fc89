"""The sessions of a user: in browsers, and in command-line clients that the user signed in."""

import re
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.models import User
from accounts.services import users
from authn import sessions
from authn.requests import current_session
from core.errors import Forbidden
from dashboard.base import Page
from rbac.permissions import Permission

MAX_ROWS: Final = 100  # sessions of one user that are listed, the most recently used first
_PROGRAMS: Final = (
    (r"python-requests|aiohttp|httpx", "Python client (such as sky)"),
    (r"curl/", "curl"),
    (r"Edg/", "Edge"),
    (r"OPR/", "Opera"),
    (r"Firefox/", "Firefox"),
    (r"Chrom(e|ium)/", "Chrome"),
    (r"Safari/", "Safari"),
)
_SYSTEMS: Final = (
    (r"Android", "Android"),
    (r"iPhone|iPad", "iOS"),
    (r"Windows", "Windows"),
    (r"Mac OS X|Macintosh", "macOS"),
    (r"Linux", "Linux"),
)


def client_name(agent: str) -> str:
    """Return the client that a User-Agent suggests. The header can be forged, so this only helps users find their own."""
    program = next((name for pattern, name in _PROGRAMS if re.search(pattern, agent)), "")
    system = next((name for pattern, name in _SYSTEMS if re.search(pattern, agent)), "")
    return f"{program} on {system}" if program and system else program or system or "unknown client"


class SessionsPage(Page):
    """The user's own sessions; with users:write, also those of the user whose id is in the parameter `user`."""

    section = "sessions"
    template = "dashboard/sessions.html"

    @property
    def owner(self) -> User:
        """The user whose sessions the page lists. Raises Forbidden, NotFound."""
        uid = self.request.POST.get("user", "") or self.request.GET.get("user", "")
        if uid in {"", self.principal.uid}:
            return users.get_user(self.principal.uid)
        if not self.principal.holds(Permission.USERS_WRITE):
            raise Forbidden(f"You can see only your own sessions. Others require the permission {Permission.USERS_WRITE}.")
        return users.get_user(uid)

    @property
    def current_key(self) -> str:
        """The stored key of this browser's session; "" if the request is authenticated by other means."""
        return current_session(self.request)

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the list, with the current session first."""
        owner, current = self.owner, self.current_key
        rows = list(sessions.list_sessions(actor=self.principal, user=owner)[: MAX_ROWS + 1])
        for row in rows:
            row.is_current, row.client = row.pk == current, client_name(row.agent)  # type: ignore[attr-defined]
        return self.render(
            owner=owner,
            is_self=owner.pk == self.principal.pk,
            rows=sorted(rows[:MAX_ROWS], key=lambda row: row.pk != current),
            more=len(rows) > MAX_ROWS,
            has_others=any(row.pk != current for row in rows),
        )

    def page_path(self) -> str:
        """Return the list of the same user."""
        uid = self.request.POST.get("user", "")
        return reverse("dashboard:sessions") + (f"?user={uid}" if re.fullmatch("[0-9a-f]{1,16}", uid) else "")


class EndSessionAction(SessionsPage):
    """Ends one session."""

    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """End the session; ending the current one signs the user out."""
        key = request.POST.get("session", "")
        sessions.end_session(actor=self.principal, key=key)
        if key == self.current_key:
            return self.redirect_to(reverse("dashboard:sign-in"))
        return self.redirect_to(self.page_path(), "The session was ended.")


class EndSessionsAction(SessionsPage):
    """Ends all sessions of a user except the current one."""

    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """End the sessions."""
        number = sessions.end_sessions(actor=self.principal, user=self.owner, but=self.current_key)
        return self.redirect_to(self.page_path(), f"{number} session{' was' if number == 1 else 's were'} ended.")
