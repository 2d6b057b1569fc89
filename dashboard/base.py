"""What all pages of the dashboard share: who may see them, and how what a service refuses is told."""

from typing import Any, ClassVar, Final, cast

from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import View

from authn.middleware import principal_of
from core.errors import Forbidden, NotFound, ServiceError
from core.forms import add_service_error
from core.redirects import safe_next_path
from dashboard.navigation import links
from rbac.denials import record_denial
from rbac.permissions import Permission
from rbac.principals import Kind, Method, Principal

HOME: Final = "/skyauth/"
# How a person comes in a browser. A command line that they signed in (`Method.CLI`) was given the protected API alone.
_OPENS: Final = frozenset({Method.SESSION, Method.BASIC, Method.PROXY})


@method_decorator((never_cache, sensitive_post_parameters()), name="dispatch")
class Page(View):
    """A page for people. It needs any one of `needs`; with none of them named, to be somebody is enough.

    `section` is the entry of the navigation that it belongs to. A ServiceError that nothing on the page catches is told in
    words: Forbidden and NotFound as a page of their own, every other as a message on the page that it came from.
    """

    needs: ClassVar[tuple[Permission, ...]] = ()
    section: ClassVar[str] = ""
    template: ClassVar[str] = ""

    @property
    def principal(self) -> Principal:
        """Who looks at the page; `dispatch` has seen to it that it is a person."""
        return principal_of(self.request)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Let a person in who may see this, and say to everybody else what is the matter."""
        principal = principal_of(request)
        if not principal.is_authenticated:
            return _to_sign_in(request)
        try:
            if principal.kind is not Kind.USER or principal.method not in _OPENS:
                raise Forbidden("These pages are for people in a browser. Sign in here with your own name.")
            if self.needs and not any(principal.holds(permission) for permission in self.needs):
                needed = " or ".join(self.needs)
                raise Forbidden(f"This needs the permission {needed}, which your role {principal.role} does not hold.")
            return super().dispatch(request, *args, **kwargs)
        except Forbidden as error:
            record_denial(principal, f"{request.method} {request.path}", error.message)
            return self._error_page(403, "Not allowed", error)
        except NotFound as error:
            return self._error_page(404, "Not found", error)
        except ServiceError as error:
            return self.render_error(error)

    def render(self, template: str = "", status: int = 200, **context: Any) -> HttpResponse:
        """Return the page with what every page needs to know."""
        shared = {
            "principal": self.principal,
            "links": links(self.principal),
            "section": self.section,
            "is_partial": self.is_partial,
        }
        return render(self.request, template or self.template, {**shared, **context}, status=status)

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks, which puts a part of the answer into the page that is shown."""
        return self.request.headers.get("HX-Request") == "true" and self.request.headers.get("HX-Boosted") != "true"

    def redirect_to(self, where: str, done: str = "") -> HttpResponse:
        """Return the way to another page, after something was done; `done` is told there. Nothing secret may be in it."""
        if done:
            messages.success(self.request, done)
        if self.is_partial:
            return HttpResponse(headers={"HX-Redirect": where})
        return HttpResponseRedirect(where)

    def return_path(self, otherwise: str) -> str:
        """Return the page of ours that the form was sent from, as its field `back` says, or another one."""
        path = safe_next_path(self.request.POST.get("back", "") or self.request.GET.get("back", ""))
        return path if path.startswith(HOME) else otherwise

    def render_error(self, error: ServiceError) -> HttpResponse:
        """Return the answer to something that a service refused and that no form on the page can show."""
        if self.is_partial:  # htmx puts what is no success among the messages of the page (its meta tag says so)
            return self.render("dashboard/parts/refused.html", 409, error=error)
        if self.request.method == "GET":  # the way back would lead here again
            return self._error_page(409, "This cannot be shown", error)
        messages.error(self.request, error.message)
        return self.redirect_to(self.return_path(self.page_path()))

    def page_path(self) -> str:
        """Return where a refusal is shown that came from nowhere in particular."""
        return self.request.path if hasattr(self, "get") else HOME

    def _error_page(self, status: int, title: str, error: ServiceError) -> HttpResponse:
        if self.is_partial:
            return self.render("dashboard/parts/refused.html", status, error=error)
        return self.render("dashboard/refused.html", status, title=title, error=error, forbidden=status == 403)


class FormPage(Page):
    """A page with a form that is done by a service: shown by GET, done by POST, shown again with what was refused.

    Needs `form`, `perform` and where it goes on from there.
    """

    form: ClassVar[type[Any]]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show the form."""
        return self.render_form(self.make_form())

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Do what the form asks for."""
        form = self.make_form(request.POST)
        if form.is_valid():
            try:
                return self.perform(form.cleaned_data)
            except (Forbidden, NotFound):
                raise
            except ServiceError as error:
                add_service_error(form, error)
        return self.render_form(form, status=422)

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, empty or with what was sent."""
        return cast(BaseForm, self.form(data))

    def render_form(self, form: BaseForm, status: int = 200) -> HttpResponse:
        """Return the page with the form."""
        return self.render(status=status, form=form)

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Do it through a service, and return where it goes on. Raises ServiceError."""
        raise NotImplementedError


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """Return the way to the sign-in page and from there back, for GET: nothing else can be repeated."""
    query = QueryDict(mutable=True)
    if back := safe_next_path(request.get_full_path()) if request.method == "GET" else "":
        query["next"] = back
    where = reverse("dashboard:sign-in") + (f"?{query.urlencode()}" if query else "")
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(status=401, headers={"HX-Redirect": reverse("dashboard:sign-in")})
    return HttpResponseRedirect(where)
