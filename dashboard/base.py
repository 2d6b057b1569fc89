"""The base classes of all dashboard pages: permission checks, rendering, redirects, and errors of services."""

from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import View

from authn.requests import principal_of
from core.errors import Forbidden, NotFound, ServiceError
from core.forms import add_service_error, require_confirmation
from core.redirects import safe_next_path
from dashboard.navigation import links
from rbac.denials import record_denial
from rbac.permissions import Permission
from rbac.principals import Principal

HOME: Final = "/skyauth/"


@method_decorator((never_cache, sensitive_post_parameters()), name="dispatch")
class Page(View):
    """A page of the dashboard. It requires one of the permissions in `needs`; with none, any signed-in user can open it.

    `section` is the navigation entry that is marked as current. A ServiceError that a page does not catch becomes a page of its
    own (Forbidden: 403, NotFound: 404) or a message on the page that the form was on.
    """

    needs: ClassVar[tuple[Permission, ...]] = ()
    section: ClassVar[str] = ""
    template: ClassVar[str] = ""

    @property
    def principal(self) -> Principal:
        """The authenticated user; `refuse` answers everybody else (see urls.py)."""
        return principal_of(self.request)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Check the permissions, and render the errors that the page does not catch."""
        principal = principal_of(request)
        try:
            if self.needs and not any(principal.holds(permission) for permission in self.needs):
                needed = " or ".join(self.needs)
                raise Forbidden(f"This requires the permission {needed}. Your role {principal.role} does not include it.")
            return super().dispatch(request, *args, **kwargs)
        except Forbidden as error:
            return self.forbid(error)
        except NotFound as error:
            return self._error_page(404, "Not found", error)
        except ServiceError as error:
            return self.render_error(error)

    def render(self, template: str = "", status: int = 200, **context: Any) -> HttpResponse:
        """Return the page, with the context that every page needs."""
        shared = {
            "principal": self.principal,
            "links": links(self.principal),
            "section": self.section,
            "is_partial": self.is_partial,
            "version": settings.VERSION,
        }
        return render(self.request, template or self.template, {**shared, **context}, status=status)

    @property
    def is_partial(self) -> bool:
        """Whether htmx sent the request and replaces only a part of the current page with the response."""
        return self.request.headers.get("HX-Request") == "true" and self.request.headers.get("HX-Boosted") != "true"

    def redirect_to(self, url: str, message: str = "") -> HttpResponse:
        """Return a redirect; the next page shows `message`. It is stored in between, so it must not contain a secret."""
        if message:
            messages.success(self.request, message)
        if self.is_partial:
            return HttpResponse(headers={"HX-Redirect": url})
        return HttpResponseRedirect(url)

    def return_path(self, default: str) -> str:
        """Return the dashboard page in the form field `back`, or `default` where that is missing or leads elsewhere."""
        path = safe_next_path(self.request.POST.get("back", "") or self.request.GET.get("back", ""))
        return path if path.startswith(HOME) else default

    def render_error(self, error: ServiceError) -> HttpResponse:
        """Return the response to an error of a service that no form on the page shows."""
        if self.is_partial:  # htmx puts a response that is not a success into the page's messages (see its meta tag)
            return self.render("dashboard/parts/error.html", 409, error=error)
        if self.request.method == "GET":  # a redirect to the same page would never end
            return self._error_page(409, "This page cannot be displayed", error)
        messages.error(self.request, error.message)
        return self.redirect_to(self.return_path(self.page_path()))

    def forbid(self, error: Forbidden) -> HttpResponse:
        """Record the denial, and return the 403."""
        record_denial(self.principal, f"{self.request.method} {self.request.path}", error.message)
        return self._error_page(403, "Not allowed", error)

    def page_path(self) -> str:
        """Return the page that shows an error when the form names no page to return to."""
        return self.request.path if hasattr(self, "get") else HOME

    def _error_page(self, status: int, title: str, error: ServiceError) -> HttpResponse:
        if self.is_partial:
            return self.render("dashboard/parts/error.html", status, error=error)
        return self.render("dashboard/error.html", status, title=title, error=error, forbidden=status == 403)


class FormPage(Page):
    """A page with a form: GET renders it, POST calls a service. A form with errors is rendered again, with status 422.

    Subclasses set `form` or override `make_form`, and implement `perform`.
    """

    form: ClassVar[type[Any]]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the page with an unbound form."""
        return self.render_form(self.make_form())

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Perform the action of the form, or return the form with its errors."""
        form = self.make_form(request.POST)
        if form.is_valid():
            try:
                if require_confirmation(form, self.confirmation(form.cleaned_data)):
                    return self.perform(form.cleaned_data)
            except (Forbidden, NotFound):
                raise
            except ServiceError as error:
                add_service_error(form, error)
        return self.render_form(form, status=422)

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, bound to `data` if there is any."""
        return cast(BaseForm, self.form(data))

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page with this form."""
        return self.render(status=status, form=form)

    def confirmation(self, values: dict[str, Any]) -> str:  # noqa: ARG002 - for those that have one
        """Return the statement that the user confirms before `perform`, or "" for none. Raises ServiceError."""
        return ""

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Call the service with the form's cleaned values, and return the redirect. Raises ServiceError."""
        raise NotImplementedError


@never_cache
def refuse(request: HttpRequest) -> HttpResponse:
    """Return the response to a sign-in method that does not open the dashboard: a redirect to the sign-in page, or 403."""
    if not principal_of(request).is_authenticated:
        return _redirect_to_sign_in(request)
    page = Page()
    page.setup(request)
    return page.forbid(
        Forbidden("The dashboard is for users who sign in with a browser. Tokens and CLI sessions cannot open it.")
    )


def _redirect_to_sign_in(request: HttpRequest) -> HttpResponse:
    """Return a redirect to the sign-in page. Only a GET is repeated afterwards, so only a GET gets a return URL (`next`).

    After another method, the page says that nothing was saved (`unsaved`).
    """
    query = QueryDict(mutable=True)
    sign_in = reverse("dashboard:sign-in")
    if request.method != "GET":
        sign_in += "?unsaved=1"
    elif next_path := safe_next_path(request.get_full_path()):
        query["next"] = next_path
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(status=401, headers={"HX-Redirect": sign_in})
    return HttpResponseRedirect(sign_in + (f"?{query.urlencode()}" if query else ""))
