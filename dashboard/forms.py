"""The forms of the pages about users. They parse the input; the services validate it."""

from typing import Any, Final

from django import forms
from django.http import QueryDict

from accounts.models import SignIn, User
from accounts.services import users
from accounts.services.offboarding import AccountAction
from accounts.services.role_defaults import least_role
from core.errors import Invalid, NotFound
from core.forms import NewPasswordField, NewPasswordInput
from dashboard.lists import ListFilter
from rbac.models import Role
from rbac.principals import Principal

STATES: Final = (("active", "active"), ("disabled", "disabled"))
ACTIVE: Final = {"": "", "active": "true", "disabled": "false"}
"""Each choice of a list's `state` as the value of the filter `active`."""


def role_choices(principal: Principal, *, held: str = "") -> list[tuple[str, str]]:
    """Return the roles that this user can assign, and the current role `held`: nobody assigns more than they have."""
    roles = Role.objects.order_by("name")
    return [(role.name, role_label(role)) for role in roles if role.holds <= principal.permissions or role.name == held]


def least_choice(principal: Principal) -> str:
    """Return the role that a form for somebody new preselects; "" if the role must be chosen."""
    try:
        return least_role(principal).name
    except Invalid:
        return ""


def role_label(role: Role) -> str:
    """Return the text of a role in a list of choices, in which administrative roles stand out."""
    return f"{role.name} (administrative)" if role.is_administrative else role.name


class UserFilter(ListFilter):
    """The filters of the user list."""

    q = forms.CharField(label="Search", required=False, max_length=254)
    role = forms.ChoiceField(label="Role", required=False)
    state = forms.ChoiceField(label="Status", required=False, choices=(("", "all"), *STATES))
    sign_in = forms.ChoiceField(label="Sign-in method", required=False, choices=(("", "all"), *SignIn.choices))

    def __init__(self, query: QueryDict) -> None:
        super().__init__(query, auto_id="filter_%s")
        names = Role.objects.order_by("name").values_list("name", flat=True)
        self.fields["role"].choices = [("", "all"), *((name, name) for name in names)]  # type: ignore[attr-defined]
        self.fields["q"].widget = forms.TextInput(attrs={"type": "search", "placeholder": "name, e-mail address or id"})

    def filter_values(self) -> dict[str, str]:
        """Return the validated values by the names of UserFilterSet."""
        values = self.cleaned_data
        return {
            "search": values["q"],
            "role": values["role"],
            "active": ACTIVE[values["state"]],
            "sign_in": values["sign_in"],
        }


class DeletedUserFilter(forms.Form):
    """Filters the list of deleted users."""

    q = forms.CharField(
        label="Search", required=False, max_length=254, widget=forms.TextInput(attrs={"type": "search", "placeholder": "name"})
    )


class CreateUserForm(forms.Form):
    """A new user."""

    username = forms.CharField(
        label="Username",
        max_length=254,
        strip=False,
        help_text="An e-mail address, as single sign-on sends it, or a plain name such as alice.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    display_name = forms.CharField(label="Display name", max_length=150, required=False)
    role = forms.ChoiceField(label="Role")
    password = NewPasswordField(
        label="Password",
        max_length=1_024,
        strip=False,
        required=False,
        help_text="Without a password, the user signs in with single sign-on.",
        widget=NewPasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        least = least_choice(principal)
        choices = role_choices(principal)
        self.fields["role"].choices = choices if least else [("", "choose a role"), *choices]  # type: ignore[attr-defined]
        self.initial.setdefault("role", least)


class UserProfileForm(forms.Form):
    """Names, address and sign-in method of a user."""

    display_name = forms.CharField(label="Display name", max_length=150, required=False)
    email = forms.CharField(label="E-mail address", max_length=254, required=False)
    sign_in = forms.ChoiceField(label="Sign-in method", choices=SignIn.choices)


class UserPasswordForm(forms.Form):
    """A new password for a user."""

    password = forms.CharField(
        label="New password",
        max_length=1_024,
        strip=False,
        help_text="This ends all sessions of the user.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    sign_in = forms.ChoiceField(
        label="Sign-in method",
        choices=[choice for choice in SignIn.choices if choice[0] != SignIn.SSO],
        widget=forms.RadioSelect,
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user.sign_in != SignIn.SSO:
            del self.fields["sign_in"]
            return
        self.fields[
            "sign_in"
        ].help_text = f"{user.username} signs in through single sign-on. The password is a second way to sign in, or replaces it."


class OffboardingForm(forms.Form):
    """What happens to the service accounts of a user who is disabled or deleted. Without service accounts, it has no fields."""

    fate = forms.ChoiceField(label="Service accounts of this user", widget=forms.RadioSelect)
    transfer_to = forms.CharField(
        label="New owner",
        max_length=254,
        required=False,
        help_text="Required to transfer the service accounts: the username of the new owner.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, stay_label: str, has_accounts: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_accounts:
            self.fields.clear()
            return
        self.fields["fate"].choices = [  # type: ignore[attr-defined]
            (AccountAction.TRANSFER, "Transfer them to another user; they stay active"),
            (AccountAction.REVOKE, "Disable them and revoke their tokens permanently"),
            (AccountAction.STAY, stay_label),
        ]

    def clean_transfer_to(self) -> User | None:
        """Return the new owner, if the service accounts are transferred."""
        name = self.cleaned_data["transfer_to"].strip()
        if self.cleaned_data.get("fate") != AccountAction.TRANSFER or not name:
            return None
        try:
            return users.find_user(name)
        except NotFound as error:
            raise forms.ValidationError(error.message) from None


class DeletionForm(OffboardingForm):
    """What happens to the service accounts of a deleted user, and to the name, if single sign-on can send it again."""

    def __init__(self, *args: Any, can_return: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if can_return:
            choices = (
                ("true", "Block the name: single sign-on refuses the user, until you unblock the name"),
                ("false", "Do not block the name: SkyAuth creates the user again at their next request"),
            )
            self.fields["block"] = forms.ChoiceField(label="Single sign-on", choices=choices, widget=forms.RadioSelect)


class PasswordChangeForm(forms.Form):
    """The signed-in user's own password."""

    current_password = forms.CharField(
        label="Current password",
        max_length=1_024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    password = forms.CharField(
        label="New password",
        max_length=1_024,
        strip=False,
        help_text="You stay signed in here. All your other sessions end.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
