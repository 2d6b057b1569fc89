"""Tokens in the Django admin: their metadata, rotation and revocation. The token itself is not stored."""

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
from adminsite.steps import ActionStep, SteppedAdmin
from authn.requests import principal_of
from core.numbers import WholeNumberField
from rbac.principals import Principal


class RotateTokenStep(ActionStep):
    """Replaces each of the tokens by a new one."""

    name = "rotate"
    title = "Rotate token"
    explanation = "The next page shows the new token once. Have a safe place for it ready."
    result = "Token rotated"
    creates_tokens = True

    class form(forms.Form):  # noqa: N801 - the attribute `form`
        grace = WholeNumberField(
            min_value=0,
            initial=86_400,
            label="Grace period",
            help_text="Seconds for which the old token stays valid, at most until it expires. 0 revokes it immediately.",
        )
        days = WholeNumberField(
            min_value=0,
            required=False,
            label="Days valid",
            help_text="Days until the new token expires. Empty: the same lifetime as the old token. 0: it never expires.",
        )

    @classmethod
    def perform(cls, actor: Principal, rows: Sequence[Token], values: dict[str, Any]) -> Sequence[IssuedToken]:
        return [tokens.rotate_token(actor=actor, token=row, days=values["days"], grace=values["grace"]) for row in rows]


class RevokeTokenStep(ActionStep):
    """Revokes each of the tokens."""

    name = "revoke"
    title = "Revoke token"
    explanation = "A revoked token is rejected immediately. You cannot undo this."
    result = "Token revoked"

    @classmethod
    def perform(cls, actor: Principal, rows: Sequence[Token], values: dict[str, Any]) -> Sequence[IssuedToken]:  # noqa: ARG003 - no fields
        tokens.revoke_tokens(actor=actor, tokens=rows)
        return ()


def step_url(step: type[ActionStep]) -> str:
    """Return the URL of the page of a step for tokens."""
    return reverse(f"admin:accounts_token_{step.name}")


class TokenStateFilter(admin.SimpleListFilter):
    """Filters by the state that `accounts.models.token_state` returns."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in ("active", "expired", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Token]) -> QuerySet[Token]:
        expired = Q(expires_at__isnull=False, expires_at__lte=timezone.now())
        match self.value():
            case "active":
                return queryset.filter(~expired, revoked_at=None)
            case "expired":
                return queryset.filter(expired, revoked_at=None)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
        return queryset


@admin.register(Token)
class TokenAdmin(SteppedAdmin):
    """Tokens are created on the page of their service account. Here they can be rotated and revoked."""

    steps = (RotateTokenStep, RevokeTokenStep)
    list_display = (
        "account", "name", "key_id", "state_shown", "created_at", "expires_at", "last_used_at", "last_used_from", "created_by",
    )  # fmt: skip
    list_display_links = ("name", "key_id")
    list_filter = (TokenStateFilter,)
    search_fields = ("account__name", "name", "key_id", "created_by")
    fields = (
        "account", "name", "key_id", "state_shown", "created_by", "created_at", "expires_at", "revoked_at", "replaced_by",
        "last_used_at", "last_used_from",
    )  # fmt: skip
    readonly_fields = ("state_shown",)
    secret_lookups = ("digest",)
    actions = ("rotate", "revoke")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Token]:
        """Return the tokens that the user is allowed to read, with their accounts and successors joined."""
        return tokens.visible_tokens(principal_of(request)).select_related("account", "replaced_by__account")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: a token is created on the page of its service account."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Return False: a token can be rotated or revoked, but not changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Return False: a revoked token stays stored, as evidence."""
        return False

    @admin.display(description="state")
    def state_shown(self, token: Token) -> str:
        return token.state()

    @admin.action(description="Rotate selected tokens…", permissions=["manage"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[Token]) -> HttpResponseBase:
        """Return the page that asks for the grace period and the lifetime."""
        return self.render_step(request, RotateTokenStep, queryset)

    @admin.action(description="Revoke selected tokens…", permissions=["manage"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> HttpResponseBase:
        """Return the page that asks for a confirmation."""
        return self.render_step(request, RevokeTokenStep, queryset)
