"""Signing in and out in a browser."""

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, RedirectURLMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from core.redirects import safe_next_path
from rbac.principals import Method


class StaysHere(RedirectURLMixin):
    """Goes on to a path of this very host alone (promise 41), and without one to the pages for people."""

    def get_redirect_url(self) -> str:  # type: ignore[override] # Django's stubs know a parameter that it does not have
        """Return where `next` leads, or "" when it is not surely a path of this host."""
        return safe_next_path(super().get_redirect_url())

    def get_default_redirect_url(self) -> str:
        """Return Home."""
        return reverse("dashboard:home")


class Form(AuthenticationForm):
    """A name and a password; whatever is wrong, and also when one must wait, the answer is the same (promise 19)."""

    error_messages = dict.fromkeys(
        ("invalid_login", "inactive"),
        "This name and password do not sign you in. After several wrong ones you must wait a while.",
    )


class SignIn(StaysHere, LoginView):
    """Signs in with a name and a password; tells those who have signed in who they are."""

    form_class = Form
    template_name = "dashboard/sign_in.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form. Who has signed in goes on to `next`, or sees who they are."""
        onward = self.get_redirect_url()
        if request.user.is_authenticated and onward:
            return redirect(onward)
        return super().get(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Sign in, and end the session that was there before, whose ever it was (promise 40)."""
        self.request.session.flush()
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add who has signed in, and whether they can sign out here."""
        principal = self.request.principal  # type: ignore[attr-defined]
        by_session = principal.method is Method.SESSION
        return super().get_context_data(principal=principal, by_session=by_session, **kwargs)


class SignOut(StaysHere, LogoutView):
    """Ends the session, by POST alone, and goes on to the sign-in page."""

    http_method_names = ["post", "options"]

    def get_default_redirect_url(self) -> str:
        """Return the sign-in page."""
        return reverse("dashboard:sign-in")
