"""The forms of the pages about service accounts. What they ask for is judged by the services; a form only reads it."""

from typing import Any, Final

from django import forms
from django.conf import settings
from django.http import QueryDict

from accounts.models import ServiceAccount, User
from accounts.services import users
from accounts.services.tokens import MAX_DAYS
from core.errors import NotFound
from dashboard.forms import STATES, role_choices
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal

_PLAIN: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
_HOUR, _DAY = 3_600, 86_400
OVERLAPS: Final = (
    (0, "it stops at once"),
    (_HOUR, "it works for another hour"),
    (_DAY, "it works for another day"),
    (7 * _DAY, "it works for another 7 days"),
    (30 * _DAY, "it works for another 30 days"),
)


class AccountFilter(forms.Form):
    """Which service accounts a list shows."""

    q = forms.CharField(label="Search", required=False, max_length=254)
    owner = forms.ChoiceField(label="Owner", required=False, choices=(("", "all"), ("me", "me"), ("nobody", "nobody")))
    role = forms.ChoiceField(label="Role", required=False)
    state = forms.ChoiceField(label="State", required=False, choices=(("", "all"), *STATES))
    tokens = forms.ChoiceField(
        label="Tokens",
        required=False,
        choices=(
            ("", "all"),
            ("soon", "end within 7 days"),
            ("never", "never end"),
            ("unused", "not used for 90 days"),
            ("none", "none that works"),
        ),
    )

    def __init__(self, asked: QueryDict, *, everybodys: bool) -> None:
        super().__init__(asked, auto_id="filter_%s")
        if not everybodys:
            del self.fields["owner"]
        names = Role.objects.order_by("name").values_list("name", flat=True)
        self.fields["role"].choices = [("", "all"), *((name, name) for name in names)]  # type: ignore[attr-defined]
        self.fields["q"].widget = forms.TextInput(
            attrs={"type": "search", "placeholder": f"name, {'description or owner' if everybodys else 'or description'}"}
        )


def _longest() -> int:
    return settings.TOKEN_MAX_DAYS or MAX_DAYS


class TokenLife(forms.Form):
    """How long a token lives. `days` is 0 for one that never ends, which is asked for only where it is allowed."""

    days = forms.IntegerField(label="Days until the token ends", required=False, min_value=1)
    never = forms.BooleanField(label="It never ends", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["days"].max_value = _longest()  # type: ignore[attr-defined]
        self.fields["days"].widget.attrs |= {"max": _longest(), "inputmode": "numeric"}
        self.initial["days"] = min(self.initial.get("days", settings.TOKEN_DEFAULT_DAYS), _longest())
        if settings.TOKEN_MAX_DAYS:
            self.fields["days"].help_text = f"At most {settings.TOKEN_MAX_DAYS} here."
            del self.fields["never"]
        else:
            self.fields["never"].help_text = "Whoever finds it can use it for ever. Better end it, and rotate it in time."

    def clean(self) -> dict[str, Any]:
        """Return what was given, with `days` 0 for never."""
        given = super().clean() or {}
        if given.pop("never", False):
            given["days"] = 0
        return given


def _owner(text: str) -> User | None:
    try:
        return users.find_user(text) if text else None
    except NotFound as error:
        raise forms.ValidationError(error.message) from None


class NewAccount(TokenLife):
    """A new service account and its first token."""

    field_order = ("name", "description", "role", "owner", "days", "never")

    name = forms.CharField(
        label="Name",
        max_length=64,
        strip=False,
        help_text="What it does, such as nightly-sweep. Letters, digits and . _ -",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    description = forms.CharField(label="Description", max_length=200, required=False)
    role = forms.ChoiceField(label="Role", help_text="It never does more than its owner.")
    owner = forms.CharField(
        label="Owner",
        max_length=254,
        required=False,
        help_text="A user's name. Without one it belongs to nobody and goes on whoever leaves.",
        widget=forms.TextInput(attrs=_PLAIN),
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = role_choices(principal)
        self.fields["role"].choices = choices  # type: ignore[attr-defined]
        self.initial.setdefault("role", "user" if ("user", "user") in choices else "viewer")
        if principal.holds(Permission.SERVICE_ACCOUNTS_WRITE):
            self.initial.setdefault("owner", principal.name)
        else:
            del self.fields["owner"]

    def clean_owner(self) -> User | None:
        """Return the user of that name."""
        return _owner(self.cleaned_data["owner"].strip())

    def clean(self) -> dict[str, Any]:
        """Return what was given; `unowned` where the owner was left empty by somebody who may choose."""
        given = super().clean()
        given["unowned"] = "owner" in self.fields and given.get("owner") is None
        return given


class ChangeAccount(forms.Form):
    """What can be changed of a service account."""

    description = forms.CharField(label="Description", max_length=200, required=False)
    role = forms.ChoiceField(label="Role", help_text="It never does more than its owner.")
    owner = forms.CharField(
        label="Owner",
        max_length=254,
        required=False,
        help_text="A user's name; empty for nobody.",
        widget=forms.TextInput(attrs=_PLAIN),
    )

    def __init__(self, data: QueryDict | None = None, *, principal: Principal, account: ServiceAccount) -> None:
        first = {
            "description": account.description,
            "role": account.role.name,
            "owner": account.owner.username if account.owner else "",
        }
        super().__init__(data, initial=first, auto_id="change_%s")
        self.fields["role"].choices = role_choices(principal, held=account.role.name)  # type: ignore[attr-defined]
        if not principal.holds(Permission.SERVICE_ACCOUNTS_WRITE):
            del self.fields["owner"]

    def clean_owner(self) -> User | None:
        """Return the user of that name."""
        return _owner(self.cleaned_data["owner"].strip())


class NewToken(TokenLife):
    """Another token."""

    field_order = ("name", "days", "never")

    name = forms.CharField(label="What it is for", max_length=64, required=False)


class Rotation(TokenLife):
    """A successor of a token, and for how long the old one goes on."""

    field_order = ("grace", "days", "never")

    grace = forms.TypedChoiceField(label="The old token", choices=OVERLAPS, coerce=int, widget=forms.RadioSelect)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("grace", 0)
        self.fields["days"].label = "Days until the new token ends"
