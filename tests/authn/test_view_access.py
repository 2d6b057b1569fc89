"""Which sign-in method opens which interface: the table, and what a real server answers for each of its cells."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import ServiceAccount, User
from audit.models import Entry
from authn import view_access
from authn.middleware import PrincipalMiddleware
from authn.sessions import begin_cli_session
from rbac import auth_methods
from rbac.auth_methods import OPENED_BY, Interface
from rbac.principals import ANONYMOUS, Kind, Method, Principal
from tests.factories import principal
from tests.http_client import Reply, ask
from tests.servers import SkyAuth

CHALLENGE = "a" * 43
METHODS = [method for method in Method if method is not Method.COMMAND]
TARGET = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "api.example.com"), ("X-Forwarded-Uri", "/things")]


@dataclass(frozen=True)
class Page:
    """A path of an interface, and the statuses of an admin, of an anonymous caller, and of any other method that is refused."""

    interface: Interface
    path: str
    opened: int
    anonymous: int
    refused: int
    method: str = "GET"
    shared: int | None = None

    def status(self, method: Method) -> int:
        if auth_methods.opens(method, self.interface):
            return self.opened if method is not Method.NONE else self.anonymous
        if method is Method.NONE:
            return self.anonymous
        return self.shared if method is Method.SHARED and self.shared is not None else self.refused

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


PAGES = [
    Page(Interface.GATEWAY, "/authz/verify", 200, 401, 0),
    Page(Interface.METRICS, "/metrics", 200, 401, 403),
    Page(Interface.REST_API, "/api/v1/", 200, 401, 403, shared=401),
    Page(Interface.REST_API, "/api/v1/whoami", 200, 401, 403, shared=401),
    Page(Interface.REST_API, "/api/v1/openapi.json", 200, 401, 403, shared=401),
    Page(Interface.REST_API, "/api/v1/docs", 200, 401, 403, shared=401),
    Page(Interface.SKYPILOT_API, "/users", 200, 401, 0, shared=401),
    Page(Interface.SKYPILOT_API, "/internal/dashboard/users/role", 200, 401, 0, shared=401),
    Page(Interface.SKYPILOT_API, "/users/nothing", 404, 401, 0, shared=401),
    Page(Interface.SKYPILOT_CHANGES, "/users/create", 422, 401, 403, "POST", shared=401),
    Page(Interface.CLI_LOGIN, "/token", 200, 302, 403),
    Page(Interface.CLI_LOGIN, f"/auth/authorize?code_challenge={CHALLENGE}", 200, 302, 403),
    Page(Interface.CLI_LOGIN, "/api/v1/auth/authorize", 400, 401, 403, "POST", shared=401),
    Page(Interface.DASHBOARD, "/skyauth/", 200, 302, 403),
    Page(Interface.DASHBOARD, "/skyauth/sessions", 200, 302, 403),
    Page(Interface.DJANGO_ADMIN, "/admin/", 200, 302, 403),
    Page(Interface.DJANGO_ADMIN, "/admin/accounts/user/", 200, 302, 403),
    Page(Interface.PUBLIC, "/", 302, 302, 0),
    Page(Interface.PUBLIC, "/sign-in", 200, 200, 0),
    Page(Interface.PUBLIC, "/api/health", 200, 200, 0),
    Page(Interface.PUBLIC, "/api/nothing", 404, 404, 0),
    Page(Interface.PUBLIC, f"/api/v1/auth/token?code_verifier={CHALLENGE}", 404, 404, 0),
]


def sent(server: SkyAuth, page: Page, lines: list[tuple[str, str]]) -> Reply:
    """Return the answer to a request with these header lines."""
    target = TARGET if page.interface is Interface.GATEWAY else []
    body = b"{}" if page.method == "POST" else b""
    headers = [*lines, *target, ("Content-Type", "application/json")]
    return ask(server.port, page.path, headers, method=page.method, body=body)


@pytest.mark.e2e
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_promise_37_an_interface_answers_each_sign_in_method_as_the_table_says(
    server: SkyAuth, credentials: dict[Method, list[tuple[str, str]]], page: Page
) -> None:
    statuses = {method.value: sent(server, page, credentials[method]).status for method in METHODS}
    assert statuses == {method.value: page.status(method) for method in METHODS}


def test_every_interface_has_a_row_and_a_tested_page() -> None:
    assert set(OPENED_BY) == set(Interface) == {page.interface for page in PAGES}


def test_no_interface_is_open_to_commands_or_to_views_without_an_interface() -> None:
    assert not any(auth_methods.opens(Method.COMMAND, interface) for interface in Interface)
    assert not any(auth_methods.opens(method, None) for method in Method)


def test_promise_37_a_cli_session_opens_the_protected_api_and_reads_the_skypilot_api() -> None:
    opened = {interface for interface in Interface if auth_methods.opens(Method.CLI, interface)}
    assert opened == {Interface.GATEWAY, Interface.SKYPILOT_API, Interface.PUBLIC}


def test_the_shared_credential_opens_the_protected_api_alone() -> None:
    opened = {interface for interface in Interface if auth_methods.opens(Method.SHARED, interface)}
    assert opened == {Interface.GATEWAY, Interface.PUBLIC}


def views(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield each path of the URL configuration with its view."""
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from views(pattern.url_patterns, path)
        else:
            yield path, pattern.callback


VIEWS = dict(views(get_resolver().url_patterns))


def test_every_view_belongs_to_an_interface() -> None:
    assert {path for path, view in VIEWS.items() if view_access.interface_of(view) is None} == set()


def test_the_views_that_are_open_to_everybody_are_few_and_known() -> None:
    public = {path for path, view in VIEWS.items() if view_access.interface_of(view) is Interface.PUBLIC}
    assert public == {
        "",
        "sign-in",
        "sign-out",
        "skyauth",
        "admin/login/",
        "api/health",
        "api/v1/auth/token",
        "internal/dashboard/api/health",
        "internal/dashboard/api/v1/auth/token",
        r"\Aapi(?:/|\Z)",
    }


def requested_by(principal: Principal, view: Callable[..., HttpResponse]) -> int:
    """Return the status with which the middleware answers in place of the view, or 200 where it lets the request pass."""
    request = RequestFactory().get("/somewhere")
    request.principal = principal  # type: ignore[attr-defined]
    response = PrincipalMiddleware(lambda _: HttpResponse()).process_view(request, view, (), {})
    return 200 if response is None else response.status_code


@pytest.mark.django_db
def test_a_view_that_declares_no_interface_is_closed_to_everybody() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    for method in Method:
        kind = Kind.ANONYMOUS if method is Method.NONE else Kind.USER
        caller = Principal(kind, "u1", "alice@example.com", method=method)
        assert requested_by(caller, view) == (401 if method is Method.NONE else 403), method


def test_a_view_passes_the_methods_that_open_its_interface() -> None:
    @view_access.belongs_to(Interface.METRICS)
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert requested_by(ANONYMOUS, view) == 401
    assert requested_by(Principal(Kind.USER, "u1", "alice@example.com", method=Method.BASIC), view) == 200


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/whoami", "/skyauth/", "/token"])
def test_a_refused_sign_in_method_is_recorded(alice: User, path: str) -> None:
    client = Client()
    client.cookies["skyauth"], _ = begin_cli_session(actor=principal(alice), address="192.0.2.7", agent="sky")
    assert client.get(path).status_code == 403
    entry = Entry.objects.get(event="request.denied")
    assert (entry.actor, entry.target) == (alice.username, f"GET {path}")


@pytest.mark.parametrize("next_path", ["", "?next=/admin/"])
def test_a_cli_session_does_not_pass_the_sign_in_pages(alice: User, next_path: str) -> None:
    client = Client()
    client.cookies["skyauth"], _ = begin_cli_session(actor=principal(alice), address="192.0.2.7", agent="sky")
    assert client.get(f"/sign-in{next_path}").status_code == 200, "the form is shown"
    assert client.get(f"/admin/login/{next_path}").status_code == 403


def test_a_service_account_is_no_user_of_the_django_admin(pipeline: ServiceAccount, pipeline_token: str) -> None:
    response = Client(headers={"authorization": f"Bearer {pipeline_token}"}).get("/admin/")
    assert response.status_code == 403
