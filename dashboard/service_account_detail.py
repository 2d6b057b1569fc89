"""One service account: its page, what can be changed on it, and its tokens."""

from typing import Any, ClassVar

from django.forms import BaseForm, Form
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone

from accounts.models import ServiceAccount, Token
from accounts.principal_lookup import service_account_principal
from accounts.querysets import TokenQuerySet
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from core.errors import Invalid
from core.forms import add_service_error
from dashboard.base import FormPage, Page
from dashboard.service_account_forms import ChangeAccount, NewToken, Rotation
from dashboard.service_accounts import MAKES, NEEDS, Minting, makes, may_manage

TOKENS = 100  # the newest of an account that are shown


class Account(Page):
    """A service account's page. Its form is sent to `Change`, which shows this page again with what was refused."""

    needs = NEEDS
    section = "service-accounts"
    template = "dashboard/service_account.html"

    def get(self, request: HttpRequest, account: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it."""
        return self.show_account(service_accounts.get_account(self.principal, account))

    def show_account(self, account: ServiceAccount, form: Form | None = None, status: int = 200) -> HttpResponse:
        """Return the page, with this form in place of the one that nobody has filled in."""
        manages = may_manage(self.principal, account)
        rows = list(tokens.visible_tokens(self.principal).filter(account=account)[: TOKENS + 1])
        now = timezone.now()
        for token in rows:
            token.now = token.state(now)  # type: ignore[attr-defined]
            token.leaving = token.replaced_by_id is not None and token.now == "active"  # type: ignore[attr-defined]
            used = token.last_used_at
            token.still_used = (  # type: ignore[attr-defined]
                token.leaving and used is not None and token.replaced_by is not None and used > token.replaced_by.created_at  # type: ignore[attr-defined]
            )
        return self.render(
            status=status,
            account=account,
            effective=service_account_principal(account)[0].role,
            manages=manages,
            holds=account.role.holds <= self.principal.permissions,
            mints=manages and makes(self.principal) and account.role.holds <= self.principal.permissions,
            form=form or (ChangeAccount(principal=self.principal, account=account) if manages else None),
            tokens=rows[:TOKENS],
            more=len(rows) > TOKENS,
        )


class Change(Account):
    """Changes description, role and owner."""

    needs = MAKES
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, account: str) -> HttpResponse:
        """Change them, or show what was refused."""
        row = service_accounts.get_account(self.principal, account)
        form = ChangeAccount(request.POST, principal=self.principal, account=row)
        if form.is_valid():
            given = form.cleaned_data
            try:
                service_accounts.update_service_account(actor=self.principal, account=row, **self._changes(row, given))
            except Invalid as error:
                add_service_error(form, error)
            else:
                return self.redirect_to(reverse("dashboard:service-account", args=[account]), "Saved.")
        return self.show_account(row, form, 422)

    def _changes(self, row: ServiceAccount, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is to be changed: the owner only where another one was named."""
        changes: dict[str, Any] = {"description": given["description"]}
        if "owner" in given and given["owner"] != row.owner:
            changes |= {"owner": given["owner"]} if given["owner"] is not None else {"unowned": True}
            changes["role"] = given["role"]  # it stood beside the owner, so it was said
        elif given["role"] != row.role.name:
            changes["role"] = given["role"]
        return changes

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.kwargs["account"]])


class Confirmed(FormPage):
    """Something that is asked about on a page of its own, which lists the tokens that it stops, before it is done."""

    needs = MAKES
    section = "service-accounts"
    template = "dashboard/confirm.html"
    form = Form
    title: ClassVar[str]
    text: ClassVar[str]
    button: ClassVar[str]

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Ask."""
        name = self.subject()
        crumbs = [("Service accounts", reverse("dashboard:service-accounts")), (self.row.name, self.page_path())]
        words = {"title": self.title.format(name), "text": self.text, "button": self.button, "back": self.page_path()}
        working = self.stopped().active().order_by("pk")
        goes: dict[str, Any] = {"tokens": working[:TOKENS], "more": max(0, working.count() - TOKENS)}
        return self.render(status=status, form=form, crumbs=crumbs, **words, **goes)

    def stopped(self) -> TokenQuerySet:
        """Return the tokens that are no longer accepted afterwards."""
        return Token.objects.filter(account=self.row)

    @property
    def row(self) -> ServiceAccount:
        """The account that it is about."""
        return service_accounts.get_account(self.principal, self.kwargs["account"])

    def subject(self) -> str:
        """Return what it is about, in a word."""
        return self.row.name

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.row.uid])


class Disable(Confirmed):
    """Stops an account."""

    title = "Disable {}?"
    text = "All of its tokens are refused from the next request on. It can be enabled again."
    button = "Disable"

    def perform(self, given: dict[str, Any]) -> HttpResponse:  # noqa: ARG002 - there is nothing to be given
        """Stop it."""
        row = service_accounts.update_service_account(actor=self.principal, account=self.row, active=False)
        return self.redirect_to(self.page_path(), f"{row.name} is disabled.")


class Enable(Page):
    """Lets a disabled account go on."""

    needs = MAKES
    section = "service-accounts"
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, account: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Enable it."""
        row = service_accounts.get_account(self.principal, account)
        service_accounts.update_service_account(actor=self.principal, account=row, active=True)
        return self.redirect_to(self.page_path(), f"{row.name} is enabled.")

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.kwargs["account"]])


class Delete(Confirmed):
    """Deletes an account."""

    title = "Delete {}?"
    text = "It is gone for good, with all of its tokens, which are refused from the next request on."
    button = "Delete"

    def perform(self, given: dict[str, Any]) -> HttpResponse:  # noqa: ARG002 - there is nothing to be given
        """Delete it."""
        row = self.row
        service_accounts.delete_service_account(actor=self.principal, account=row)
        return self.redirect_to(reverse("dashboard:service-accounts"), f"{row.name} was deleted.")


class AddToken(Minting):
    """Makes another token for an account."""

    purpose = "token for"
    lead = "It is shown next, this once. Those that there are go on."
    button = "Make and show the token"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form."""
        return NewToken(data)

    def about(self) -> dict[str, Any]:
        """Return the title, and the account."""
        account = service_accounts.get_account(self.principal, self.kwargs["account"])
        return {"title": f"New token for {account.name}", "account": account}

    def mint(self, given: dict[str, Any]) -> IssuedToken:
        """Make it."""
        account = service_accounts.get_account(self.principal, self.kwargs["account"])
        return tokens.issue_token(actor=self.principal, account=account, days=given["days"], name=given["name"])

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.kwargs["account"]])


class Rotate(Minting):
    """Replaces a token by another one."""

    purpose = "rotate"
    lead = "A new token takes its place, and is shown next, this once."
    button = "Rotate and show the token"

    @property
    def token(self) -> Token:
        """The one that is replaced."""
        return tokens.get_token(self.principal, self.kwargs["key"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form; the successor lives as long as the old one was made for, unless another number is filled in."""
        token = self.token
        if token.expires_at is None:
            return Rotation(data)
        days = max(1, round((token.expires_at - token.created_at).total_seconds() / 86_400))
        return Rotation(data, initial={"days": days})

    def about(self) -> dict[str, Any]:
        """Return the title, the token and its account."""
        token = self.token
        return {"title": f"Rotate {token.name or token.key_id}", "token": token, "account": token.account}

    def mint(self, given: dict[str, Any]) -> IssuedToken:
        """Replace it."""
        return tokens.rotate_token(actor=self.principal, token=self.token, days=given["days"], grace=given["grace"])

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.token.account.uid])


class Revoke(Confirmed):
    """Ends a token at once."""

    title = "Revoke the token {}?"
    text = "It is refused from the next request on, and cannot be brought back. Whoever needs one gets a new one."
    button = "Revoke"

    def stopped(self) -> TokenQuerySet:
        """Return the token."""
        return Token.objects.filter(pk=self.token.pk)

    @property
    def token(self) -> Token:
        """The token."""
        return tokens.get_token(self.principal, self.kwargs["key"])

    @property
    def row(self) -> ServiceAccount:
        """Its account."""
        return self.token.account

    def subject(self) -> str:
        """Return what the token is called."""
        return self.token.name or self.token.key_id

    def perform(self, given: dict[str, Any]) -> HttpResponse:  # noqa: ARG002 - there is nothing to be given
        """Revoke it."""
        tokens.revoke_token(actor=self.principal, token=self.token)
        return self.redirect_to(self.page_path(), f"The token {self.subject()} was revoked.")
