"""Where somebody is signed in: browsers, and the command lines that they signed in themselves."""

import re
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.models import Session, SessionKind, User
from accounts.services import users
from authn import sessions
from authn.session_store import digest
from core.errors import Forbidden
from dashboard.base import Page
from rbac.permissions import Permission

MOST: Final = 100  # sessions of one person that are shown, the one used last first
_PROGRAMS: Final = (
    (r"python-requests|aiohttp|httpx", "a Python program, as sky is one"),
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


def in_words(agent: str) -> str:
    """Return what a User-Agent probably is; it says what it likes, so this is for recognising one's own alone."""
    program = next((name for pattern, name in _PROGRAMS if re.search(pattern, agent)), "")
    system = next((name for pattern, name in _SYSTEMS if re.search(pattern, agent)), "")
    return f"{program} on {system}" if program and system else program or system or "something unknown"


def ends(session: Session) -> datetime:
    """Return when a session ends if it is not used any more, by its age or by that."""
    if session.kind == SessionKind.CLI:
        return session.expire_date
    return min(session.expire_date, session.last_used_at + timedelta(hours=settings.SESSION_IDLE_HOURS))


class Sessions(Page):
    """One's own sessions; those of the user whose id `user` says, for those who may change users."""

    section = "sessions"
    template = "dashboard/sessions.html"

    @property
    def owner(self) -> User:
        """Whose sessions these are. Raises Forbidden, NotFound."""
        uid = self.request.POST.get("user", "") or self.request.GET.get("user", "")
        if uid in {"", self.principal.uid}:
            return users.get_user(self.principal.uid)
        if not self.principal.holds(Permission.USERS_WRITE):
            raise Forbidden("You see your own sessions alone.")
        return users.get_user(uid)

    @property
    def this(self) -> str:
        """What the session of this very browser is stored under; "" where it came otherwise."""
        key = self.request.session.session_key
        return digest(key) if key and self.principal.method == "session" else ""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show them."""
        owner, this = self.owner, self.this
        rows = list(sessions.list_sessions(actor=self.principal, user=owner)[: MOST + 1])
        for row in rows:
            row.is_this, row.what, row.ends = row.pk == this, in_words(row.agent), ends(row)  # type: ignore[attr-defined]
        return self.render(
            owner=owner,
            itself=owner.pk == self.principal.pk,
            rows=sorted(rows[:MOST], key=lambda row: row.pk != this),
            more=len(rows) > MOST,
            others=any(row.pk != this for row in rows),
        )

    def page_path(self) -> str:
        """Return this page, of the same person."""
        uid = self.request.POST.get("user", "")
        return reverse("dashboard:sessions") + (f"?user={uid}" if re.fullmatch("[0-9a-f]{1,16}", uid) else "")


class EndSession(Sessions):
    """Ends one session."""

    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """End it; who ends this very one is signed out."""
        key = request.POST.get("session", "")
        sessions.end_session(actor=self.principal, key=key)
        if key == self.this:
            return self.redirect_to(reverse("dashboard:sign-in"))
        return self.redirect_to(self.page_path(), "The session has ended.")


class EndSessions(Sessions):
    """Ends all sessions of somebody but this one."""

    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """End them."""
        number = sessions.end_sessions(actor=self.principal, user=self.owner, but=self.this)
        return self.redirect_to(self.page_path(), f"{number} session{'' if number == 1 else 's'} ended.")
