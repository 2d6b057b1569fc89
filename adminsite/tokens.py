"""Tokens in the Django admin: what is known of them, and the end of them. The token itself is not known."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils import timezone

from accounts.models import Token
from accounts.services import tokens
from accounts.services.tokens import IssuedToken
from adminsite.steps import Step, SteppedAdmin
from rbac.principals import Principal


class Rotate(Step):
    """Replaces each of the tokens by a new one."""

    name = "rotate"
    title = "Rotate"
    explanation = "The new token is shown on the next page, once. Have a safe place for it ready."
    did = "Token rotated"
    mints = True

    class form(forms.Form):  # noqa: N801 - it is the attribute that matters
        grace = forms.IntegerField(min_value=0, initial=0, help_text="For how many seconds the old token goes on working.")
        days = forms.IntegerField(
            min_value=0,
            required=False,
            help_text="How long the new token lives. Empty: as long as the old one was made for. 0: it never expires.",
        )

    @staticmethod
    def perform(actor: Principal, rows: Sequence[Token], given: dict[str, Any]) -> Sequence[IssuedToken]:
        """Rotate them."""
        return [tokens.rotate_token(actor=actor, token=row, days=given["days"], grace=given["grace"]) for row in rows]


class Revoke(Step):
    """Revokes each of the tokens."""

    name = "revoke"
    title = "Revoke"
    explanation = "It stops working at once, and for good."
    did = "Token revoked"

    @staticmethod
    def perform(actor: Principal, rows: Sequence[Token], given: dict[str, Any]) -> Sequence[IssuedToken]:  # noqa: ARG004 - asks nothing
        """Revoke them."""
        for row in rows:
            tokens.revoke_token(actor=actor, token=row)
        return ()


def url(step: type[Step]) -> str:
    """Return the address of a step's page."""
    return reverse(f"admin:accounts_token_{step.name}")


class StateFilter(admin.SimpleListFilter):
    """Filters by state, as `accounts.models.token_state` tells it."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the states."""
        return [(state, state) for state in ("active", "expired", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Token]) -> QuerySet[Token]:
        """Return the tokens in the state chosen."""
        over = Q(expires_at__isnull=False, expires_at__lte=timezone.now())
        match self.value():
            case "active":
                return queryset.filter(~over, revoked_at=None)
            case "expired":
                return queryset.filter(over, revoked_at=None)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
        return queryset


@admin.register(Token)
class TokenAdmin(SteppedAdmin):
    """Tokens: made on their account's page, never changed, rotated or revoked here."""

    steps = (Rotate, Revoke)
    list_display = (
        "account", "name", "key_id", "state_shown", "created_at", "expires_at", "last_used_at", "last_used_from", "created_by",
    )  # fmt: skip
    list_display_links = ("name", "key_id")
    list_filter = (StateFilter,)
    search_fields = ("account__name", "name", "key_id", "created_by")
    fields = (
        "account", "name", "key_id", "state_shown", "created_by", "created_at", "expires_at", "revoked_at", "replaced_by",
        "last_used_at", "last_used_from",
    )  # fmt: skip
    readonly_fields = ("state_shown",)
    secret_lookups = ("digest",)
    actions = ("rotate", "revoke")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Token]:
        """Return the tokens, each with its account and its successor's."""
        return tokens.visible_tokens(request.principal).select_related("account", "replaced_by__account")  # type: ignore[attr-defined]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: a token is issued for an account, from its page."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Return False: a token is rotated or revoked, not changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Return False: a revoked token stays on record."""
        return False

    @admin.display(description="state")
    def state_shown(self, token: Token) -> str:
        """Return the token's state now."""
        return token.state()

    @admin.action(description="Rotate…", permissions=["manage"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[Token]) -> HttpResponseBase:
        """Ask for the overlap and the new life."""
        return self.ask(request, Rotate, queryset)

    @admin.action(description="Revoke…", permissions=["manage"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> HttpResponseBase:
        """Ask whether it is meant."""
        return self.ask(request, Revoke, queryset)
