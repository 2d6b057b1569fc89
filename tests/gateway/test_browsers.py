"""Which requests are a browser that opens a page, by the headers that browsers and programs really send."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authn.proxy_headers import ProxyInfo
from core.content_negotiation import prefers_html
from gateway.browsers import page_request
from gateway.forwarded import ENDPOINTS, AuthRequest, OriginalRequest, origin, x_forwarded, x_original
from tests.verify_client import proxied

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
NAVIGATES = [(b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document"), (b"sec-fetch-site", b"none")]


def request_of(accept=CHROME, *lines, method="GET", endpoint=b"/authz/verify"):
    accepts = [] if accept is None else [(b"accept", accept.encode("latin-1"))]
    return AuthRequest([*accepts, *lines], proxied(method, "/a?b=c"), "GET", "", endpoint)


@pytest.mark.parametrize(
    "accept",
    [
        CHROME,
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",  # Firefox, Safari
        "text/html, text/plain, text/sgml, text/css, */*;q=0.01",  # lynx
        "text/html",
        "TEXT/HTML ; Q=0.5, application/json;q=0.4",
        "text/html;charset=utf-8;q=0.9,*/*;q=0.1",
        "application/json;q=0,text/html;q=0.001",
    ],
)
def test_browsers_prefer_a_page(accept):
    assert prefers_html(accept)
    assert page_request(request_of(accept), x_forwarded) == OriginalRequest("GET", "api.example.com", "/a?b=c", "https")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",  # curl, requests, wget, a browser's fetch()
        "application/json",
        "application/json, text/plain, */*",  # axios
        "text/html;q=0",
        "text/html;q=0.0,*/*",
        "text/html;q=0.5,application/json",
        "application/json,text/html",
        "text/html,*/*",
        "text/html;q=0.5,application/*",
        "text/*",
        "text/htmlx",
        "text/html;q=2",
        "text/html;q=0.5555",
        "text/html;q=",
        "text/html;q=nan",
        "text/html;q=-1",
        "text/html," + "a/b," * 300,
        "\xff\xfe",
        ";;;,,,",
    ],
)
def test_programs_get_json(accept):
    assert page_request(request_of(accept), x_forwarded) is None


def test_accept_can_have_several_header_lines():
    assert page_request(request_of("application/xml;q=0.9", (b"accept", b"text/html")), x_forwarded)
    assert page_request(request_of("text/html;q=0.9", (b"accept", b"application/json")), x_forwarded) is None


@pytest.mark.parametrize(
    "line",
    [
        (b"x-requested-with", b"XMLHttpRequest"),
        (b"x-requested-with", b"xmlhttprequest"),
        (b"sec-fetch-mode", b"cors"),
        (b"sec-fetch-mode", b"no-cors"),
        (b"sec-fetch-mode", b"websocket"),
        (b"sec-fetch-dest", b"empty"),
        (b"sec-fetch-dest", b"iframe"),
        (b"sec-fetch-dest", b"script"),
    ],
)
def test_a_script_on_a_page_gets_json(line):
    assert page_request(request_of(CHROME, line), x_forwarded) is None
    assert page_request(request_of(CHROME, *NAVIGATES, line), x_forwarded) is None, "also when another header says otherwise"


def test_a_navigation_gets_a_page():
    assert page_request(request_of(CHROME, *NAVIGATES), x_forwarded)


@pytest.mark.parametrize(("method", "expected"), [("GET", True), ("HEAD", True), ("POST", False), ("get", False), ("", False)])
def test_only_get_and_head_get_a_page(method, expected):
    assert bool(page_request(request_of(method=method), x_forwarded)) is expected


def test_the_first_request_of_nginx_gets_no_page_and_the_second_one_does():
    values = {"original-method": "GET", "original-host": "h", "original-uri": "/x"}
    proxy_info = proxied()._replace(forwarded=values)
    for endpoint, expected in ((b"/authz/nginx", None), (b"/authz/nginx/answer", OriginalRequest("GET", "h", "/x"))):
        assert ENDPOINTS[endpoint] is x_original
        assert page_request(request_of(endpoint=endpoint)._replace(proxied=proxy_info), x_original) == expected


def test_a_request_of_envoy_is_the_original_request():
    request = AuthRequest([(b"accept", CHROME.encode()), (b"host", b"h:8080")], proxied(), "GET", "/x?y", b"/authz/envoy/")
    assert page_request(request, ENDPOINTS[b"/authz/envoy/"]) == OriginalRequest("GET", "h:8080", "/x?y", "https")
    assert page_request(request._replace(method="POST"), ENDPOINTS[b"/authz/envoy/"]) is None


def test_promise_01_forwarded_headers_of_an_untrusted_peer_are_not_shown_on_a_page():
    untrusted = ProxyInfo(forwarded={"method": "GET", "host": "evil.example", "uri": "/"})
    assert page_request(request_of()._replace(proxied=untrusted), x_forwarded) is None
    repeated = proxied()._replace(repeated=frozenset({"host"}))
    assert page_request(request_of()._replace(proxied=repeated), x_forwarded) is None


@settings(deadline=None)
@given(st.text(max_size=80), st.lists(st.tuples(st.sampled_from([b"sec-fetch-mode", b"accept", b"x"]), st.binary(max_size=20))))
def test_no_header_raises_an_error(accept, lines):
    prefers_html(accept)
    page_request(AuthRequest([(b"accept", b"text/html"), *lines], proxied()), x_forwarded)


@pytest.mark.parametrize(
    ("proto", "host", "expected"),
    [
        ("https", "api.example.com", ("https", "api.example.com", 443)),
        ("https", "API.example.com.:443", ("https", "api.example.com", 443)),
        ("http", "api.example.com", ("http", "api.example.com", 80)),
        ("http", "api.example.com:8080", ("http", "api.example.com", 8080)),
        ("http", "[::1]:8080", ("http", "[::1]", 8080)),
        ("HTTPS", "api.example.com", None),
        ("ftp", "api.example.com", None),
        ("", "api.example.com", None),
        ("https", "", None),
        ("https", "a@b", None),
        ("https", "a/b", None),
        ("https", "a,b", None),
        ("https", "a:b", None),
    ],
)
def test_an_origin_has_one_spelling(proto, host, expected):
    assert origin(proto, host) == expected


def test_a_port_of_many_digits_is_not_an_error():
    assert origin("https", "a:" + "4" * 10_000) != origin("https", "a")
