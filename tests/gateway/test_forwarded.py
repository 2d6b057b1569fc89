"""What the proxy says of the original request: all of it, once, unmistakably, or nothing."""

from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.trust import Proxied
from gateway.forwarded import Unreadable, canonical_host, read
from rbac.routes import Target, valid_host
from tests.asking import proxied

GOOD = {"method": "GET", "host": "api.example.com", "uri": "/a/b?c=d"}


def said(**changes):
    values = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return Proxied(trusted=True, forwarded=MappingProxyType(values))


def test_method_host_and_path_make_the_target():
    assert read(said()) == Target("GET", "api.example.com", ("a", "b"), "/a/b")
    assert read(said(host="API.Example.com.:8443")).host == "api.example.com"


def test_promise_01_what_an_untrusted_peer_says_is_not_read():
    with pytest.raises(Unreadable, match="TRUSTED_PROXIES"):
        read(Proxied(trusted=False, forwarded=MappingProxyType(GOOD)))


@pytest.mark.parametrize("name", ["method", "host", "uri"])
@pytest.mark.parametrize("value", [None, ""])
def test_promise_25_what_the_proxy_did_not_send_is_not_guessed(name, value):
    with pytest.raises(Unreadable, match=f"X-Forwarded-{name.capitalize()}"):
        read(said(**{name: value}))


@pytest.mark.parametrize("name", ["method", "host", "uri", "proto"])
def test_promise_04_what_came_more_than_once_is_refused(name):
    with pytest.raises(Unreadable, match=f"X-Forwarded-{name.capitalize()} is repeated"):
        read(Proxied(trusted=True, forwarded=MappingProxyType(GOOD), repeated=frozenset({name})))


@pytest.mark.parametrize("method", ["get", "GETz", "GET ", "G", "GET,POST", "M-SEARCH", "*"])
def test_promise_25_an_odd_method_is_refused(method):
    with pytest.raises(Unreadable, match="Method"):
        read(said(method=method))


@pytest.mark.parametrize("uri", ["//a", "/a/../b", "/a%2fb", "http://evil.example/a", "/a#b", "a", "*"])
def test_promise_23_an_ambiguous_path_is_refused_with_the_reason(uri):
    with pytest.raises(Unreadable, match="path"):
        read(said(uri=uri))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("api.example.com", "api.example.com"),
        ("API.EXAMPLE.COM", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("api.example.com:443", "api.example.com"),
        ("api.example.com.:443", "api.example.com"),
        ("api.example.com:", "api.example.com"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[2001:db8::1]:80", "[2001:db8::1]"),
        ("localhost", "localhost"),
    ],
)
def test_promise_26_a_host_has_one_spelling(text, host):
    assert canonical_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        ".",
        "a..",
        "a:b",
        "a:80:80",
        "a:-1",
        "a:8 0",
        "a:\u0663",
        "2001:db8::1",
        "::1",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1].",
        "a/b",
        "a@b",
        "user@a:80",
        "a,b",
        "a b",
        "a\n",
        " a",
        "a%2e",
        "a_b",
        "é.example",
        "\u212aube.example",
        "*",
    ],
)
def test_promise_26_what_is_no_host_is_refused(text):
    with pytest.raises(Unreadable, match="Host"):
        canonical_host(text)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.from_regex(r"\A[A-Za-z0-9.\-\[\]:]{0,30}\Z")))
def test_a_host_is_refused_or_canonical(text):
    try:
        host = canonical_host(text)
    except Unreadable:
        return
    assert valid_host(host)
    assert canonical_host(host) == host
    assert canonical_host(text.upper()) == host


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.one_of(st.sampled_from(["GET", "POST"]), st.text(max_size=8)),
            "host": st.one_of(st.just("h"), st.text(max_size=12)),
            "uri": st.one_of(st.just("/a"), st.text(max_size=12).map(lambda text: "/" + text)),
        },
    )
)
def test_reading_raises_nothing_but_unreadable(values):
    try:
        target = read(Proxied(trusted=True, forwarded=MappingProxyType(values)))
    except Unreadable:
        return
    assert target.method == values["method"]
    assert target.text == values["uri"].partition("?")[0]


def test_the_helper_of_these_tests_is_readable():
    assert str(read(proxied("POST", "/x"))) == "POST api.example.com/x"
