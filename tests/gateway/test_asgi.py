"""The verify line as an ASGI layer: which requests it answers, and that it needs the gate."""

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
ASKED = [(b"x-forwarded-method", b"GET"), (b"x-forwarded-host", b"h"), (b"x-forwarded-uri", b"//")]  # unreadable: no route needed


class Untold:
    """A reader of the mark that cannot read it."""

    def begin(self, heard):
        heard(None)

    def close(self):
        pass


class Django:
    """Stands where Django's handler stands, and says so."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"django"})


def ask(application, path, headers=(), **scope):
    """Return the status and body that an ASGI application answers with."""
    sent = []

    async def send(message):
        sent.append(message)

    whole = {
        "type": "http",
        "method": "GET",
        "raw_path": path,
        "path": "/",
        "headers": list(headers),
        "client": ("10.0.0.1", 5),
        **scope,
    }
    asyncio.run(application(whole, None, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"]


@pytest.fixture
def ungated():
    """The verify line without the gate, with one thread, so that its one connection can be closed, and without a memory."""
    made = ForwardAuthApp(Django(), RevisionReader(Untold))
    made._threads.shutdown()
    made._threads = ThreadPoolExecutor(1)
    yield made
    made._threads.submit(connections.close_all).result()
    made._threads.shutdown()


@pytest.fixture
def line(ungated):
    return ProxyHeaderMiddleware(ungated, POLICY)


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
def test_promise_23_only_the_exact_raw_path_is_answered(line, path):
    assert ask(line, path) == (204, b"django")


@pytest.fixture
def keys(settings, tmp_path):
    """Assertions are switched on."""
    path = tmp_path / "key.pem"
    path.write_text(jwt_keys.new_pem())
    path.chmod(0o600)
    settings.ASSERTION_KEYS = [path]


@pytest.mark.parametrize("headers", [[], [(b"host", b"any.internal")], [(b"authorization", b"Bearer sky_bad")]])
def test_the_key_set_is_told_to_everybody_under_any_host(keys, line, headers):
    status, body = ask(line, b"/.well-known/jwks.json", headers, method="GET", client=("192.0.2.1", 5))
    assert status == 200
    assert [key["alg"] for key in json.loads(body)["keys"]] == ["EdDSA"]


@pytest.mark.parametrize("path", [b"/.well-known/jwks.json/", b"/.well-known/%6awks.json", b"//.well-known/jwks.json", b"/x"])
def test_the_key_set_is_at_its_exact_path_alone(keys, line, path):
    assert ask(line, path, method="GET") == (204, b"django")


def test_without_keys_there_is_no_key_set(line):
    assert ask(line, b"/.well-known/jwks.json", method="GET") == (204, b"django")


def test_an_oversized_header_section_reaches_nobody(line):
    status, body = ask(line, b"/anything", [(b"a", b"b")] * 101)
    assert status == 431
    assert b"headers-too-large" in body


def test_promise_29_an_oversized_question_is_403_because_a_proxy_expects_no_other(separate_connections, line):
    status, body = ask(line, b"/authz/verify", [(b"a", b"b")] * 101)
    assert status == 403
    told = json.loads(body)
    assert told["code"] == "headers-too-large"
    entry = Entry.objects.get(reference=told["decision"])
    assert (entry.actor, entry.peer, entry.target) == ("anonymous", "10.0.0.1", "unreadable request")


def test_nothing_of_an_oversized_question_is_looked_at(separate_connections, line):
    page_wanted = [(b"accept", b"text/html"), *ASKED[:2], (b"x-forwarded-uri", b"/a")]
    _, body = ask(line, b"/authz/verify", [*page_wanted, *[(b"a", b"b")] * 101])
    assert json.loads(body)["code"] == "headers-too-large"


def test_a_question_is_judged_in_a_thread_with_what_the_gate_found(separate_connections, line):
    status, body = ask(line, b"/authz/verify", ASKED)
    assert status == 403
    assert b"empty segment" in body
    status, body = ask(line, b"/authz/verify", ASKED, client=("192.0.2.1", 5))
    assert status == 403
    assert b"TRUSTED_PROXIES" in body


@pytest.mark.parametrize("scope", [{}, {SCOPE_KEY: {"trusted": True}, OVERSIZED_KEY: False}, {OVERSIZED_KEY: True}])
def test_promise_01_without_the_gate_every_question_is_refused(separate_connections, ungated, scope):
    status, _ = ask(ungated, b"/authz/verify", [(b"x-auth-request-email", b"alice@example.com"), *ASKED], **scope)
    assert status == 403


def test_promise_01_without_the_gate_nothing_else_is_served(ungated):
    assert ask(ungated, b"/")[0] == 431
