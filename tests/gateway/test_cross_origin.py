"""Requests that a page of another origin starts with its visitor's credential: refused where they can have an effect."""

import json
from types import MappingProxyType

import bcrypt
import pytest

from accounts.principal_lookup import current_principal
from audit.models import Entry
from authn.proxy_headers import ProxyInfo
from gateway import verify
from gateway.cache import CacheSnapshot
from gateway.forwarded import AuthRequest, envoy, x_forwarded, x_original
from rbac.denials import past_denial
from revision.epoch import Epoch
from tests.factories import PASSWORD
from tests.verify_client import basic, bearer, cookie, proxied

pytestmark = pytest.mark.django_db

OWN = "https://api.example.com"
WEBSOCKET = [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")]


@pytest.fixture
def as_bob(client, bob, pipeline_token, settings, read_write):
    """Return the header lines and the proxy's user for each kind of credential, all of which can write."""
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    settings.PUBLIC_URL = "https://auth.example.com"
    client.login(username="bob@example.com", password=PASSWORD)
    return {
        "session": (cookie(client.session.session_key), None),
        "basic": (basic("bob@example.com", PASSWORD), None),
        "shared": (basic("team", "secret"), None),
        "proxy": ([], "bob@example.com"),
        "token": (bearer(pipeline_token), None),
    }


def lines(**headers):
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


def answer(caller, sent, method="POST", reader=x_forwarded, **forwarded):
    """Return the answer to a request of this caller; first from the database, then the same from the cache."""
    own, subject = caller
    values = {"method": method, "uri": "/things", "host": "api.example.com", "proto": "https", **forwarded}
    if reader is x_original:
        values = {key if key == "proto" else f"original-{key}": value for key, value in values.items()}
    present = MappingProxyType({key: value for key, value in values.items() if value is not None})
    host = [(b"host", values["host"].encode())] if reader is envoy else []
    request = AuthRequest([*host, *own, *sent], proxied()._replace(forwarded=present, subject=subject), method, "/things")
    snapshot = CacheSnapshot(Epoch())
    decided = verify.decide(request, reader, snapshot)
    cached = verify.evaluate(request, reader, verify.CacheOnly(snapshot))
    assert cached == decided, "the fast path and the slow path give the same answer"
    return decided


def status(*args, **kwargs):
    decided = answer(*args, **kwargs)
    if decided.status == 403:
        assert json.loads(decided.body)["code"] == "cross-origin"
    return decided.status


FOREIGN = {
    "another host": lines(origin="https://evil.example"),
    "a sibling host": lines(origin="https://app.example.com"),
    "the parent host": lines(origin="https://example.com"),
    "another port": lines(origin="https://api.example.com:8443"),
    "http beside https": lines(origin="http://api.example.com"),
    "SkyAuth's own host": lines(origin="https://auth.example.com"),
    "an opaque origin": lines(origin="null"),
    "nothing": lines(origin=""),
    "no scheme": lines(origin="api.example.com"),
    "another scheme": lines(origin="file://api.example.com"),
    "an extension": lines(origin="chrome-extension://abcdefghijklmnop"),
    "a path": lines(origin="https://api.example.com/"),
    "user information": lines(origin="https://api.example.com@evil.example"),
    "a list": lines(origin="https://api.example.com https://evil.example"),
    "two origins": [*lines(origin=OWN), *lines(origin="https://evil.example")],
    "not ASCII": [(b"origin", b"https://api.example.com\xff")],
    "a page of another site": lines(sec_fetch_site="cross-site"),
    "a page of the same site": lines(sec_fetch_site="same-site"),
    "a site of another word": lines(sec_fetch_site="sibling"),
    "another site, which claims this origin": lines(origin=OWN, sec_fetch_site="same-site"),
    "this site, from another origin": lines(origin="https://app.example.com", sec_fetch_site="same-origin"),
}
NATIVE = {
    "no browser": [],
    "the same origin": lines(origin=OWN),
    "the same origin with its port": lines(origin="https://api.example.com:443"),
    "the same site": lines(origin=OWN, sec_fetch_site="same-origin"),
    "a typed address": lines(sec_fetch_site="none"),
}


@pytest.mark.parametrize("caller", ["session", "basic", "shared", "proxy"])
@pytest.mark.parametrize("sent", FOREIGN.values(), ids=FOREIGN)
def test_promise_52_a_write_of_a_foreign_page_is_refused(as_bob, caller, sent):
    assert status(as_bob[caller], sent) == 403


@pytest.mark.parametrize("sent", FOREIGN.values(), ids=FOREIGN)
def test_promise_52_a_foreign_page_opens_no_websocket(as_bob, sent):
    assert status(as_bob["session"], [*sent, *WEBSOCKET], "GET") == 403


@pytest.mark.parametrize(
    "handshake",
    [
        WEBSOCKET,
        WEBSOCKET[:1],
        WEBSOCKET[1:],
        lines(upgrade="websocket"),
        lines(upgrade="h2c, WebSocket"),
        lines(sec_fetch_mode="websocket"),
    ],
)
def test_promise_52_a_handshake_is_recognized_by_each_of_its_headers(as_bob, handshake):
    assert status(as_bob["basic"], [*lines(origin="https://app.example.com"), *handshake], "GET") == 403
    assert status(as_bob["basic"], [*lines(origin=OWN), *handshake], "GET") == 200


@pytest.mark.parametrize("caller", ["session", "basic", "shared", "proxy"])
@pytest.mark.parametrize("sent", NATIVE.values(), ids=NATIVE)
def test_the_own_pages_and_other_clients_can_write_and_open_websockets(as_bob, caller, sent):
    assert status(as_bob[caller], sent) == 200
    assert status(as_bob[caller], [*sent, *WEBSOCKET], "GET") == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_promise_52_every_method_but_the_safe_ones_is_a_write(as_bob, method):
    assert status(as_bob["session"], FOREIGN["a sibling host"], method) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_foreign_page_can_link_to_the_api(as_bob, method):
    """The upstream's CORS headers decide what such a page can read; the proxy removes them."""
    assert status(as_bob["session"], FOREIGN["a page of another site"], method) == 200


@pytest.mark.parametrize("sent", FOREIGN.values(), ids=FOREIGN)
def test_a_token_is_never_sent_by_itself_so_any_page_that_has_it_can_use_it(as_bob, sent):
    assert status(as_bob["token"], sent) == 200
    assert status(as_bob["token"], [*sent, *WEBSOCKET], "GET") == 200


def test_an_anonymous_caller_gets_401_as_without_an_origin(as_bob):
    assert status(([], None), FOREIGN["another host"]) == 401


@pytest.mark.parametrize("reader", [x_forwarded, x_original, envoy])
def test_promise_52_every_endpoint_compares_with_the_host_that_it_reads(as_bob, reader):
    assert status(as_bob["session"], lines(origin="https://evil.example"), reader=reader) == 403
    assert status(as_bob["session"], lines(origin=OWN), reader=reader) == 200


@pytest.mark.parametrize(
    ("origin", "forwarded", "expected"),
    [
        ("http://api.example.com", {"proto": "http"}, 200),
        ("https://api.example.com", {"proto": "http"}, 200),  # another proxy in front terminates TLS
        ("https://api.example.com", {"proto": None}, 200),
        ("http://api.example.com", {"proto": None}, 403),
        ("http://api.example.com:8080", {"proto": "http", "host": "api.example.com:8080"}, 200),
        ("http://api.example.com:8080", {"proto": "http", "host": "api.example.com"}, 403),
        ("http://api.example.com:8080", {"proto": "http", "host": "API.example.com.:8080"}, 200),
        ("http://[2001:db8::1]:80", {"proto": "http", "host": "[2001:db8::1]"}, 200),
        ("https://auth.example.com", {"host": "auth.example.com"}, 200),
    ],
)
def test_the_own_origin_is_scheme_host_and_port_of_the_original_request(as_bob, origin, forwarded, expected):
    assert status(as_bob["session"], lines(origin=origin), **forwarded) == expected


@pytest.mark.parametrize(
    ("public_url", "origin", "expected"),
    [
        ("https://api.example.com:8443", "https://api.example.com:8443", 200),
        ("https://auth.example.com:8443", "https://auth.example.com:8443", 403),
    ],
)
def test_public_url_has_the_port_of_a_host_that_a_proxy_sends_without_it(as_bob, settings, public_url, origin, expected):
    settings.PUBLIC_URL = public_url
    assert status(as_bob["session"], lines(origin=origin)) == expected


def test_a_refusal_says_why_and_is_recorded_without_the_foreign_origin(as_bob):
    refusal = json.loads(answer(as_bob["session"], FOREIGN["another host"]).body)
    assert refusal["detail"] == "A page of another origin sent this request with a credential of its visitor."
    entry = Entry.objects.get(reference=refusal["decision"])
    assert (entry.actor, entry.reason.partition(":")[0]) == ("bob@example.com", "cross-origin")
    assert "evil" not in str(vars(entry))
    denial = past_denial(entry.reference, current=current_principal)
    assert (denial.reason, denial.now, denial.now_unknown) == (
        "cross-origin",
        None,
        "It depends on the page that sends the request.",
    )


def test_an_untrusted_peers_request_is_refused_before_its_origin_is_read(as_bob):
    request = AuthRequest([*as_bob["session"][0], *lines(origin="https://evil.example")], ProxyInfo(), "POST")
    assert json.loads(verify.decide(request).body)["code"] == "unreadable-target"
