"""The forms of the pages about service accounts and tokens. They parse the input; the services validate it."""

from typing import Any, Final

from django import forms
from django.conf import settings
from django.http import QueryDict

from accounts.filters import TOKEN_CHOICES
from accounts.models import ServiceAccount, Token, User
from accounts.services import users
from accounts.services.tokens import MAX_DAYS
from core.errors import NotFound
from core.numbers import WholeNumberField
from dashboard.forms import ACTIVE, STATES, least_choice, role_choices
from dashboard.lists import ListFilter
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal

_NAME_INPUT: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
_HOUR, _DAY = 3_600, 86_400
GRACE_PERIODS: Final = (
    (_HOUR, "Keep the old token valid for 1 hour"),
    (_DAY, "Keep the old token valid for 1 day"),
    (7 * _DAY, "Keep the old token valid for 7 days"),
    (30 * _DAY, "Keep the old token valid for 30 days"),
    (0, "Revoke the old token immediately"),
)


class ServiceAccountFilter(ListFilter):
    """The filters of the list of service accounts."""

    q = forms.CharField(label="Search", required=False, max_length=254)
    owner = forms.ChoiceField(label="Owner", required=False, choices=(("", "all"), ("me", "me"), ("nobody", "no owner")))
    role = forms.ChoiceField(label="Role", required=False)
    state = forms.ChoiceField(label="Status", required=False, choices=(("", "all"), *STATES))
    tokens = forms.ChoiceField(
        label="Tokens",
        required=False,
        choices=(("", "all"), *TOKEN_CHOICES),
    )

    def __init__(self, query: QueryDict, *, sees_all: bool) -> None:
        super().__init__(query, auto_id="filter_%s")
        if not sees_all:
            del self.fields["owner"]
        names = Role.objects.order_by("name").values_list("name", flat=True)
        self.fields["role"].choices = [("", "all"), *((name, name) for name in names)]  # type: ignore[attr-defined]
        self.fields["q"].widget = forms.TextInput(
            attrs={"type": "search", "placeholder": "name, description or owner" if sees_all else "name or description"}
        )

    def filter_values(self, principal: Principal) -> dict[str, str]:
        """Return the validated values by the names of ServiceAccountFilterSet."""
        values = self.cleaned_data
        owner = values.get("owner", "")
        return {
            "search": values["q"],
            "owner": principal.uid if owner == "me" else "",
            "unowned": "true" if owner == "nobody" else "",
            "role": values["role"],
            "active": ACTIVE[values["state"]],
            "tokens": values["tokens"],
        }


def _max_days() -> int:
    return settings.TOKEN_MAX_DAYS or MAX_DAYS


class TokenLifetimeForm(forms.Form):
    """The lifetime of a token. `days` is 0 for one that never expires, which the form offers only where settings allow it."""

    days = WholeNumberField(label="Days until the token expires", required=False, min_value=1)
    never = forms.BooleanField(label="The token never expires", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["days"].max_value = _max_days()  # type: ignore[attr-defined]
        self.fields["days"].widget.attrs |= {"max": _max_days(), "inputmode": "numeric"}
        self.initial["days"] = min(self.initial.get("days", settings.TOKEN_DEFAULT_DAYS), _max_days())
        if settings.TOKEN_MAX_DAYS:
            self.fields["days"].help_text = f"At most {settings.TOKEN_MAX_DAYS} days."
            del self.fields["never"]
        else:
            self.fields["never"].help_text = "A stolen token without an expiry date works until it is revoked."

    def clean(self) -> dict[str, Any]:
        """Return the values, with `days` 0 for a token that never expires."""
        values = super().clean() or {}
        if values.pop("never", False):
            values["days"] = 0
        return values


def _find_owner(username: str) -> User | None:
    try:
        return users.find_user(username) if username else None
    except NotFound as error:
        raise forms.ValidationError(error.message) from None


class CreateServiceAccountForm(TokenLifetimeForm):
    """A new service account and its first token."""

    field_order = ("name", "description", "role", "owner", "days", "never")

    name = forms.CharField(
        label="Name",
        max_length=64,
        strip=False,
        help_text="For example nightly-sweep. Letters, digits and . _ - are allowed.",
        widget=forms.TextInput(attrs=_NAME_INPUT),
    )
    description = forms.CharField(label="Description", max_length=200, required=False)
    role = forms.ChoiceField(label="Role", help_text="The account never has more permissions than its owner.")
    owner = forms.CharField(
        label="Owner",
        max_length=254,
        required=False,
        help_text="A username. An account without an owner stays active when users leave.",
        widget=forms.TextInput(attrs=_NAME_INPUT),
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        least = least_choice(principal)
        choices = role_choices(principal)
        self.fields["role"].choices = choices if least else [("", "choose a role"), *choices]  # type: ignore[attr-defined]
        self.initial.setdefault("role", least)
        if principal.holds(Permission.SERVICE_ACCOUNTS_WRITE):
            self.initial.setdefault("owner", principal.name)
        else:
            del self.fields["owner"]

    def clean_owner(self) -> User | None:
        """Return the user with this name."""
        return _find_owner(self.cleaned_data["owner"].strip())

    def clean(self) -> dict[str, Any]:
        """Return the values; `unowned` is true where a user who can choose the owner left the field empty."""
        values = super().clean()
        values["unowned"] = "owner" in self.fields and values.get("owner") is None
        return values


class ServiceAccountChangeForm(forms.Form):
    """What can be changed of a service account."""

    description = forms.CharField(label="Description", max_length=200, required=False)
    role = forms.ChoiceField(label="Role", help_text="The account never has more permissions than its owner.")
    owner = forms.CharField(
        label="Owner",
        max_length=254,
        required=False,
        help_text="A username. Leave it empty for an account without an owner.",
        widget=forms.TextInput(attrs=_NAME_INPUT),
    )

    def __init__(self, data: QueryDict | None = None, *, principal: Principal, account: ServiceAccount) -> None:
        initial = {
            "description": account.description,
            "role": account.role.name,
            "owner": account.owner.username if account.owner else "",
        }
        super().__init__(data, initial=initial, auto_id="change_%s")
        self.fields["role"].choices = role_choices(principal, held=account.role.name)  # type: ignore[attr-defined]
        if not principal.holds(Permission.SERVICE_ACCOUNTS_WRITE):
            del self.fields["owner"]

    def clean_owner(self) -> User | None:
        """Return the user with this name."""
        return _find_owner(self.cleaned_data["owner"].strip())


class CreateTokenForm(TokenLifetimeForm):
    """Another token for an account."""

    field_order = ("name", "days", "never")

    name = forms.CharField(label="Token name", max_length=64, required=False, help_text="For example ci or laptop.")


class RotateTokenForm(TokenLifetimeForm):
    """The lifetime of the new token, and for how long the old one stays valid (`grace`, in seconds)."""

    field_order = ("grace", "days", "never")

    grace = forms.TypedChoiceField(label="Old token", choices=GRACE_PERIODS, coerce=int, widget=forms.RadioSelect)

    def __init__(self, data: QueryDict | None = None, *, token: Token) -> None:
        lifetime = token.expires_at and token.expires_at - token.created_at
        days = {"days": max(1, round(lifetime.total_seconds() / _DAY))} if lifetime else {}
        super().__init__(data, initial={"grace": _DAY, **days})  # a client that still has the old token keeps working
        self.fields["days"].label = "Days until the new token expires"
        self.fields["grace"].help_text = (
            f"The old token expires at {token.expires_at:%Y-%m-%d %H:%M} UTC at the latest."
            if token.expires_at
            else "The old token has no expiry date of its own."
        )
