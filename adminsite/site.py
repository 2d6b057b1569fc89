"""The Django admin as SkyAuth serves it: its texts, and a password page that calls the service."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.text import capfirst

from accounts.models import User
from authn import own_password
from authn.requests import current_session, principal_of
from authn.view_access import UrlPatterns, all_belong_to, belongs_to
from core.errors import ServiceError
from rbac.auth_methods import Interface
from rbac.principals import Principal


class OwnPasswordAdminForm(AdminPasswordChangeForm):
    """The signed-in user's password: the current one, and the new one twice."""

    def __init__(self, *, actor: Principal, keep_session: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._actor, self._keep_session = actor, keep_session

    def clean_old_password(self) -> str:
        """Return the value as typed; the service checks it."""
        return str(self.cleaned_data["old_password"])

    def validate_password_for_user(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the service validates the password."""

    def _post_clean(self) -> None:
        if self.errors:
            return
        current, new = self.cleaned_data["old_password"], self.cleaned_data["new_password1"]
        try:
            self.user = own_password.change_own_password(
                actor=self._actor, current=current, password=new, keep_session=self._keep_session
            )
        except ServiceError as error:
            field = {"current_password": "old_password", "password": "new_password1"}.get(next(iter(error.fields), ""))
            self.add_error(field, error.message)

    def save(self, commit: bool = True) -> User:
        """Return the user, whose new password the service has stored."""
        return self.user


class OwnPasswordView(PasswordChangeView):
    """Changes the user's own password. This session stays signed in; all other sessions are revoked."""

    form_class = OwnPasswordAdminForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "actor": principal_of(self.request), "keep_session": current_session(self.request)}


class AdminLoginForm(AdminAuthenticationForm):
    """A user name and a password. The error is the same for every cause (promise 19)."""

    error_messages = dict.fromkeys(
        ("invalid_login", "inactive"),
        "The user name or the password is wrong, or this user is not allowed to open the administration.",
    )


class SkyAuthAdminSite(admin.AdminSite):
    """The admin site."""

    site_title = "SkyAuth"
    site_header = "SkyAuth administration"
    index_title = "Administration"
    login_form = AdminLoginForm
    site_url = "/skyauth/"  # the dashboard

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """Return Django's list, with each model under the name that its admin page has."""
        apps: list[dict[str, Any]] = super().get_app_list(request, app_label)
        for app in apps:
            for entry in app["models"]:
                entry["name"] = capfirst(self._registry[entry["model"]].opts.verbose_name_plural)
            app["models"].sort(key=lambda entry: entry["name"])
        return apps

    def get_urls(self) -> UrlPatterns:
        return all_belong_to(Interface.DJANGO_ADMIN, super().get_urls(), self.refuse)

    def refuse(self, request: HttpRequest) -> HttpResponseBase:
        """Return the redirect to the login page, which Django returns for any `request.user` that is not staff."""
        return self.admin_view(self.index)(request)

    @belongs_to(Interface.PUBLIC)
    def login(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().login(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Return the page that changes the user's own password, or change it."""
        request.current_app = self.name
        return OwnPasswordView.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )(request)
