"""The Django admin as SkyAuth serves it: its texts, and SkyAuth's own pages to sign in, sign out and change a password."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.text import capfirst
from django.views.decorators.http import require_POST

from authn.requests import principal_of
from authn.view_access import UrlPatterns, all_belong_to, belongs_to
from core.problems import problem
from core.redirects import safe_next_path
from core.responses import respond, sign_in_first
from rbac.auth_methods import Interface, opens
from rbac.denials import record_denial
from rbac.permissions import Permission

ServedView = Callable[..., HttpResponseBase]


class SkyAuthAdminSite(admin.AdminSite):
    """The admin site. Everybody signs in at SkyAuth's sign-in page, and a user without the permission gets SkyAuth's 403."""

    site_title = "SkyAuth"
    site_header = "SkyAuth administration"
    index_title = "Administration"
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

    def admin_view(self, view: ServedView, cacheable: bool = False) -> ServedView:  # type: ignore[override]
        """Return the view for users who are allowed to open the admin; `refuse` answers all others."""
        inner: ServedView = super().admin_view(view, cacheable)

        @wraps(inner)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return inner(request, *args, **kwargs) if self.has_permission(request) else self.refuse(request)

        return checked

    def refuse(self, request: HttpRequest) -> HttpResponse:
        """Return the redirect to the sign-in page for an anonymous caller, and else the 403, which is recorded."""
        principal = principal_of(request)
        if not principal.is_authenticated:
            return sign_in_first(request)
        reason = "The Django admin is for users who sign in with a browser. Tokens and CLI sessions cannot open it."
        if opens(principal.method, Interface.DJANGO_ADMIN):
            needed = Permission.ADMIN_SITE_USE
            reason = f"The Django admin requires the permission {needed}. Your role {principal.role} does not include it."
        record_denial(principal, f"{request.method} {request.path}", reason)
        return respond(problem(403, "not-permitted", reason))

    @belongs_to(Interface.PUBLIC)
    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Return the redirect to `next`, or to the sign-in page; bookmarks of Django's login page lead here."""
        target = safe_next_path(request.GET.get("next", "")) or reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return HttpResponseRedirect(target)
        if principal_of(request).is_authenticated:
            return self.refuse(request)
        return sign_in_first(request, target)

    @method_decorator(require_POST)
    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]
        """End the session, and redirect to the sign-in page."""
        logout(request)
        return HttpResponseRedirect(reverse("dashboard:sign-in"))

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]
        """Return the redirect to the dashboard's page, which changes the user's own password."""
        return HttpResponseRedirect(reverse("dashboard:own-password"))
