"""Service accounts: the list, new ones with their first token, and when tokens end."""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Subquery
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone

from accounts.models import ServiceAccount, Token
from accounts.querysets import SOON_DAYS, UNUSED_DAYS, active_token
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from authn import nonces
from core.errors import Conflict
from dashboard.base import FormPage, Page
from dashboard.lists import paginate
from dashboard.service_account_forms import AccountFilter, NewAccount
from rbac.permissions import Permission
from rbac.principals import Principal

NEEDS: Final[tuple[Permission, ...]] = (
    Permission.SERVICE_ACCOUNTS_READ,
    Permission.SERVICE_ACCOUNTS_WRITE,
    Permission.SERVICE_ACCOUNTS_OWN,
)
MAKES: Final[tuple[Permission, ...]] = (Permission.SERVICE_ACCOUNTS_WRITE, Permission.SERVICE_ACCOUNTS_OWN)
SORTS: Final = {
    "name": ("name",),
    "role": ("role__name", "name"),
    "owner": ("owner_name", "name"),
    "ends": ("ends", "name"),
    "used": ("used", "name"),
    "created": ("created_at",),
}
SOON: Final = timedelta(days=SOON_DAYS)
SHOWN: Final = 200  # tokens of each part of the timeline


def may_manage(principal: Principal, account: ServiceAccount) -> bool:
    """Return whether this person is offered to change an account; the services decide whether it is done."""
    if principal.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        return True
    own = principal.owner is not None and account.owner_id == principal.owner
    return own and principal.holds(Permission.SERVICE_ACCOUNTS_OWN)


def makes(principal: Principal) -> bool:
    """Return whether this person is offered to make service accounts and tokens."""
    return settings.ENABLE_SERVICE_ACCOUNTS and any(principal.holds(permission) for permission in MAKES)


def filtered(principal: Principal, asked: QueryDict) -> tuple[QuerySet[ServiceAccount], AccountFilter]:
    """Return the accounts that an address asks for, and the form that says which; none where it asks for what cannot be."""
    form = AccountFilter(asked, everybodys=service_accounts.sees_all(principal))
    if not form.is_valid():
        return ServiceAccount.objects.none(), form
    rows, given = service_accounts.visible(principal), form.cleaned_data
    if text := given["q"].strip():
        rows = rows.filter(Q(name__contains=text.lower()) | Q(description__icontains=text) | Q(owner__username=text.lower()))
    if given.get("owner") == "me":
        rows = rows.filter(owner=principal.owner)
    elif given.get("owner") == "nobody":
        rows = rows.filter(owner=None)
    if given["role"]:
        rows = rows.filter(role__name=given["role"])
    if given["state"]:
        rows = rows.filter(is_active=given["state"] == "active")
    if given["tokens"]:
        rows = rows.filter(_tokens(given["tokens"]))
    return rows, form


def _tokens(asked: str) -> Any:
    """Return the condition of an account some of whose tokens are like that."""
    tokens = Token.objects.filter(account=OuterRef("pk"))
    match asked:
        case "soon":
            return Exists(tokens.expiring_within(SOON_DAYS))
        case "never":
            return Exists(tokens.active().filter(expires_at=None))
        case "unused":
            return Exists(tokens.unused_for(UNUSED_DAYS))
        case _:
            return ~Exists(tokens.active())


def _sortable(rows: QuerySet[ServiceAccount]) -> QuerySet[ServiceAccount]:
    """Return the rows with what they can be sorted by besides their fields, which costs nothing where they are not."""
    tokens = Token.objects.filter(account=OuterRef("pk")).order_by()
    first_end = tokens.active().order_by("expires_at").exclude(expires_at=None).values("expires_at")[:1]
    last_use = tokens.exclude(last_used_at=None).order_by("-last_used_at").values("last_used_at")[:1]
    return rows.annotate(owner_name=F("owner__username"), ends=Subquery(first_end), used=Subquery(last_use))


class Accounts(Page):
    """The list of service accounts: all, for those who may read them, else one's own."""

    needs = NEEDS
    section = "service-accounts"
    template = "dashboard/service_accounts.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show a page of it."""
        rows, form = filtered(self.principal, request.GET)
        working = active_token("tokens__")
        shown = ServiceAccount.objects.select_related("role", "owner", "owner__role").annotate(
            tokens_count=Count("tokens", filter=working),
            ends=Min("tokens__expires_at", filter=working),
            never_ends=Count("tokens", filter=working & Q(tokens__expires_at=None)),
            used=Max("tokens__last_used_at"),
        )
        return self.render(
            filter=form,
            filtered=any(form.cleaned_data.values()) if form.is_valid() else True,
            page=paginate(_sortable(rows), request.GET, sorts=SORTS, default="name", shown=shown),
            makes=makes(self.principal),
            off=not settings.ENABLE_SERVICE_ACCOUNTS,
            soon=timezone.now() + SOON,
        )


class Timeline(Page):
    """When tokens end: what ended lately, what ends soon, and what never does."""

    needs = NEEDS
    section = "service-accounts"
    template = "dashboard/service_accounts_timeline.html"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it."""
        now = timezone.now()
        own = service_accounts.visible(self.principal)
        tokens = Token.objects.filter(account__in=own, revoked_at=None).select_related("account", "account__owner", "replaced_by")
        dated = tokens.exclude(expires_at=None).order_by("expires_at", "pk")
        day, month = timedelta(days=1), timedelta(days=30)
        parts = [
            ("Ended in the last 30 days", "bad", dated.filter(expires_at__gt=now - month, expires_at__lte=now)),
            ("Within a day", "bad", dated.filter(expires_at__gt=now, expires_at__lte=now + day)),
            ("Within a week", "warn", dated.filter(expires_at__gt=now + day, expires_at__lte=now + SOON)),
            ("Within 30 days", "", dated.filter(expires_at__gt=now + SOON, expires_at__lte=now + month)),
            ("Later", "", dated.filter(expires_at__gt=now + month)),
            ("Never", "warn", tokens.filter(expires_at=None).order_by("created_at", "pk")),
        ]
        found = [(title, look, list(rows[: SHOWN + 1])) for title, look, rows in parts]
        for _, _, rows in found:
            for token in rows:
                token.spent = _spent(token, now)  # type: ignore[attr-defined]
        return self.render(parts=[(title, look, rows[:SHOWN], len(rows) > SHOWN) for title, look, rows in found if rows])


def _spent(token: Token, now: datetime) -> int | None:
    """Return how much of a token's life is over, in percent; None for one without an end."""
    if token.expires_at is None:
        return None
    life = (token.expires_at - token.created_at).total_seconds()
    return min(100, max(0, round(100 * (now - token.created_at).total_seconds() / life))) if life > 0 else 100


class Minting(FormPage):
    """A form that ends in a token, which is shown in the answer to the form itself, once.

    The form works once: sent again, by a reload say, it neither shows the token again nor makes another (promise 11).
    """

    section = "service-accounts"
    needs = MAKES
    template = "dashboard/token_asked.html"
    purpose: ClassVar[str]
    lead: ClassVar[str]
    button: ClassVar[str]
    sent_before = False

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Make the token, and show it."""
        with transaction.atomic():
            if not nonces.consume(self.request.POST.get("nonce", ""), self.principal, self._purpose()):
                self.sent_before = True
                raise Conflict(
                    "This form was sent already, or is more than an hour old, so nothing was made now. "
                    "A token is shown once: if it is lost, rotate it or revoke it. To make another one, send the form again."
                )
            issued = self.mint(given)
        return self.render(
            "dashboard/token_shown.html",
            token=issued.token,
            account=issued.token.account,
            plaintext=issued.plaintext,
            origin=settings.PUBLIC_URL,
            skypilot=bool(settings.SKYPILOT_URL),
        )

    def mint(self, given: dict[str, Any]) -> IssuedToken:
        """Return the new token. Raises ServiceError."""
        raise NotImplementedError

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page with the form; one that was refused can be sent again, and one that was used up as a new one."""
        nonce = self.request.POST.get("nonce", "") if status == 422 and not self.sent_before else ""
        nonce = nonce or nonces.issue(self.principal, self._purpose())
        return self.render(status=status, form=form, nonce=nonce, lead=self.lead, button=self.button, **self.about())

    def about(self) -> dict[str, Any]:
        """Return the page's title, and the account and the token that it is about, if any."""
        raise NotImplementedError

    def _purpose(self) -> str:
        return f"{self.purpose} {self.kwargs.get('key', '') or self.kwargs.get('account', '')}".strip()


class New(Minting):
    """Makes a service account with its first token."""

    purpose = "new service account"
    lead = "Its token is shown next, this once."
    button = "Create and show the token"

    def about(self) -> dict[str, Any]:
        """Return the title."""
        return {"title": "New service account"}

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles and owners that may be given."""
        return NewAccount(data, principal=self.principal)

    def mint(self, given: dict[str, Any]) -> IssuedToken:
        """Make both, or neither."""
        account = service_accounts.create_service_account(
            actor=self.principal,
            name=given["name"],
            role=given["role"],
            description=given["description"],
            owner=given.get("owner"),
            unowned=given.get("unowned", False),
        )
        return tokens.issue_token(actor=self.principal, account=account, days=given["days"])

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:service-accounts")
