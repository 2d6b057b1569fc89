"""The principal on Django's requests, and the one 401 of every bad credential."""

import base64
import json

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory

from accounts.models import User
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


def passed(request):
    """Return the response of the middleware around a view that says whom it sees."""

    def view(request):
        return HttpResponse(f"{request.principal.kind} {request.principal.name} {request.user!r}")

    return PrincipalMiddleware(view)(request)


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def request(**meta):
    return RequestFactory().get("/", **meta)


def test_who_shows_nothing_is_anonymous():
    asked = request()
    assert passed(asked).status_code == 200
    assert asked.principal.kind is Kind.ANONYMOUS
    assert asked.principal.peer == "127.0.0.1"
    assert isinstance(asked.user, AnonymousUser) or asked.user.is_anonymous


def test_a_good_password_is_its_user(bob):
    asked = request(HTTP_AUTHORIZATION=basic("bob@example.com", PASSWORD))
    assert passed(asked).status_code == 200
    assert (asked.principal.kind, asked.principal.method) == (Kind.USER, Method.BASIC)
    assert asked.user == bob
    assert asked.user.is_authenticated


def test_a_token_is_a_principal_and_no_user(pipeline, pipeline_token):
    asked = request(HTTP_AUTHORIZATION=f"Bearer {pipeline_token}")
    assert passed(asked).status_code == 200
    assert asked.principal.name == "pipeline"
    assert asked.user.is_anonymous, "a machine is nobody in Django's admin"


def test_a_user_who_goes_while_the_request_runs_is_anonymous(bob):
    asked = request(HTTP_AUTHORIZATION=basic("bob@example.com", PASSWORD))
    PrincipalMiddleware(lambda _: None).process_request(asked)
    User.objects.all().delete()
    assert asked.user.is_anonymous


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_promise_01_without_the_gate_no_identity_header_is_believed(alice, spelling):
    asked = request(**{spelling: "alice@example.com", "REMOTE_ADDR": "127.0.0.1"})
    passed(asked)
    assert asked.principal.kind is Kind.ANONYMOUS


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_promise_01_the_test_client_cannot_name_a_user_either(client, alice, spelling):
    response = client.get("/nothing-here", **{spelling: "alice@example.com"})
    assert response.wsgi_request.principal.kind is Kind.ANONYMOUS


def test_the_gates_word_is_believed(bob):
    asked = request()
    asked.scope = {
        SCOPE_KEY: ProxyInfo(trusted=True, peer="10.0.0.1", client="192.0.2.7", subject="bob@example.com"),
        "headers": [],
    }
    assert passed(asked).status_code == 200
    assert (asked.principal.name, asked.principal.method, asked.principal.peer) == ("bob@example.com", Method.PROXY, "192.0.2.7")


@pytest.mark.parametrize("found", [None, "trusted", {"trusted": True, "subject": "alice@example.com"}, True])
def test_promise_01_what_is_not_the_gates_own_object_is_nothing(found):
    asked = request()
    asked.scope = {SCOPE_KEY: found, "headers": []}
    assert proxied_of(asked) is NO_PROXY_INFO


def test_where_there_was_no_gate_the_sockets_address_is_the_client():
    assert proxied_of(None) is NO_PROXY_INFO
    assert proxied_of(request(REMOTE_ADDR="192.0.2.9")) == ProxyInfo(peer="192.0.2.9", client="192.0.2.9")


BAD = {
    "foreign": "Digest x",
    "malformed bearer": "Bearer sky_é",
    "unknown token": "Bearer sky_nonsense",
    "malformed basic": "Basic !!!",
    "unknown user": basic("mallory", "x"),
    "wrong password": basic("bob@example.com", "x"),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", ["/", "/admin/", "/api/v1/whoami", "/nothing"])
def test_promise_08_a_bad_credential_is_401_whatever_page_is_asked_for(client, bob, value, path):
    client.login(username="bob@example.com", password=PASSWORD)
    response = client.get(path, HTTP_AUTHORIZATION=value)
    assert response.status_code == 401
    assert response.content == unauthenticated(basic=True).content
    assert Entry.objects.filter(event="sign-in.refused").count() == 1


def test_the_401_has_one_shape_a_challenge_and_is_not_stored(settings):
    response = passed(request(HTTP_AUTHORIZATION="Digest x"))
    assert response["WWW-Authenticate"] == 'Basic realm="SkyAuth", charset="UTF-8", Bearer realm="SkyAuth"'
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"] == "application/problem+json"
    assert json.loads(response.content) == json.loads(headers.unauthenticated(basic=True).body), "as the gateway says it"
    settings.AUTH_BASIC = False
    assert "Basic" not in passed(request(HTTP_AUTHORIZATION="Digest x"))["WWW-Authenticate"]


def test_the_503_asks_to_come_again():
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
    asked = request()
    asked.scope = {"headers": lines}
    assert passed(asked).status_code == 401


def test_a_session_decides_last(client, bob):
    client.login(username="bob@example.com", password=PASSWORD)
    response = client.get("/nothing")
    assert response.wsgi_request.principal.method == Method.SESSION
    assert response.wsgi_request.user == bob
    response = client.get("/nothing", HTTP_X_SKYPILOT_AUTH_MODE="token")
    assert response.status_code == 401


@pytest.mark.parametrize("key", ["a\x00b", "\u00e9", "a b", "../x"])
def test_a_session_cookie_that_no_key_of_ours_can_be_is_no_session(client, key):
    client.cookies["skyauth"] = "x"
    client.cookies["skyauth"].set("skyauth", key, key)
    response = client.get("/admin/login/")
    assert response.status_code == 200
