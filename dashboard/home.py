"""Home: the user's identity, permissions, service accounts and tokens; for admins, the health of the installation."""

from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import update_session_auth_hash
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from accounts.models import ServiceAccount, Token
from accounts.services import users
from authn import own_password
from authn.requests import current_session
from dashboard import health, service_accounts
from dashboard.audit_text import describe
from dashboard.base import FormPage, Page
from dashboard.forms import PasswordChangeForm
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.principals import Method

SOON_DAYS: Final = 14
MAX_ROWS: Final = 10  # of the user's own accounts and tokens; the section of service accounts lists them all

_ADMIN_PERMISSIONS: Final = {
    Permission.USERS_READ,
    Permission.USERS_WRITE,
    Permission.SERVICE_ACCOUNTS_WRITE,
    Permission.ROUTES_WRITE,
}
_AUTHENTICATED_BY: Final = {
    Method.SESSION: "a session in this browser",
    Method.BASIC: "the username and password that your browser sends with each request (HTTP Basic)",
    Method.PROXY: "the single sign-on proxy in front of SkyAuth",
}


class HomePage(Page):
    """The first page."""

    section = "home"
    template = "dashboard/home.html"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the page."""
        me, now = self.principal, timezone.now()
        own = ServiceAccount.objects.filter(owner_id=me.pk).select_related("role")
        tokens = Token.objects.filter(account__owner_id=me.pk).active()
        is_admin = me.permissions >= _ADMIN_PERMISSIONS
        return self.render(
            authenticated_by=_AUTHENTICATED_BY[me.method],
            role=Role.objects.filter(name=me.role).first(),
            permissions=[(name, MEANINGS[name]) for name in Permission if me.holds(name)],
            accounts=own.annotate(tokens_count=Count("tokens"), used_at=Max("tokens__last_used_at"))[:MAX_ROWS],
            expiring=tokens.filter(expires_at__lte=now + timedelta(days=SOON_DAYS))
            .select_related("account")
            .order_by("expires_at")[:MAX_ROWS],
            soon_days=SOON_DAYS,
            opens_accounts=any(me.holds(permission) for permission in service_accounts.NEEDS),
            creates_accounts=any(me.holds(permission) for permission in service_accounts.CREATE_NEEDS),
            has_password=me.holds(Permission.PASSWORD_OWN) and users.get_user(me.uid).has_usable_password(),
            is_admin=is_admin,
            findings=health.health_items() if is_admin else (),
            denials=describe(health.denials(), me) if is_admin and me.holds(Permission.AUDIT_READ) else None,
        )


class OwnPasswordPage(FormPage):
    """Changes the signed-in user's own password."""

    needs = (Permission.PASSWORD_OWN,)
    section = "home"
    template = "dashboard/own_password.html"
    form = PasswordChangeForm

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Change the password. The current session stays valid, under a new key."""
        user = own_password.change_own_password(
            actor=self.principal,
            current=values["current_password"],
            password=values["password"],
            keep_session=current_session(self.request),
        )
        if self.principal.method is Method.SESSION:
            update_session_auth_hash(self.request, user)
        return self.redirect_to(reverse("dashboard:home"), "Your password was changed.")
