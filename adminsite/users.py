"""Users in the Django admin."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.password_validation import password_validators_help_text_html
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from accounts.models import SignIn, User
from accounts.services import offboarding, users
from adminsite.base import ServiceForm
from adminsite.steps import Step, SteppedAdmin
from rbac.models import Role
from rbac.principals import Principal

NEW_PASSWORD = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"})  # never echoes its value


class NewUserForm(ServiceForm):
    """A user who does not exist yet."""

    password = forms.CharField(
        required=False,
        strip=False,
        widget=NEW_PASSWORD,
        help_text="Without one, the user comes by single sign-on, and the user name is their e-mail address.",
    )
    role = forms.ModelChoiceField(Role.objects.all(), required=False)
    sign_in = forms.ChoiceField(choices=[("", "by password if one is given"), *SignIn.choices], required=False)

    class Meta:
        model = User
        fields = ("username", "email", "display_name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].empty_label = f"the default role ({settings.RBAC_DEFAULT_ROLE})"  # type: ignore[attr-defined]

    def write(self) -> User:
        """Create the user."""
        given = self.cleaned_data
        return users.create_user(
            actor=self.actor,
            username=given["username"],
            password=given["password"] or None,
            role=given["role"].name if given["role"] else None,
            email=given["email"] or None,
            display_name=given["display_name"],
            sign_in=given["sign_in"] or None,
        )


class UserForm(ServiceForm):
    """A user; the password has a page of its own."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label=None)

    class Meta:
        model = User
        fields = ("email", "display_name", "sign_in", "is_active")

    def write(self) -> User:
        """Change what the person changed, all of it or nothing."""
        user: User = self.instance
        if profile := self.changed("email", "display_name", "sign_in"):
            user = users.update_profile(actor=self.actor, user=user, **profile)
        if role := self.changed("role"):
            user = users.set_role(actor=self.actor, user=user, role=role["role"].name)
        if active := self.changed("is_active"):
            user = users.set_active(actor=self.actor, user=user, active=active["is_active"])
        return user


class SetRole(Step):
    """Gives a role to each of the users."""

    name = "set-role"
    title = "Set role"
    did = "Role set"

    class form(forms.Form):  # noqa: N801 - it is the attribute that matters
        role = forms.ModelChoiceField(Role.objects.all(), empty_label="choose one")

    @staticmethod
    def perform(actor: Principal, rows: Sequence[User], given: dict[str, Any]) -> Sequence[Any]:
        """Set it."""
        for user in rows:
            users.set_role(actor=actor, user=user, role=given["role"].name)
        return ()


class SetPassword(Step):
    """Gives somebody else a password."""

    name = "set-password"
    title = "Set password"
    explanation = "It opens sign-in by password, and ends all of the user's sessions."
    did = "Password set"

    class form(forms.Form):  # noqa: N801 - it is the attribute that matters
        password = forms.CharField(
            strip=False, widget=NEW_PASSWORD, help_text=password_validators_help_text_html, label="New password"
        )

    @staticmethod
    def perform(actor: Principal, rows: Sequence[User], given: dict[str, Any]) -> Sequence[Any]:
        """Set it."""
        for user in rows:
            users.set_password(actor=actor, user=user, password=given["password"])
        return ()


@admin.register(User)
class UserAdmin(SteppedAdmin):
    """Users."""

    form = UserForm
    add_form = NewUserForm
    steps = (SetPassword, SetRole)
    list_display = ("username", "display_name", "role", "sign_in", "is_active", "last_seen_at", "created_at")
    list_filter = ("role", "sign_in", "is_active", "role_source")
    list_select_related = ("role",)
    search_fields = ("username", "display_name", "email", "uid")
    readonly_fields = ("username", "uid", "role_source", "last_seen_at", "created_at", "owned")
    secret_lookups = ("password",)
    actions = ("set_role", "disable", "enable")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Return the fields that never change; the name is given once."""
        return self.readonly_fields if obj is not None else ()

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Return what is typed at first, or what may be seen and changed later."""
        if obj is None:
            return [(None, {"fields": ("username", "password", "role", "sign_in", "email", "display_name")})]
        owned = ("owned",) if request.user.has_perm("accounts.view_serviceaccount") else ()
        return [
            (None, {"fields": ("username", "uid", "role", "role_source", "is_active", "sign_in", "email", "display_name")}),
            ("Seen", {"fields": ("last_seen_at", "created_at")}),
            *([("Service accounts", {"fields": owned})] if owned else []),
        ]

    @method_decorator(sensitive_post_parameters("password"))
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        """Keep the password out of error reports."""
        return super().add_view(request, form_url, extra_context)

    def step_view(self, request: HttpRequest, *, step: type[Step]) -> HttpResponseBase:
        """Send who wants to set their own password to the page that asks for the current one, and keeps the session."""
        own = str(request.principal.pk)  # type: ignore[attr-defined]
        if step is SetPassword and own in {request.GET.get("rows"), request.POST.get("rows")}:
            return HttpResponseRedirect(reverse("admin:password_change", current_app=self.admin_site.name))
        return super().step_view(request, step=step)

    def remove(self, actor: Principal, row: User) -> None:
        """Delete a user."""
        offboarding.delete_user(actor=actor, user=row)

    def consequences(self, row: User) -> list[Any]:
        """Return the user, and what becomes of the service accounts."""
        stay = [f"The service account {account.name} stays, without an owner." for account in row.service_accounts.all()]
        return [f"The user {row.username} is deleted.", *([stay] if stay else [])]

    @admin.display(description="owns")
    def owned(self, user: User) -> str:
        """Return a table of the user's service accounts."""
        accounts = user.service_accounts.select_related("role")
        return render_to_string("admin/skyauth/owned.html", {"accounts": accounts})

    @admin.action(description="Set role…", permissions=["manage"])
    def set_role(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase:
        """Ask for the role."""
        return self.ask(request, SetRole, queryset)

    @admin.action(description="Disable", permissions=["manage"])
    def disable(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Disable each; sessions and service accounts stop at once."""
        self._set_active(request, queryset, False)

    @admin.action(description="Enable", permissions=["manage"])
    def enable(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Enable each."""
        self._set_active(request, queryset, True)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[User], active: bool) -> None:
        rows = [users.set_active(actor=request.principal, user=user, active=active) for user in queryset]  # type: ignore[attr-defined]
        self.done(request, "Enabled" if active else "Disabled", rows)
