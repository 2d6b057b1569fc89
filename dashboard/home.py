"""Home: who I am here, what I may do, what is mine; and, for admins, how the installation is."""

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
from dashboard import health, service_accounts
from dashboard.audit_text import told
from dashboard.base import FormPage, Page
from dashboard.forms import OwnPassword
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.principals import Method

SOON: Final = 14  # days
MOST: Final = 10  # of one's own accounts and tokens; the section of service accounts has them all

_ADMINISTERS: Final = {Permission.USERS_READ, Permission.USERS_WRITE, Permission.SERVICE_ACCOUNTS_WRITE, Permission.ROUTES_WRITE}
_RECOGNISED: Final = {
    Method.SESSION: "by signing in here with a password",
    Method.BASIC: "by the name and password that the browser sends along",
    Method.PROXY: "by the single sign-on in front of SkyAuth",
}


class Home(Page):
    """The first page."""

    section = "home"
    template = "dashboard/home.html"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it."""
        me, now = self.principal, timezone.now()
        mine = ServiceAccount.objects.filter(owner_id=me.pk).select_related("role")
        tokens = Token.objects.filter(account__owner_id=me.pk).active()
        administers = me.permissions >= _ADMINISTERS
        return self.render(
            recognised=_RECOGNISED[me.method],
            role=Role.objects.filter(name=me.role).first(),
            permits=[(name, MEANINGS[name]) for name in Permission if me.holds(name)],
            accounts=mine.annotate(tokens_count=Count("tokens"), used_at=Max("tokens__last_used_at"))[:MOST],
            expiring=tokens.filter(expires_at__lte=now + timedelta(days=SOON))
            .select_related("account")
            .order_by("expires_at")[:MOST],
            soon=SOON,
            opens_accounts=any(me.holds(permission) for permission in service_accounts.NEEDS),
            makes_accounts=any(me.holds(permission) for permission in service_accounts.MAKES),
            has_password=me.holds(Permission.PASSWORD_OWN) and users.get_user(me.uid).has_usable_password(),
            administers=administers,
            findings=health.findings() if administers else (),
            denials=told(health.denials(), me) if administers and me.holds(Permission.AUDIT_READ) else None,
        )


class SetOwnPassword(FormPage):
    """Changes one's own password."""

    needs = (Permission.PASSWORD_OWN,)
    section = "home"
    template = "dashboard/own_password.html"
    form = OwnPassword

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Change it. The session that it is done in goes on, under a new key."""
        user = own_password.change_own_password(
            actor=self.principal, current=given["current_password"], password=given["password"]
        )
        if self.principal.method is Method.SESSION:
            update_session_auth_hash(self.request, user)
        return self.redirect_to(reverse("dashboard:home"), "Your password is changed.")
