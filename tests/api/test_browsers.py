"""A browser sends sessions, Basic and proxy headers by itself, so its writes need the CSRF token and the same origin."""

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.test import Client, RequestFactory
from rest_framework.request import Request

from accounts.models import User
from api.authentication import PrincipalAuthentication
from rbac.principals import Method
from tests.api import api_client
from tests.api.api_client import BASE, Api
from tests.factories import principal

ROLE = {"name": "new"}


@pytest.fixture
def browser(alice: User) -> Client:
    """Alice's browser, with CSRF checks."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(alice)
    return client


def test_a_session_cannot_write_without_the_csrf_token(browser: Client) -> None:
    result = api_client.problem(Api(browser).post("/roles", ROLE), 403, "forbidden")
    assert "CSRF" in result["detail"]


def test_a_session_reads_without_the_csrf_token(browser: Client) -> None:
    assert Api(browser).get("/roles").status_code == 200


def test_a_session_writes_with_the_token_that_the_docs_page_has_set(browser: Client) -> None:
    assert Api(browser).get("/docs", script="").status_code == 200
    token = browser.cookies["skyauth-csrf"].value
    assert Api(browser).post("/roles", ROLE, x_csrftoken=token).status_code == 201


def test_a_session_with_the_token_cannot_write_from_another_origin(browser: Client) -> None:
    Api(browser).get("/docs", script="")
    token = browser.cookies["skyauth-csrf"].value
    api_client.problem(Api(browser).post("/roles", ROLE, x_csrftoken=token, origin="https://evil.example"), 403)


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://testserver:81"},
    {"origin": "https://testserver"},
    {"origin": "http://[bad"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
]
OWN = [
    {},
    {"origin": "http://testserver"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_basic_cannot_write_from_a_page_of_another_site(alice: User, headers: dict[str, str]) -> None:
    api = api_client.basic("alice@example.com")
    api_client.problem(api.post("/roles", ROLE, **headers), 403, "forbidden")
    assert api.client.get(f"{BASE}/roles", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_basic_can_write_from_pages_of_the_same_origin_and_without_a_browser(alice: User, headers: dict[str, str]) -> None:
    assert api_client.basic("alice@example.com").post("/roles", ROLE, **headers).status_code == 201


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_token_can_write_from_any_origin_because_no_browser_sends_it_by_itself(
    pipeline_token: str, pipeline: Any, headers: dict[str, str]
) -> None:
    response = api_client.bearer(pipeline_token).post("/service-accounts", {"name": "another"}, **headers)
    assert response.status_code == 201


def _proxied(user: User, headers: dict[str, str]) -> Request:
    request: HttpRequest = RequestFactory().post("/api/v1/roles", headers=headers)
    request.principal = principal(user, Method.PROXY)  # type: ignore[attr-defined]
    return Request(request)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_the_proxys_header_cannot_write_from_a_page_of_another_site(alice: User, headers: dict[str, str]) -> None:
    with pytest.raises(PermissionDenied):
        PrincipalAuthentication().authenticate(_proxied(alice, headers))


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_the_proxys_header_can_write_from_pages_of_the_same_origin(alice: User, headers: dict[str, str]) -> None:
    result = PrincipalAuthentication().authenticate(_proxied(alice, headers))
    assert result is not None
    assert result[0].name == "alice@example.com"
