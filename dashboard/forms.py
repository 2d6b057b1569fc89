"""The forms of the pages about people. What they ask for is judged by the services; a form only reads it."""

from typing import Any, Final

from django import forms
from django.http import QueryDict

from accounts.models import SignIn, User
from accounts.services import users
from accounts.services.offboarding import Fate
from core.errors import NotFound
from rbac.models import Role
from rbac.principals import Principal

STATES: Final = (("active", "active"), ("disabled", "disabled"))


def role_choices(principal: Principal, *, held: str = "") -> list[tuple[str, str]]:
    """Return the roles that this person may give, and the one that is held already: nobody gives more than they hold."""
    roles = Role.objects.order_by("name")
    return [(role.name, role.name) for role in roles if role.holds <= principal.permissions or role.name == held]


class UserFilter(forms.Form):
    """Which users a list shows."""

    q = forms.CharField(label="Search", required=False, max_length=254)
    role = forms.ChoiceField(label="Role", required=False)
    state = forms.ChoiceField(label="State", required=False, choices=(("", "all"), *STATES))
    sign_in = forms.ChoiceField(label="Sign-in", required=False, choices=(("", "all"), *SignIn.choices))

    def __init__(self, asked: QueryDict) -> None:
        super().__init__(asked, auto_id="filter_%s")
        names = Role.objects.order_by("name").values_list("name", flat=True)
        self.fields["role"].choices = [("", "all"), *((name, name) for name in names)]  # type: ignore[attr-defined]
        self.fields["q"].widget = forms.TextInput(attrs={"type": "search", "placeholder": "name or e-mail address"})


class NewUser(forms.Form):
    """A new user."""

    username = forms.CharField(
        label="Name",
        max_length=254,
        strip=False,
        help_text="An e-mail address, as single sign-on names them, or a plain name such as alice.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    display_name = forms.CharField(label="Display name", max_length=150, required=False)
    role = forms.ChoiceField(label="Role")
    password = forms.CharField(
        label="Password",
        max_length=1_024,
        strip=False,
        required=False,
        help_text="Without one, they come by single sign-on.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = role_choices(principal)
        self.fields["role"].choices = choices  # type: ignore[attr-defined]
        self.initial.setdefault("role", "user" if ("user", "user") in choices else "viewer")


class Profile(forms.Form):
    """What does not decide about permissions, and how the person signs in."""

    display_name = forms.CharField(label="Display name", max_length=150, required=False)
    email = forms.CharField(label="E-mail address", max_length=254, required=False)
    sign_in = forms.ChoiceField(label="Signs in by", choices=SignIn.choices)


class Password(forms.Form):
    """A new password for somebody."""

    password = forms.CharField(
        label="New password",
        max_length=1_024,
        strip=False,
        help_text="All of their sessions end.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class Leaving(forms.Form):
    """What becomes of the service accounts of somebody who leaves; not asked where there are none."""

    fate = forms.ChoiceField(label="Their service accounts", widget=forms.RadioSelect)
    transfer_to = forms.CharField(
        label="New owner",
        max_length=254,
        required=False,
        help_text="If they go to another user: the name of that user.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, stays: str, has_accounts: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_accounts:
            self.fields.clear()
            return
        self.fields["fate"].choices = [  # type: ignore[attr-defined]
            (Fate.TRANSFER, "go to another user, and go on working"),
            (Fate.REVOKE, "are disabled, and their tokens revoked for good"),
            (Fate.STAY, stays),
        ]

    def clean_transfer_to(self) -> User | None:
        """Return the user of that name, where it is asked for."""
        name = self.cleaned_data["transfer_to"].strip()
        if self.cleaned_data.get("fate") != Fate.TRANSFER or not name:
            return None
        try:
            return users.find_user(name)
        except NotFound as error:
            raise forms.ValidationError(error.message) from None


class OwnPassword(forms.Form):
    """One's own password: the one that one has, and the one that it shall be."""

    current_password = forms.CharField(
        label="Your password now",
        max_length=1_024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    password = forms.CharField(
        label="Your new password",
        max_length=1_024,
        strip=False,
        help_text="You stay signed in here, and are signed out everywhere else.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
