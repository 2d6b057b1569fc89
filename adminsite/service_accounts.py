"""Service accounts in the Django admin."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Count, Max, Min, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.loader import render_to_string

from accounts.models import ServiceAccount
from accounts.querysets import active_token
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from adminsite import tokens as token_pages
from adminsite.base import ServiceForm
from adminsite.steps import Step, SteppedAdmin
from rbac.models import Role
from rbac.principals import Principal


class NewAccountForm(ServiceForm):
    """A service account that does not exist yet."""

    role = forms.ModelChoiceField(Role.objects.all(), required=False, empty_label="the default role, at most user")

    class Meta:
        model = ServiceAccount
        fields = ("name", "description", "owner")

    def write(self) -> ServiceAccount:
        """Create the account; no owner named means none."""
        given = self.cleaned_data
        return service_accounts.create_service_account(
            actor=self.actor,
            name=given["name"],
            role=given["role"].name if given["role"] else None,
            description=given["description"],
            owner=given["owner"],
            unowned=given["owner"] is None,
        )


class AccountForm(ServiceForm):
    """A service account; its name is given once."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label=None)

    class Meta:
        model = ServiceAccount
        fields = ("description", "owner", "is_active")

    def write(self) -> ServiceAccount:
        """Change what the person changed."""
        changed = self.changed("role", "owner", "description", "is_active")
        values: dict[str, Any] = {name: changed[name] for name in ("owner", "description") if name in changed}
        if "role" in changed:
            values["role"] = changed["role"].name
        if "is_active" in changed:
            values["active"] = changed["is_active"]
        unowned = "owner" in changed and changed["owner"] is None
        return service_accounts.update_service_account(actor=self.actor, account=self.instance, unowned=unowned, **values)


class SetRole(Step):
    """Gives a role to each of the accounts."""

    name = "set-role"
    title = "Set role"
    did = "Role set"

    class form(forms.Form):  # noqa: N801 - it is the attribute that matters
        role = forms.ModelChoiceField(Role.objects.all(), empty_label="choose one")

    @staticmethod
    def perform(actor: Principal, rows: Sequence[ServiceAccount], given: dict[str, Any]) -> Sequence[IssuedToken]:
        """Set it."""
        for account in rows:
            service_accounts.update_service_account(actor=actor, account=account, role=given["role"].name)
        return ()


def _days() -> int:
    return min(settings.TOKEN_DEFAULT_DAYS, settings.TOKEN_MAX_DAYS or settings.TOKEN_DEFAULT_DAYS)


class Issue(Step):
    """Issues a token for each of the accounts."""

    name = "issue-token"
    title = "Issue a token"
    explanation = "The token is shown on the next page, once. Have a safe place for it ready."
    did = "Token issued"
    mints = True

    class form(forms.Form):  # noqa: N801 - it is the attribute that matters
        name = forms.CharField(
            required=False,
            max_length=64,
            help_text="What the token is for.",
            widget=forms.TextInput(attrs={"class": "vTextField"}),
        )
        days = forms.IntegerField(min_value=0, initial=_days, help_text="How long it lives. 0: it never expires.")

    @staticmethod
    def perform(actor: Principal, rows: Sequence[ServiceAccount], given: dict[str, Any]) -> Sequence[IssuedToken]:
        """Issue them."""
        return [tokens.issue_token(actor=actor, account=row, days=given["days"], name=given["name"]) for row in rows]


@admin.register(ServiceAccount)
class ServiceAccountAdmin(SteppedAdmin):
    """Service accounts."""

    form = AccountForm
    add_form = NewAccountForm
    steps = (Issue, SetRole)
    list_display = ("name", "uid", "role", "owner", "is_active", "live_tokens", "next_expiry", "last_used")
    list_filter = ("role", "is_active")
    list_select_related = ("role", "owner")
    search_fields = ("name", "uid", "description", "owner__username")
    autocomplete_fields = ("owner",)
    readonly_fields = ("name", "uid", "created_by", "created_at", "tokens_shown")
    actions = ("issue", "set_role", "disable", "enable")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceAccount]:
        """Return the accounts with what the list tells of their tokens, in one query."""
        alive = active_token("tokens__")
        return service_accounts.visible(request.principal).annotate(  # type: ignore[attr-defined]
            alive=Count("tokens", filter=alive),
            expiry=Min("tokens__expires_at", filter=alive),
            used=Max("tokens__last_used_at"),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: ServiceAccount | None = None) -> Any:
        """Return the fields that never change; the name is given once."""
        return self.readonly_fields if obj is not None else ()

    def get_fieldsets(self, request: HttpRequest, obj: ServiceAccount | None = None) -> Any:
        """Return what is typed at first, or what may be seen and changed later."""
        if obj is None:
            return [(None, {"fields": ("name", "role", "owner", "description")})]
        return [
            (None, {"fields": ("name", "uid", "role", "owner", "is_active", "description", "created_by", "created_at")}),
            ("Tokens", {"fields": ("tokens_shown",)}),
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return the person as the owner of what they create, unless they say otherwise."""
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}

    def remove(self, actor: Principal, row: ServiceAccount) -> None:
        """Delete an account with its tokens."""
        service_accounts.delete_service_account(actor=actor, account=row)

    def consequences(self, row: ServiceAccount) -> list[Any]:
        """Return the account, and its tokens, which go with it."""
        lost = [f"The token {token.name or token.key_id} stops working." for token in row.tokens.all()]
        return [f"The service account {row.name} is deleted.", *([lost] if lost else [])]

    @admin.display(description="live tokens", ordering="alive")
    def live_tokens(self, account: Any) -> int:
        """Return how many tokens work."""
        return int(account.alive)

    @admin.display(description="next expiry", ordering="expiry")
    def next_expiry(self, account: Any) -> Any:
        """Return when the next of them expires."""
        return account.expiry

    @admin.display(description="last used", ordering="used")
    def last_used(self, account: Any) -> Any:
        """Return when any token was used last."""
        return account.used

    @admin.display(description="tokens")
    def tokens_shown(self, account: ServiceAccount) -> str:
        """Return a table of the account's tokens, with links to rotate and revoke them."""
        rows = [(token, token.state()) for token in account.tokens.all()]
        steps = {"rotate_url": token_pages.url(token_pages.Rotate), "revoke_url": token_pages.url(token_pages.Revoke)}
        return render_to_string("admin/skyauth/tokens.html", {"rows": rows, **steps})

    @admin.action(description="Issue a token…", permissions=["manage"])
    def issue(self, request: HttpRequest, queryset: QuerySet[ServiceAccount]) -> HttpResponseBase:
        """Ask for its name and life."""
        return self.ask(request, Issue, queryset)

    @admin.action(description="Set role…", permissions=["manage"])
    def set_role(self, request: HttpRequest, queryset: QuerySet[ServiceAccount]) -> HttpResponseBase:
        """Ask for the role."""
        return self.ask(request, SetRole, queryset)

    @admin.action(description="Disable", permissions=["manage"])
    def disable(self, request: HttpRequest, queryset: QuerySet[ServiceAccount]) -> None:
        """Disable each; its tokens stop at once."""
        self._set_active(request, queryset, False)

    @admin.action(description="Enable", permissions=["manage"])
    def enable(self, request: HttpRequest, queryset: QuerySet[ServiceAccount]) -> None:
        """Enable each."""
        self._set_active(request, queryset, True)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[ServiceAccount], active: bool) -> None:
        actor: Principal = request.principal  # type: ignore[attr-defined]
        rows = [service_accounts.update_service_account(actor=actor, account=row, active=active) for row in queryset]
        self.done(request, "Enabled" if active else "Disabled", rows)
