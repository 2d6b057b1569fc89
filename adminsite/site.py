"""The Django admin as SkyAuth serves it: its name, and a password page that goes through the service."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse

from accounts.models import User
from authn import own_password
from authn.interfaces import UrlPatterns, all_belong_to, belongs_to
from authn.requests import current_session, principal_of
from core.errors import ServiceError
from rbac.auth_methods import Interface
from rbac.principals import Principal


class OwnPasswordForm(AdminPasswordChangeForm):
    """One's own password: the current one, and the new one twice."""

    def __init__(self, *, actor: Principal, keep_session: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._actor, self._keep_session = actor, keep_session

    def clean_old_password(self) -> str:
        """Return it as typed; the service looks whether it is right."""
        return str(self.cleaned_data["old_password"])

    def validate_password_for_user(self, *args: Any, **kwargs: Any) -> None:
        """Leave the judgement to the service."""

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
        """Return the user with the new password, which the service has stored."""
        return self.user


class OwnPassword(PasswordChangeView):
    """Changes one's own password and goes on with this session; the others end."""

    form_class = OwnPasswordForm

    def get_form_kwargs(self) -> dict[str, Any]:
        """Add the actor."""
        return {**super().get_form_kwargs(), "actor": principal_of(self.request), "keep_session": current_session(self.request)}


class LoginForm(AdminAuthenticationForm):
    """A name and a password; whatever is wrong, the answer is the same."""

    error_messages = dict.fromkeys(("invalid_login", "inactive"), "This user name and password do not open this site.")


class Site(admin.AdminSite):
    """The admin site."""

    site_header = site_title = "SkyAuth"
    index_title = "Administration"
    login_form = LoginForm
    site_url = "/skyauth/"  # the pages for people

    def get_urls(self) -> UrlPatterns:
        return all_belong_to(Interface.DJANGO_ADMIN, super().get_urls(), self.refuse)

    def refuse(self, request: HttpRequest) -> HttpResponseBase:
        """Return the way to the sign-in page, as for any `request.user` who is not staff; here it is anonymous."""
        return self.admin_view(self.index)(request)

    @belongs_to(Interface.PUBLIC)
    def login(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().login(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show or do the change of one's own password."""
        request.current_app = self.name
        return OwnPassword.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )(request)
