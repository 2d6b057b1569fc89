"""The principal on Django's requests, and the 401 of every bad credential."""

import base64
import json

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory

from accounts.models import Session, User
from audit.models import Entry
from authn.middleware import PrincipalMiddleware
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import NO_PROXY_INFO, ProxyInfo
from authn.requests import proxied_of
from core.responses import unauthenticated, unavailable
from gateway import headers
from rbac.principals import Kind, Method
from tests.factories import PASSWORD

SPELLINGS = [
    "HTTP_X_AUTH_REQUEST_EMAIL",
    "HTTP_X_FORWARDED_EMAIL",
    "HTTP_X_FORWARDED_USER",
    "HTTP_REMOTE_USER",
    "REMOTE_USER",
    "HTTP_X_REMOTE_USER",
    "HTTP_X.AUTH.REQUEST.EMAIL",
    "x-auth-request-email",
]


@pytest.fixture(autouse=True)
def header_mode(settings, db):
    """The most dangerous configuration: header sign-in is on, and the loopback is trusted."""
    settings.AUTH_USER_HEADER_FORMAT, settings.TRUSTED_PROXIES = "plaintext", ["127.0.0.1", "::1"]


def respond_to(request):
    """Return the response of the middleware around a view that says whom it sees."""

    def view(request):
        return HttpResponse(f"{request.principal.kind} {request.principal.name} {request.user!r}")

    return PrincipalMiddleware(view)(request)


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def get_request(**meta):
    return RequestFactory().get("/", **meta)


def test_a_request_without_a_credential_is_anonymous():
    request = get_request()
    assert respond_to(request).status_code == 200
    assert request.principal.kind is Kind.ANONYMOUS
    assert request.principal.peer == "127.0.0.1"
    assert isinstance(request.user, AnonymousUser) or request.user.is_anonymous


def test_a_password_sets_the_principal_and_the_user(bob):
    request = get_request(HTTP_AUTHORIZATION=basic("bob@example.com", PASSWORD))
    assert respond_to(request).status_code == 200
    assert (request.principal.kind, request.principal.method) == (Kind.USER, Method.BASIC)
    assert request.user == bob
    assert request.user.is_authenticated


def test_a_token_sets_the_principal_and_no_user(pipeline, pipeline_token):
    request = get_request(HTTP_AUTHORIZATION=f"Bearer {pipeline_token}")
    assert respond_to(request).status_code == 200
    assert request.principal.name == "pipeline"
    assert request.user.is_anonymous, "a service account is no user of the Django admin"


def test_a_user_who_is_deleted_during_the_request_is_anonymous(bob):
    request = get_request(HTTP_AUTHORIZATION=basic("bob@example.com", PASSWORD))
    PrincipalMiddleware(lambda _: None).process_request(request)
    User.objects.all().delete()
    assert request.user.is_anonymous


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_promise_01_without_the_header_filter_no_identity_header_is_trusted(alice, spelling):
    request = get_request(**{spelling: "alice@example.com", "REMOTE_ADDR": "127.0.0.1"})
    respond_to(request)
    assert request.principal.kind is Kind.ANONYMOUS


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_promise_01_the_test_client_cannot_name_a_user_either(client, alice, spelling):
    response = client.get("/nothing-here", **{spelling: "alice@example.com"})
    assert response.wsgi_request.principal.kind is Kind.ANONYMOUS


def test_the_header_filters_result_is_trusted(bob):
    request = get_request()
    request.scope = {
        SCOPE_KEY: ProxyInfo(trusted=True, peer="10.0.0.1", client="192.0.2.7", subject="bob@example.com"),
        "headers": [],
    }
    assert respond_to(request).status_code == 200
    assert (request.principal.name, request.principal.method, request.principal.peer) == (
        "bob@example.com",
        Method.PROXY,
        "192.0.2.7",
    )


@pytest.mark.parametrize("found", [None, "trusted", {"trusted": True, "subject": "alice@example.com"}, True])
def test_promise_01_only_a_proxy_info_object_is_trusted(found):
    request = get_request()
    request.scope = {SCOPE_KEY: found, "headers": []}
    assert proxied_of(request) is NO_PROXY_INFO


def test_without_the_header_filter_the_client_is_the_sockets_address():
    assert proxied_of(None) is NO_PROXY_INFO
    assert proxied_of(get_request(REMOTE_ADDR="192.0.2.9")) == ProxyInfo(peer="192.0.2.9", client="192.0.2.9")


BAD = {
    "malformed bearer": "Bearer sky_é",
    "unknown token": "Bearer sky_nonsense",
    "malformed basic": "Basic !!!",
    "unknown user": basic("mallory", "x"),
    "wrong password": basic("bob@example.com", "x"),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", ["/", "/admin/", "/api/v1/whoami", "/nothing"])
def test_promise_08_a_bad_credential_is_401_at_every_path(client, bob, value, path):
    client.login(username="bob@example.com", password=PASSWORD)
    response = client.get(path, HTTP_AUTHORIZATION=value)
    assert response.status_code == 401
    assert response.content == unauthenticated(basic=True).content
    assert Entry.objects.filter(event="sign-in.refused").count() == 1


@pytest.mark.parametrize("value", ["Digest x", "Token abc", ""])
def test_promise_08_a_foreign_authorization_is_ignored_beside_a_session_and_else_401(client, bob, value):
    assert client.get("/api/v1/whoami", HTTP_AUTHORIZATION=value).status_code == 401
    client.login(username="bob@example.com", password=PASSWORD)
    assert client.get("/api/v1/whoami", HTTP_AUTHORIZATION=value).json()["name"] == "bob@example.com"
    Session.objects.all().delete()
    response = client.get("/api/v1/whoami", HTTP_AUTHORIZATION=value)
    assert response.content == unauthenticated(basic=True).content


def test_the_401_is_a_problem_with_a_challenge_and_no_store(settings):
    response = respond_to(get_request(HTTP_AUTHORIZATION="Digest x"))
    assert response["WWW-Authenticate"] == 'Basic realm="SkyAuth", charset="UTF-8", Bearer realm="SkyAuth"'
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"] == "application/problem+json"
    assert json.loads(response.content) == json.loads(headers.unauthenticated(basic=True).body), "as the gateway says it"
    settings.AUTH_BASIC = False
    assert "Basic" not in respond_to(get_request(HTTP_AUTHORIZATION="Digest x"))["WWW-Authenticate"]


def test_the_503_has_a_retry_after_header():
    response = unavailable()
    assert (response.status_code, response["Retry-After"], response["Cache-Control"]) == (503, "5", "no-store")


@pytest.mark.parametrize(
    "lines",
    [
        [(b"authorization", b"Bearer sky_a"), (b"Authorization", b"Bearer sky_a")],
        [(b"AUTHORIZATION", b"Basic !")],
        [(b"x-skypilot-auth-mode", b"token")],
        [(b"x-skypilot-auth-mode", b""), (b"X-Skypilot-Auth-Mode", b"token")],
    ],
)
def test_promise_08_raw_headers_are_read_in_any_case_and_with_repeats(lines):
    request = get_request()
    request.scope = {"headers": lines}
    assert respond_to(request).status_code == 401


def test_a_session_is_used_after_any_other_credential(client, bob):
    client.login(username="bob@example.com", password=PASSWORD)
    response = client.get("/nothing")
    assert response.wsgi_request.principal.method == Method.SESSION
    assert response.wsgi_request.user == bob
    response = client.get("/nothing", HTTP_X_SKYPILOT_AUTH_MODE="token")
    assert response.status_code == 401


@pytest.mark.parametrize("key", ["a\x00b", "\u00e9", "a b", "../x"])
def test_a_cookie_that_cannot_be_a_session_key_is_ignored(client, key):
    client.cookies["skyauth"] = "x"
    client.cookies["skyauth"].set("skyauth", key, key)
    response = client.get("/sign-in")
    assert response.status_code == 200
