"""Sign-in and sign-out in a browser."""

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, RedirectURLMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from authn.requests import principal_of
from core.redirects import safe_next_path
from rbac.principals import Method


class LocalRedirectMixin(RedirectURLMixin):
    """Redirects only to paths of this host (promise 41), and to Home without a `next`."""

    def get_redirect_url(self) -> str:  # type: ignore[override] # Django's stubs know a parameter that it does not have
        """Return `next`, or "" if it is not certainly a path of this host."""
        return safe_next_path(super().get_redirect_url())

    def get_default_redirect_url(self) -> str:
        """Return Home."""
        return reverse("dashboard:home")


class SignInForm(AuthenticationForm):
    """Username and password. The answer is the same for every error, also during a lockout (promise 19)."""

    error_messages = dict.fromkeys(
        ("invalid_login", "inactive"),
        "Incorrect username or password. After several failed attempts, sign-in is blocked for a while.",
    )


class SignInPage(LocalRedirectMixin, LoginView):
    """Signs in with username and password; shows users who have signed in their name and role."""

    form_class = SignInForm
    template_name = "dashboard/sign_in.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Redirect a user who has signed in to `next`; otherwise return the page."""
        next_path = self.get_redirect_url()
        if request.user.is_authenticated and next_path:
            return redirect(next_path)
        return super().get(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Sign in, after ending any earlier session of the browser, of any user (promise 40)."""
        self.request.session.flush()
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the principal, whether there is a session to sign out of, and whether a form was sent after it ended."""
        principal = principal_of(self.request)
        by_session = principal.method is Method.SESSION
        unsaved = "unsaved" in self.request.GET
        return super().get_context_data(principal=principal, by_session=by_session, unsaved=unsaved, **kwargs)


class SignOutView(LocalRedirectMixin, LogoutView):
    """Ends the session, by POST only, and redirects to the sign-in page."""

    http_method_names = ["post", "options"]

    def get_default_redirect_url(self) -> str:
        """Return the sign-in page."""
        return reverse("dashboard:sign-in")
