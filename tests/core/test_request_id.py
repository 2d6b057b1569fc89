"""The id of a request: whose is believed, and where it is told."""

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


@pytest.mark.parametrize("given", ["a", "7f3c-4b.1_Z", "a" * 64])
def test_a_trusted_proxy_s_id_is_kept(given):
    assert request_id.begin([given.encode()], trusted=True) == given == request_id.current()


@pytest.mark.parametrize(
    "given",
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
def test_promise_42_what_cannot_be_an_id_is_replaced(given):
    names = {request_id.begin(given, trusted=True) for _ in range(3)}
    assert len(names) == 3
    assert all(map(RANDOM.match, names))


def test_promise_42_nobody_else_s_id_is_believed():
    assert RANDOM.match(request_id.begin([b"mine"], trusted=False))


def ask(proxied, *values):
    request = RequestFactory().get("/")
    request.scope = {"headers": [(b"x-request-id", value) for value in values], SCOPE_KEY: proxied}
    seen = []
    middleware = RequestIdMiddleware(lambda request: seen.append(request_id.current()) or Client().get("/api"))
    return middleware(request)["X-Request-Id"], seen[0]


def test_django_s_doors_tell_the_id_that_their_log_lines_have():
    assert ask(ProxyInfo(trusted=True), b"from-the-proxy") == ("from-the-proxy",) * 2
    told, seen = ask(ProxyInfo(), b"from-a-stranger")
    assert told == seen
    assert RANDOM.match(told)


def test_every_answer_of_django_s_handler_has_one(db):
    for path in ("/api/v1/users", "/nowhere", "/admin/login/", "/metrics"):
        assert RANDOM.match(Client().get(path)["X-Request-Id"])
    assert Client().get("/nowhere", headers={"Authorization": "Bearer sky_bad"})["X-Request-Id"]


@pytest.mark.parametrize(("trusted", "kept"), [(True, True), (False, False)])
def test_a_question_to_the_verify_line_has_the_proxy_s(db, trusted, kept):
    question = AuthRequest([(b"x-request-id", b"from-the-proxy")], ProxyInfo(trusted=trusted))
    _in_thread(lambda question, reader: None, question, None)
    assert (request_id.current() == "from-the-proxy") is kept
