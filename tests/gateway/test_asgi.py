"""The verify endpoints as an ASGI application: which requests it answers, and that it needs the header filter."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from audit.models import Entry
from authn import jwt_keys
from authn.proxy_header_middleware import OVERSIZED_KEY, SCOPE_KEY, ProxyHeaderMiddleware
from authn.proxy_headers import TrustPolicy, parse_networks
from gateway.asgi import ForwardAuthApp
from revision.reader import RevisionReader

POLICY = TrustPolicy(parse_networks(["10.0.0.0/8"]))
ORIGINAL = [
    (b"x-forwarded-method", b"GET"),
    (b"x-forwarded-host", b"h"),
    (b"x-forwarded-uri", b"//"),
]  # unreadable: no route needed


class NoRevision:
    """A source that cannot read the policy revision."""

    def begin(self, callback):
        callback(None)

    def close(self):
        pass


class Django:
    """Stands in for Django's handler."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"django"})


def ask(application, path, headers=(), **scope):
    """Return the status and body that an ASGI application answers with."""
    sent = []

    async def send(message):
        sent.append(message)

    request = {
        "type": "http",
        "method": "GET",
        "raw_path": path,
        "path": "/",
        "headers": list(headers),
        "client": ("10.0.0.1", 5),
        **scope,
    }
    asyncio.run(application(request, None, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"]


@pytest.fixture
def unfiltered():
    """The application without the header filter and without a cache, with one thread, whose one connection can be closed."""
    application = ForwardAuthApp(Django(), RevisionReader(NoRevision))
    application._threads.shutdown()
    application._threads = ThreadPoolExecutor(1)
    yield application
    application._threads.submit(connections.close_all).result()
    application._threads.shutdown()


@pytest.fixture
def application(unfiltered):
    return ProxyHeaderMiddleware(unfiltered, POLICY)


@pytest.mark.parametrize(
    "path",
    [
        b"/authz/verify/",
        b"/authz/verifyx",
        b"//authz/verify",
        b"/authz/%76erify",
        b"/AUTHZ/VERIFY",
        b"/authz",
        b"/",
        b"",
        b"/authz/verify;x",
    ],
)
def test_promise_23_only_the_exact_raw_path_is_an_endpoint(application, path):
    status, body = ask(application, path)
    if path.startswith(b"/authz"):  # for the operator of the proxy; never 2xx
        assert (status, json.loads(body)["code"]) == (404, "not-found")
    else:
        assert (status, body) == (204, b"django")


@pytest.fixture
def keys(settings, tmp_path):
    """Turn assertions on."""
    path = tmp_path / "key.pem"
    path.write_text(jwt_keys.new_pem())
    path.chmod(0o600)
    settings.ASSERTION_KEYS = [path]


@pytest.mark.parametrize("headers", [[], [(b"host", b"any.internal")], [(b"authorization", b"Bearer sky_bad")]])
def test_the_key_set_is_public_under_any_host(keys, application, headers):
    status, body = ask(application, b"/.well-known/jwks.json", headers, method="GET", client=("192.0.2.1", 5))
    assert status == 200
    assert [key["alg"] for key in json.loads(body)["keys"]] == ["EdDSA"]


@pytest.mark.parametrize("path", [b"/.well-known/jwks.json/", b"/.well-known/%6awks.json", b"//.well-known/jwks.json", b"/x"])
def test_the_key_set_has_one_exact_path(keys, application, path):
    assert ask(application, path, method="GET") == (204, b"django")


def test_without_keys_there_is_no_key_set(application):
    assert ask(application, b"/.well-known/jwks.json", method="GET") == (204, b"django")


def test_an_oversized_header_section_gets_431_as_problem_details(application):
    status, body = ask(application, b"/anything", [(b"a", b"b")] * 101)
    assert status == 431
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (431, "headers-too-large")


def test_promise_29_an_oversized_verify_request_gets_403_because_proxies_expect_no_431(separate_connections, application):
    status, body = ask(application, b"/authz/verify", [(b"a", b"b")] * 101)
    assert status == 403
    problem = json.loads(body)
    assert problem["code"] == "headers-too-large"
    entry = Entry.objects.get(reference=problem["decision"])
    assert (entry.actor, entry.peer, entry.target) == ("anonymous", "10.0.0.1", "unreadable request")


def test_no_header_of_an_oversized_verify_request_is_read(separate_connections, application):
    browser = [(b"accept", b"text/html"), *ORIGINAL[:2], (b"x-forwarded-uri", b"/a")]
    _, body = ask(application, b"/authz/verify", [*browser, *[(b"a", b"b")] * 101])
    assert json.loads(body)["code"] == "headers-too-large"


def test_a_request_is_decided_in_a_thread_with_the_result_of_the_header_filter(separate_connections, application):
    status, body = ask(application, b"/authz/verify", ORIGINAL)
    assert status == 403
    assert b"empty segment" in body
    status, body = ask(application, b"/authz/verify", ORIGINAL, client=("192.0.2.1", 5))
    assert status == 403
    assert b"TRUSTED_PROXIES" in body


@pytest.mark.parametrize("scope", [{}, {SCOPE_KEY: {"trusted": True}, OVERSIZED_KEY: False}, {OVERSIZED_KEY: True}])
def test_promise_01_without_the_header_filter_every_verify_request_is_refused(separate_connections, unfiltered, scope):
    status, _ = ask(unfiltered, b"/authz/verify", [(b"x-auth-request-email", b"alice@example.com"), *ORIGINAL], **scope)
    assert status == 403


def test_promise_01_without_the_header_filter_nothing_else_is_served(unfiltered):
    assert ask(unfiltered, b"/")[0] == 431
