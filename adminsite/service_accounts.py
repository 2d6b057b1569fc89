"""Service accounts in the Django admin."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Func, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponseBase
from django.template.loader import render_to_string

from accounts import grants
from accounts.models import ServiceAccount, Token
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from adminsite import tokens as token_pages
from adminsite.base import ServiceForm
from adminsite.steps import ActionStep, RoleHolderAdmin, SetRoleStep
from authn.requests import principal_of
from core.numbers import WholeNumberField
from rbac.models import Role
from rbac.principals import Principal


class NewAccountAdminForm(ServiceForm):
    """The form that creates a service account."""

    role = forms.ModelChoiceField(Role.objects.all(), required=False, empty_label="the default role: user, or less")

    class Meta:
        model = ServiceAccount
        fields = ("name", "description", "owner")

    def confirmation(self) -> str:
        values = self.cleaned_data
        return grants.to_account(self.actor, values["name"], values["role"], values["owner"]) if values["role"] else ""

    def write(self) -> ServiceAccount:
        """Create the account. An empty owner means that it has none."""
        values = self.cleaned_data
        return service_accounts.create_service_account(
            actor=self.actor,
            name=values["name"],
            role=values["role"].name if values["role"] else None,
            description=values["description"],
            owner=values["owner"],
            unowned=values["owner"] is None,
        )


class AccountAdminForm(ServiceForm):
    """The form that changes a service account. Its name cannot be changed."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label=None)

    class Meta:
        model = ServiceAccount
        fields = ("description", "owner", "is_active")

    def confirmation(self) -> str:
        stored: ServiceAccount = ServiceAccount.objects.select_related("role", "owner__role").get(pk=self.instance.pk)
        values = {"role": stored.role, "owner": stored.owner, **self.changed("role", "owner")}
        return grants.to_account(self.actor, stored.name, values["role"], values["owner"], stored)

    def write(self) -> ServiceAccount:
        """Store the values that the user changed."""
        changed = self.changed("role", "owner", "description", "is_active")
        values: dict[str, Any] = {name: changed[name] for name in ("owner", "description") if name in changed}
        if "role" in changed:
            values["role"] = changed["role"].name
        if "is_active" in changed:
            values["active"] = changed["is_active"]
        unowned = "owner" in changed and changed["owner"] is None
        return service_accounts.update_service_account(actor=self.actor, account=self.instance, unowned=unowned, **values)


class SetAccountRoleStep(SetRoleStep):
    """Sets one role for all selected service accounts."""

    @staticmethod
    def confirmation(actor: Principal, row: ServiceAccount, role: Role) -> str:
        return grants.to_account(actor, row.name, role, row.owner, row)

    @staticmethod
    def set_role(actor: Principal, row: ServiceAccount, role: str) -> None:
        service_accounts.update_service_account(actor=actor, account=row, role=role)


def _default_days() -> int:
    return min(settings.TOKEN_DEFAULT_DAYS, settings.TOKEN_MAX_DAYS or settings.TOKEN_DEFAULT_DAYS)


class CreateTokenStep(ActionStep):
    """Creates a token for each of the accounts."""

    name = "issue-token"
    title = "Create token"
    explanation = "The next page shows the token once. Have a safe place for it ready."
    result = "Token created"
    creates_tokens = True

    class form(forms.Form):  # noqa: N801 - the attribute `form`
        name = forms.CharField(
            required=False,
            max_length=64,
            help_text="What the token is used for.",
            widget=forms.TextInput(attrs={"class": "vTextField"}),
        )
        days = WholeNumberField(
            min_value=0,
            initial=_default_days,
            label="Days valid",
            help_text="Days until the token expires. 0: it never expires.",
        )

    @classmethod
    def perform(cls, actor: Principal, rows: Sequence[ServiceAccount], values: dict[str, Any]) -> Sequence[IssuedToken]:
        return [tokens.issue_token(actor=actor, account=row, days=values["days"], name=values["name"]) for row in rows]


@admin.register(ServiceAccount)
class ServiceAccountAdmin(RoleHolderAdmin):
    form = AccountAdminForm
    add_form = NewAccountAdminForm
    role_step = SetAccountRoleStep
    steps = (CreateTokenStep, SetAccountRoleStep)
    list_display = ("name", "uid", "role", "owner", "is_active", "active_tokens", "next_expiry", "last_used")
    list_filter = ("role", "is_active")
    list_select_related = ("role", "owner")
    search_fields = ("name", "uid", "description", "owner__username")
    autocomplete_fields = ("owner",)
    readonly_fields = ("name", "uid", "upstream_name", "created_by", "created_at", "tokens_shown")
    actions = ("create_token", "set_role", "disable", "enable")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceAccount]:
        """Return the accounts, with the token columns of the list: read for its rows only, unless it is sorted by one."""
        tokens = Token.objects.filter(account=OuterRef("pk")).order_by()
        expiring = tokens.active().exclude(expires_at=None).order_by("expires_at")
        used = tokens.exclude(last_used_at=None).order_by("-last_used_at")
        return service_accounts.visible(
            principal_of(request)
        ).annotate(
            token_count=Subquery(tokens.active().values(number=Func("pk", function="COUNT"))),  # Count would add GROUP BY
            expiry=Subquery(expiring.values("expires_at")[:1]),
            used=Subquery(used.values("last_used_at")[:1]),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: ServiceAccount | None = None) -> Any:
        """Return the fields that cannot be changed; for a new account, none."""
        return self.readonly_fields if obj is not None else ()

    def get_fieldsets(self, request: HttpRequest, obj: ServiceAccount | None = None) -> Any:
        """Return the fields of a new account, or those of an existing one."""
        if obj is None:
            return [(None, {"fields": ("name", "role", "owner", "description")})]
        return [
            (
                None,
                {
                    "fields": (
                        "name",
                        "uid",
                        "upstream_name",
                        "role",
                        "owner",
                        "is_active",
                        "description",
                        "created_by",
                        "created_at",
                    )
                },
            ),
            ("Tokens", {"fields": ("tokens_shown",)}),
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return the signed-in user as the default owner of a new account."""
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}

    def remove(self, actor: Principal, row: ServiceAccount) -> None:
        service_accounts.delete_service_account(actor=actor, account=row)

    def consequences(self, row: ServiceAccount) -> list[Any]:
        """Return the account, and its tokens, which are deleted with it."""
        lost = [f"The token {token.name or token.key_id} is deleted and rejected immediately." for token in row.tokens.all()]
        return [f"The service account {row.name} is deleted.", *([lost] if lost else [])]

    def write_active(self, actor: Principal, row: ServiceAccount, active: bool) -> ServiceAccount:
        return service_accounts.update_service_account(actor=actor, account=row, active=active)

    @admin.display(description="active tokens", ordering="token_count")
    def active_tokens(self, account: Any) -> int:
        return int(account.token_count)

    @admin.display(description="next expiry", ordering="expiry")
    def next_expiry(self, account: Any) -> Any:
        """Return the earliest expiry of the active tokens."""
        return account.expiry

    @admin.display(description="last used", ordering="used")
    def last_used(self, account: Any) -> Any:
        """Return the most recent use of any token."""
        return account.used

    @admin.display(description="tokens")
    def tokens_shown(self, account: ServiceAccount) -> str:
        """Return a table of the account's tokens, with links to rotate and revoke them."""
        rows = [(token, token.state()) for token in account.tokens.all()]
        urls = {
            "rotate_url": token_pages.step_url(token_pages.RotateTokenStep),
            "revoke_url": token_pages.step_url(token_pages.RevokeTokenStep),
        }
        return render_to_string("admin/skyauth/tokens.html", {"rows": rows, **urls})

    @admin.action(description="Create token for selected service accounts…", permissions=["manage"])
    def create_token(self, request: HttpRequest, queryset: QuerySet[ServiceAccount]) -> HttpResponseBase:
        """Return the page that asks for the token's name and lifetime."""
        return self.render_step(request, CreateTokenStep, queryset)
