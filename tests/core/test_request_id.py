"""The request id: which clients can choose it, and where it appears."""

import re

import pytest
from django.test import Client, RequestFactory

from authn.middleware import RequestIdMiddleware
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import ProxyInfo
from core import request_id
from gateway.asgi import _in_thread
from gateway.forwarded import AuthRequest

RANDOM = re.compile(r"[0-9a-f]{32}\Z")


@pytest.mark.parametrize("value", ["a", "7f3c-4b.1_Z", "a" * 64])
def test_the_id_of_a_trusted_proxy_is_kept(value):
    assert request_id.begin([value.encode()], trusted=True) == value == request_id.current()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"a" * 65],
        [b"a b"],
        [b"a\n"],
        [b"a\r\n2026-11-25 forged"],
        [b'","level":"ERROR'],
        [b"\xc3\xa9"],
        [b"a", b"b"],
        [b"a", b"a"],
    ],
)
def test_promise_42_an_invalid_id_is_replaced(values):
    ids = {request_id.begin(values, trusted=True) for _ in range(3)}
    assert len(ids) == 3
    assert all(map(RANDOM.match, ids))


def test_promise_42_the_id_of_an_untrusted_peer_is_replaced():
    assert RANDOM.match(request_id.begin([b"mine"], trusted=False))


def ask(proxied, *values):
    request = RequestFactory().get("/")
    request.scope = {"headers": [(b"x-request-id", value) for value in values], SCOPE_KEY: proxied}
    logged = []
    middleware = RequestIdMiddleware(lambda request: logged.append(request_id.current()) or Client().get("/api"))
    return middleware(request)["X-Request-Id"], logged[0]


def test_responses_of_django_have_the_id_of_their_log_lines():
    assert ask(ProxyInfo(trusted=True), b"from-the-proxy") == ("from-the-proxy",) * 2
    returned, logged = ask(ProxyInfo(), b"from-a-client")
    assert returned == logged
    assert RANDOM.match(returned)


def test_every_response_of_django_has_an_id(db):
    for path in ("/api/v1/users", "/nowhere", "/admin/login/", "/metrics"):
        assert RANDOM.match(Client().get(path)["X-Request-Id"])
    assert Client().get("/nowhere", headers={"Authorization": "Bearer sky_bad"})["X-Request-Id"]


@pytest.mark.parametrize(("trusted", "kept"), [(True, True), (False, False)])
def test_a_verify_request_has_the_id_of_the_proxy(db, trusted, kept):
    auth_request = AuthRequest([(b"x-request-id", b"from-the-proxy")], ProxyInfo(trusted=trusted))
    _in_thread(lambda auth_request, reader: None, auth_request, None)
    assert (request_id.current() == "from-the-proxy") is kept
