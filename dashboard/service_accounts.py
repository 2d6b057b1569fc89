"""The list of service accounts, the list of tokens by expiry, and the page that creates an account with its first token."""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max, Min, OuterRef, Q, QuerySet, Subquery
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone

from accounts import grants
from accounts.filters import ServiceAccountFilterSet
from accounts.models import ServiceAccount, Token
from accounts.querysets import SOON_DAYS, active_token
from accounts.services import account_rules, service_accounts, tokens, users
from accounts.services.tokens import IssuedToken
from authn import nonces
from core.errors import Conflict
from dashboard.base import FormPage, Page
from dashboard.lists import paginate
from dashboard.service_account_forms import CreateServiceAccountForm, ServiceAccountFilter
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, is_permitted

NEEDS: Final[tuple[Permission, ...]] = (
    Permission.SERVICE_ACCOUNTS_READ,
    Permission.SERVICE_ACCOUNTS_WRITE,
    Permission.SERVICE_ACCOUNTS_OWN,
)
CREATE_NEEDS: Final[tuple[Permission, ...]] = (Permission.SERVICE_ACCOUNTS_WRITE, Permission.SERVICE_ACCOUNTS_OWN)
SORTS: Final = {
    "name": ("name",),
    "role": ("role__name", "name"),
    "owner": ("owner_name", "name"),
    "ends": ("next_expiry", "name"),
    "used": ("used_at", "name"),
    "created": ("created_at",),
}
SOON: Final = timedelta(days=SOON_DAYS)
MAX_TOKENS: Final = 200  # in each group of the expiry page


def can_manage(principal: Principal, account: ServiceAccount) -> bool:
    """Return whether pages offer this user to change an account; the services decide again."""
    return is_permitted(account_rules.require_change, principal, account)


def can_create(principal: Principal) -> bool:
    """Return whether pages offer this user to create service accounts and tokens."""
    return settings.ENABLE_SERVICE_ACCOUNTS and any(principal.holds(permission) for permission in CREATE_NEEDS)


def filtered(principal: Principal, query: QueryDict) -> tuple[QuerySet[ServiceAccount], ServiceAccountFilter]:
    """Return the accounts that match the query parameters, and the filter form; no accounts where a parameter is invalid."""
    form = ServiceAccountFilter(query, sees_all=service_accounts.sees_all(principal))
    if not form.is_valid():
        return ServiceAccount.objects.none(), form
    return ServiceAccountFilterSet(form.filter_values(principal), queryset=service_accounts.visible(principal)).qs, form


def _sortable(rows: QuerySet[ServiceAccount]) -> QuerySet[ServiceAccount]:
    """Return the rows with the annotations that SORTS names. The database computes only the one that is sorted by."""
    tokens = Token.objects.filter(account=OuterRef("pk")).order_by()
    next_expiry = tokens.active().order_by("expires_at").exclude(expires_at=None).values("expires_at")[:1]
    last_use = tokens.exclude(last_used_at=None).order_by("-last_used_at").values("last_used_at")[:1]
    return rows.annotate(owner_name=F("owner__username"), next_expiry=Subquery(next_expiry), used_at=Subquery(last_use))


class ServiceAccountsPage(Page):
    """The list of service accounts: all of them, or only the user's own without the permission to read all."""

    needs = NEEDS
    section = "service-accounts"
    template = "dashboard/service_accounts.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return one page of the list."""
        rows, form = filtered(self.principal, request.GET)
        active = active_token("tokens__")
        display = ServiceAccount.objects.select_related("role", "owner", "owner__role").annotate(
            tokens_count=Count("tokens", filter=active),
            next_expiry=Min("tokens__expires_at", filter=active),
            unlimited_count=Count("tokens", filter=active & Q(tokens__expires_at=None)),
            used_at=Max("tokens__last_used_at"),
        )
        return self.render(
            filter=form,
            filtered=any(form.cleaned_data.values()) if form.is_valid() else True,
            page=paginate(_sortable(rows), request.GET, sorts=SORTS, default="name", display=display),
            can_create=can_create(self.principal),
            is_disabled=not settings.ENABLE_SERVICE_ACCOUNTS,
            soon=timezone.now() + SOON,
        )


class TokenExpiryPage(Page):
    """Tokens by expiry: expired lately, expiring soon, and never expiring."""

    needs = NEEDS
    section = "service-accounts"
    template = "dashboard/service_accounts_timeline.html"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the page."""
        now = timezone.now()
        accounts = service_accounts.visible(self.principal)
        tokens = Token.objects.filter(account__in=accounts, revoked_at=None).select_related(
            "account", "account__owner", "replaced_by"
        )
        limited = tokens.exclude(expires_at=None).order_by("expires_at", "pk")
        day, month = timedelta(days=1), timedelta(days=30)
        queries = [
            ("Expired in the last 30 days", "bad", limited.filter(expires_at__gt=now - month, expires_at__lte=now)),
            ("Expires within a day", "bad", limited.filter(expires_at__gt=now, expires_at__lte=now + day)),
            ("Expires within a week", "warn", limited.filter(expires_at__gt=now + day, expires_at__lte=now + SOON)),
            ("Expires within 30 days", "", limited.filter(expires_at__gt=now + SOON, expires_at__lte=now + month)),
            ("Expires later", "", limited.filter(expires_at__gt=now + month)),
            ("Never expires", "warn", tokens.filter(expires_at=None).order_by("created_at", "pk")),
        ]
        groups = [(title, badge, list(rows[: MAX_TOKENS + 1])) for title, badge, rows in queries]
        for _, _, rows in groups:
            for token in rows:
                token.elapsed = _elapsed(token, now)  # type: ignore[attr-defined]
        return self.render(
            groups=[(title, badge, rows[:MAX_TOKENS], len(rows) > MAX_TOKENS) for title, badge, rows in groups if rows]
        )


def _elapsed(token: Token, now: datetime) -> int | None:
    """Return how much of a token's lifetime has passed, in percent; None if it never expires."""
    if token.expires_at is None:
        return None
    lifetime = (token.expires_at - token.created_at).total_seconds()
    return min(100, max(0, round(100 * (now - token.created_at).total_seconds() / lifetime))) if lifetime > 0 else 100


class TokenFormPage(FormPage):
    """A form that creates a token, which is shown once, in the response to the POST.

    A form works once: sent again, by a reload for example, it neither shows the token again nor creates another (promise 11).
    """

    section = "service-accounts"
    needs = CREATE_NEEDS
    template = "dashboard/token_form.html"
    purpose: ClassVar[str]
    lead: ClassVar[str]
    button: ClassVar[str]
    nonce_spent = False

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Create the token and return the page that shows it."""
        with transaction.atomic():
            if not nonces.consume(self.request.POST.get("nonce", ""), self.principal, self._nonce_purpose()):
                self.nonce_spent = True
                raise Conflict(
                    "This form was already submitted, or it is more than an hour old. Nothing was created. "
                    "A token is shown only once: rotate or revoke a lost token. To create another one, submit the form again."
                )
            issued = self.issue(values)
        return self.render(
            "dashboard/token_created.html",
            token=issued.token,
            account=issued.token.account,
            plaintext=issued.plaintext,
            origin=settings.PUBLIC_URL,
            skypilot=bool(settings.SKYPILOT_URL),
        )

    def issue(self, values: dict[str, Any]) -> IssuedToken:
        """Return the new token. Raises ServiceError."""
        raise NotImplementedError

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page. A form with errors keeps its nonce; a form that was already used gets a new one."""
        nonce = self.request.POST.get("nonce", "") if status == 422 and not self.nonce_spent else ""
        nonce = nonce or nonces.issue(self.principal, self._nonce_purpose())
        return self.render(status=status, form=form, nonce=nonce, lead=self.lead, button=self.button, **self.subject())

    def subject(self) -> dict[str, Any]:
        """Return the page's title, and the account and the old token if there are any, for the template."""
        raise NotImplementedError

    def _nonce_purpose(self) -> str:
        return f"{self.purpose} {self.kwargs.get('key', '') or self.kwargs.get('account', '')}".strip()


class NewServiceAccountPage(TokenFormPage):
    """Creates a service account with its first token."""

    purpose = "new service account"
    lead = "The next page shows the account's first token. It is shown only once."
    button = "Create service account"

    def subject(self) -> dict[str, Any]:
        """Return the title."""
        return {"title": "Create service account"}

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles and owners that this user can choose."""
        return CreateServiceAccountForm(data, principal=self.principal)

    def confirmation(self, values: dict[str, Any]) -> str:
        owner = None if values.get("unowned") else values.get("owner") or users.get_user(self.principal.uid)
        return grants.to_account(self.principal, values["name"], get_role(values["role"]), owner)

    def issue(self, values: dict[str, Any]) -> IssuedToken:
        """Create the account and the token, or neither."""
        account = service_accounts.create_service_account(
            actor=self.principal,
            name=values["name"],
            role=values["role"],
            description=values["description"],
            owner=values.get("owner"),
            unowned=values.get("unowned", False),
        )
        return tokens.issue_token(actor=self.principal, account=account, days=values["days"])

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:service-accounts")
