"""The page of one service account, and the pages that change, disable, delete it, and create, rotate, revoke its tokens."""

from typing import Any, ClassVar, Final

from django.forms import BaseForm, Form
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone

from accounts import grants
from accounts.models import ServiceAccount, Token
from accounts.principal_lookup import service_account_principal
from accounts.querysets import TokenQuerySet
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from core.errors import Forbidden, NotFound, ServiceError
from core.forms import add_service_error, require_confirmation
from dashboard.base import FormPage, Page
from dashboard.service_account_forms import CreateTokenForm, RotateTokenForm, ServiceAccountChangeForm
from dashboard.service_accounts import CREATE_NEEDS, NEEDS, TokenFormPage, can_create, can_manage
from rbac.services import get_role

MAX_TOKENS: Final = 100  # of an account that are listed, the newest first


class ServiceAccountPage(Page):
    """The page of a service account. Its form posts to ServiceAccountChangeAction."""

    needs = NEEDS
    section = "service-accounts"
    template = "dashboard/service_account.html"

    def get(self, request: HttpRequest, account: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the page with an unbound form."""
        return self.render_account(service_accounts.get_account(self.principal, account))

    def render_account(self, account: ServiceAccount, form: Form | None = None, status: int = 200) -> HttpResponse:
        """Return the page, with a form that has errors if there is one."""
        manages = can_manage(self.principal, account)
        has_role = account.role.holds <= self.principal.permissions
        rows = list(tokens.visible_tokens(self.principal).filter(account=account)[: MAX_TOKENS + 1])
        now = timezone.now()
        for token in rows:
            token.current_state = token.state(now)  # type: ignore[attr-defined]
            token.is_retiring = token.replaced_by_id is not None and token.current_state == "active"  # type: ignore[attr-defined]
            used_at = token.last_used_at
            token.is_still_used = (  # type: ignore[attr-defined]
                token.is_retiring  # type: ignore[attr-defined]
                and used_at is not None
                and token.replaced_by is not None
                and used_at > token.replaced_by.created_at
            )
        return self.render(
            status=status,
            account=account,
            effective_role=service_account_principal(account)[0].role,
            manages=manages,
            has_role=has_role,
            issues_tokens=manages and can_create(self.principal) and has_role,
            form=form or (ServiceAccountChangeForm(principal=self.principal, account=account) if manages else None),
            tokens=rows[:MAX_TOKENS],
            more=len(rows) > MAX_TOKENS,
        )


class ServiceAccountChangeAction(ServiceAccountPage):
    """Changes description, role and owner."""

    needs = CREATE_NEEDS
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, account: str) -> HttpResponse:
        """Save the changes, or return the page with the form's errors."""
        row = service_accounts.get_account(self.principal, account)
        form = ServiceAccountChangeForm(request.POST, principal=self.principal, account=row)
        if form.is_valid() and require_confirmation(form, self._confirmation(row, form.cleaned_data)):
            changes = self._changes(row, form.cleaned_data)
            try:
                service_accounts.update_service_account(actor=self.principal, account=row, **changes)
            except (Forbidden, NotFound):
                raise
            except ServiceError as error:
                add_service_error(form, error)
            else:
                return self.redirect_to(self.page_path(), f"The changes to {row.name} were saved.")
        return self.render_account(row, form, 422)

    def _confirmation(self, row: ServiceAccount, values: dict[str, Any]) -> str:
        return grants.to_account(self.principal, row.name, get_role(values["role"]), values.get("owner", row.owner), row)

    def _changes(self, row: ServiceAccount, values: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the service: owner and role only if they differ."""
        changes: dict[str, Any] = {"description": values["description"]}
        if "owner" in values and values["owner"] != row.owner:
            changes |= {"owner": values["owner"]} if values["owner"] is not None else {"unowned": True}
            changes["role"] = values["role"]  # a new owner can require another role, so the one in the form is meant
        elif values["role"] != row.role.name:
            changes["role"] = values["role"]
        return changes

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.kwargs["account"]])


class ConfirmPage(FormPage):
    """Asks for confirmation of an action, and lists the active tokens that it affects."""

    needs = CREATE_NEEDS
    section = "service-accounts"
    template = "dashboard/confirm.html"
    form = Form
    title: ClassVar[str]  # with {} for the name of what the action is about
    text: ClassVar[str]
    button: ClassVar[str]

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page with the affected tokens."""
        page_path = self.page_path()
        active = self.affected_tokens().active().order_by("pk")
        return self.render(
            status=status,
            form=form,
            crumbs=[("Service accounts", reverse("dashboard:service-accounts")), (self.account.name, page_path)],
            title=self.title.format(self.subject_name()),
            text=self.text,
            button=self.button,
            back=page_path,
            tokens=active[:MAX_TOKENS],
            more=max(0, active.count() - MAX_TOKENS),
        )

    def affected_tokens(self) -> TokenQuerySet:
        """Return the tokens that are rejected after the action."""
        return Token.objects.filter(account=self.account)

    @property
    def account(self) -> ServiceAccount:
        """The account that the action is about."""
        return service_accounts.get_account(self.principal, self.kwargs["account"])

    def subject_name(self) -> str:
        """Return the name in the title."""
        return self.account.name

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.account.uid])


class DisableServiceAccountPage(ConfirmPage):
    """Disables an account."""

    title = "Disable service account {}?"
    text = "All of its tokens are rejected from the next request on. You can enable the account again."
    button = "Disable service account"

    def perform(self, values: dict[str, Any]) -> HttpResponse:  # noqa: ARG002 - the form has no fields
        """Disable the account."""
        account = service_accounts.update_service_account(actor=self.principal, account=self.account, active=False)
        return self.redirect_to(self.page_path(), f"The service account {account.name} is disabled.")


class ServiceAccountEnableAction(Page):
    """Enables a disabled account."""

    needs = CREATE_NEEDS
    section = "service-accounts"
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, account: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Enable the account."""
        row = service_accounts.get_account(self.principal, account)
        service_accounts.update_service_account(actor=self.principal, account=row, active=True)
        return self.redirect_to(self.page_path(), f"The service account {row.name} is enabled.")

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.kwargs["account"]])


class DeleteServiceAccountPage(ConfirmPage):
    """Deletes an account."""

    title = "Delete service account {}?"
    text = "The account and all of its tokens are deleted permanently. The tokens are rejected from the next request on."
    button = "Delete service account"

    def perform(self, values: dict[str, Any]) -> HttpResponse:  # noqa: ARG002 - the form has no fields
        """Delete the account."""
        account = self.account
        service_accounts.delete_service_account(actor=self.principal, account=account)
        return self.redirect_to(reverse("dashboard:service-accounts"), f"The service account {account.name} was deleted.")


class NewTokenPage(TokenFormPage):
    """Creates another token for an account."""

    purpose = "token for"
    lead = "The next page shows the token. It is shown only once. Existing tokens stay valid."
    button = "Create token"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form."""
        return CreateTokenForm(data)

    def subject(self) -> dict[str, Any]:
        """Return the title and the account."""
        account = service_accounts.get_account(self.principal, self.kwargs["account"])
        return {"title": f"Create token for {account.name}", "account": account}

    def issue(self, values: dict[str, Any]) -> IssuedToken:
        """Create the token."""
        account = service_accounts.get_account(self.principal, self.kwargs["account"])
        return tokens.issue_token(actor=self.principal, account=account, days=values["days"], name=values["name"])

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.kwargs["account"]])


class RotateTokenPage(TokenFormPage):
    """Replaces a token by a new one."""

    purpose = "rotate"
    lead = "A new token replaces the old one. The next page shows the new token. It is shown only once."
    button = "Rotate token"

    @property
    def token(self) -> Token:
        """The token that is replaced."""
        return tokens.get_token(self.principal, self.kwargs["key"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form. The new token's lifetime defaults to that of the old one."""
        return RotateTokenForm(data, token=self.token)

    def subject(self) -> dict[str, Any]:
        """Return the title, the old token and its account."""
        token = self.token
        return {"title": f"Rotate token {token.name or token.key_id}", "token": token, "account": token.account}

    def issue(self, values: dict[str, Any]) -> IssuedToken:
        """Create the new token; the old one is revoked, or expires after the grace period."""
        return tokens.rotate_token(actor=self.principal, token=self.token, days=values["days"], grace=values["grace"])

    def page_path(self) -> str:
        """Return the account's page."""
        return reverse("dashboard:service-account", args=[self.token.account.uid])


class RevokeTokenPage(ConfirmPage):
    """Revokes a token."""

    title = "Revoke token {}?"
    text = "The token is rejected from the next request on. This cannot be undone: its users need a new token."
    button = "Revoke token"

    def affected_tokens(self) -> TokenQuerySet:
        """Return the token."""
        return Token.objects.filter(pk=self.token.pk)

    @property
    def token(self) -> Token:
        """The token that is revoked."""
        return tokens.get_token(self.principal, self.kwargs["key"])

    @property
    def account(self) -> ServiceAccount:
        """The token's account."""
        return self.token.account

    def subject_name(self) -> str:
        """Return the token's name, or its key id."""
        return self.token.name or self.token.key_id

    def perform(self, values: dict[str, Any]) -> HttpResponse:  # noqa: ARG002 - the form has no fields
        """Revoke the token."""
        tokens.revoke_token(actor=self.principal, token=self.token)
        return self.redirect_to(self.page_path(), f"The token {self.subject_name()} was revoked.")
