"""Users in the Django admin."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.password_validation import password_validators_help_text_html
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from accounts import grants
from accounts.models import SignIn, User
from accounts.services import deleted_users, offboarding, role_defaults, users
from accounts.services.sign_in_warnings import warning_about
from adminsite.base import ServiceForm
from adminsite.steps import ActionStep, RoleHolderAdmin, SetRoleStep
from authn.requests import principal_of
from core.errors import Invalid
from core.forms import NewPasswordField, NewPasswordInput
from rbac.models import Role
from rbac.principals import Principal

NEW_PASSWORD = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"})  # never echoes its value


PASSWORD_METHODS = [choice for choice in SignIn.choices if choice[0] != SignIn.SSO]


class NewUserAdminForm(ServiceForm):
    """The form that creates a user."""

    password = NewPasswordField(
        required=False,
        strip=False,
        widget=NewPasswordInput(attrs=NEW_PASSWORD.attrs),
        help_text="Leave it empty for a user who signs in through single sign-on. The user name is then the e-mail address.",
    )
    role = forms.ModelChoiceField(Role.objects.all(), required=False)
    sign_in = forms.ChoiceField(choices=[("", "password if one is set, else single sign-on"), *SignIn.choices], required=False)

    class Meta:
        model = User
        fields = ("username", "email", "display_name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            label = f"{role_defaults.least_role(self.actor).name} (default)"
        except Invalid:
            label = "choose a role"
        self.fields["role"].empty_label = label  # type: ignore[attr-defined]

    def confirmation(self) -> str:
        role = self.cleaned_data["role"]
        return grants.to_user(self.actor, self.cleaned_data["username"], role) if role else ""

    def write(self) -> User:
        values = self.cleaned_data
        return users.create_user(
            actor=self.actor,
            username=values["username"],
            password=values["password"] or None,
            role=values["role"].name if values["role"] else None,
            email=values["email"] or None,
            display_name=values["display_name"],
            sign_in=values["sign_in"] or None,
        )


class UserAdminForm(ServiceForm):
    """The form that changes a user. The password has a page of its own."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label=None)

    class Meta:
        model = User
        fields = ("email", "display_name", "sign_in", "is_active")

    def confirmation(self) -> str:
        return grants.to_user(self.actor, self.instance.username, self.cleaned_data["role"], self.instance.role)

    def write(self) -> User:
        """Store the values that were changed, all of them or none."""
        user: User = self.instance
        if profile := self.changed("email", "display_name", "sign_in"):
            user = users.update_profile(actor=self.actor, user=user, **profile)
        if role := self.changed("role"):
            user = users.set_role(actor=self.actor, user=user, role=role["role"].name)
        if active := self.changed("is_active"):
            user = users.set_active(actor=self.actor, user=user, active=active["is_active"])
        return user


class SetUserRoleStep(SetRoleStep):
    """Sets one role for all selected users."""

    @staticmethod
    def confirmation(actor: Principal, row: User, role: Role) -> str:
        return grants.to_user(actor, row.username, role, row.role)

    @staticmethod
    def set_role(actor: Principal, row: User, role: str) -> None:
        users.set_role(actor=actor, user=row, role=role)


class SetPasswordStep(ActionStep):
    """Sets the password of another user."""

    name = "set-password"
    title = "Set password"
    explanation = (
        "The user can then sign in with this password. All sessions of the user are revoked. For a user of single sign-on, "
        "the password is a second way to sign in, so choose the sign-in method."
    )
    result = "Password set"

    class form(forms.Form):  # noqa: N801 - the attribute `form`
        password = forms.CharField(
            strip=False, widget=NEW_PASSWORD, help_text=password_validators_help_text_html, label="New password"
        )
        sign_in = forms.ChoiceField(choices=[("", "unchanged"), *PASSWORD_METHODS], required=False, label="Sign-in method")

    @classmethod
    def perform(cls, actor: Principal, rows: Sequence[User], values: dict[str, Any]) -> Sequence[Any]:
        for user in rows:
            users.set_password(actor=actor, user=user, password=values["password"], sign_in=values["sign_in"] or None)
        return ()


@admin.register(User)
class UserAdmin(RoleHolderAdmin):
    form = UserAdminForm
    add_form = NewUserAdminForm
    role_step = SetUserRoleStep
    steps = (SetPasswordStep, SetUserRoleStep)
    list_display = ("username", "display_name", "role", "sign_in", "is_active", "last_seen_at", "created_at")
    list_filter = ("role", "sign_in", "is_active", "role_source")
    list_select_related = ("role",)
    search_fields = ("username", "display_name", "email", "uid")
    readonly_fields = ("username", "uid", "role_source", "last_seen_at", "created_at", "owned")
    secret_lookups = ("password", "sessions")
    delete_confirmation_template = "admin/skyauth/delete_user.html"
    delete_selected_confirmation_template = "admin/skyauth/delete_selected_users.html"
    actions = ("set_role", "disable", "enable")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Return the fields that cannot be changed; for a new user, none."""
        return self.readonly_fields if obj is not None else ()

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Return the fields of a new user, or those of an existing one."""
        if obj is None:
            return [(None, {"fields": ("username", "password", "role", "sign_in", "email", "display_name")})]
        owned = ("owned",) if request.user.has_perm("accounts.view_serviceaccount") else ()
        return [
            (None, {"fields": ("username", "uid", "role", "role_source", "is_active", "sign_in", "email", "display_name")}),
            ("Activity", {"fields": ("last_seen_at", "created_at")}),
            *([("Service accounts", {"fields": owned})] if owned else []),
        ]

    @method_decorator(sensitive_post_parameters("password"))
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        """Hide the password from error reports."""
        return super().add_view(request, form_url, extra_context)

    def step_view(self, request: HttpRequest, *, step: type[ActionStep]) -> HttpResponseBase:
        """Redirect users who set their own password to the page that requires the current one and keeps their session."""
        rows = [pk for query in (request.GET, request.POST) for pk in query.get("rows", "").split(",")]
        if step is SetPasswordStep and str(principal_of(request).pk) in {pk.lstrip("0") for pk in rows}:
            return HttpResponseRedirect(reverse("dashboard:own-password"))
        return super().step_view(request, step=step)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Warn about a user who cannot sign in; the form has called the service."""
        super().save_model(request, obj, form, change)
        if warning := warning_about(form.instance):
            self.message_user(request, warning, messages.WARNING)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete the user, and block the name at single sign-on if the confirmation says so."""
        block = True if request.POST.get("block") == "true" and "@" in obj.username else None
        offboarding.delete_user(actor=principal_of(request), user=obj, block=block)

    def consequences(self, row: User) -> list[Any]:
        """Return the user, the service accounts that lose their owner, and what happens at the next single sign-on."""
        effects = [f"The service account {account.name} is kept, without an owner." for account in row.service_accounts.all()]
        if sentence := deleted_users.consequence(row):
            effects.append(sentence)
        return [f"The user {row.username} is deleted.", *([effects] if effects else [])]

    @admin.display(description="service accounts")
    def owned(self, user: User) -> str:
        """Return a table of the user's service accounts."""
        accounts = user.service_accounts.select_related("role")
        return render_to_string("admin/skyauth/owned.html", {"accounts": accounts})

    def write_active(self, actor: Principal, row: User, active: bool) -> User:
        return users.set_active(actor=actor, user=row, active=active)
