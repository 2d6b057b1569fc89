"""The original request as the proxy sends it: complete, once and unambiguous, or refused."""

from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authn.proxy_headers import ProxyInfo
from gateway.forwarded import ENDPOINTS, AuthRequest, envoy, x_forwarded, x_original
from rbac.targets import Target, UnreadableTarget, _cached, canonical_host, parse_target, valid_host
from tests.verify_client import proxied

GOOD = {"method": "GET", "host": "api.example.com", "uri": "/a/b?c=d"}
FAMILIES = {"Forwarded": ("", x_forwarded), "Original": ("original-", x_original)}


def forwarded(family="Forwarded", **changes):
    values = {FAMILIES[family][0] + key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return AuthRequest([], ProxyInfo(trusted=True, forwarded=MappingProxyType(values)))


def envoy_request(suffix="/a/b?c=d", *, method="GET", hosts=(b"api.example.com",), **changes):
    return AuthRequest([(b"host", host) for host in hosts], ProxyInfo(trusted=True)._replace(**changes), method, suffix)


def read(family, **changes):
    return FAMILIES[family][1](forwarded(family, **changes))


each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_method_host_and_path_make_the_target(family):
    assert read(family) == Target("GET", "api.example.com", ("a", "b"), "/a/b")
    assert read(family, host="API.Example.com.:8443").host == "api.example.com"


def test_envoy_sends_the_target_as_the_request_itself():
    assert envoy(envoy_request()) == Target("GET", "api.example.com", ("a", "b"), "/a/b")
    assert envoy(envoy_request("/", method="PUT", hosts=[b"API.Example.com.:8443"])) == Target(
        "PUT", "api.example.com", ("",), "/"
    )


def test_no_dialect_reads_the_headers_of_another_one():
    for family, (_, other) in (("Original", FAMILIES["Forwarded"]), ("Forwarded", FAMILIES["Original"])):
        with pytest.raises(UnreadableTarget, match="did not send"):
            other(forwarded(family))
    with pytest.raises(UnreadableTarget, match="Host"):
        envoy(forwarded("Forwarded"))


@pytest.mark.parametrize("reader", ENDPOINTS.values())
def test_promise_01_forwarded_headers_of_an_untrusted_peer_are_not_read(reader):
    both = MappingProxyType({**forwarded("Forwarded").proxied.forwarded, **forwarded("Original").proxied.forwarded})
    with pytest.raises(UnreadableTarget, match="TRUSTED_PROXIES"):
        reader(envoy_request(trusted=False, forwarded=both))


@each_family
@pytest.mark.parametrize("name", ["method", "host", "uri"])
@pytest.mark.parametrize("value", [None, ""])
def test_promise_25_a_missing_header_is_not_guessed(family, name, value):
    with pytest.raises(UnreadableTarget, match=f"X-{family}-{name.capitalize()}"):
        read(family, **{name: value})


@pytest.mark.parametrize(
    "request_of_envoy",
    [envoy_request(""), envoy_request(hosts=[]), envoy_request(hosts=[b"a", b"a"]), envoy_request(hosts=["\u212a".encode()])],
)
def test_promise_25_a_missing_path_or_host_of_envoy_is_not_guessed(request_of_envoy):
    with pytest.raises(UnreadableTarget):
        envoy(request_of_envoy)


READ = {"Forwarded": {"method", "host", "uri"}, "Original": {"original-method", "original-host", "original-uri"}, "Envoy": set()}
BOTH = {**forwarded("Forwarded").proxied.forwarded, **forwarded("Original").proxied.forwarded, "proto": "https"}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("family", "reader"), [*((name, reader) for name, (_, reader) in FAMILIES.items()), ("Envoy", envoy)])
def test_promise_04_a_repeated_header_is_refused_where_it_is_read(family, reader, name):
    once = MappingProxyType({key: value for key, value in BOTH.items() if key != name})
    request = envoy_request(forwarded=once, repeated=frozenset({name}))
    if name not in READ[family]:
        assert str(reader(request)) == "GET api.example.com/a/b"
        return
    with pytest.raises(UnreadableTarget, match=f"X-{family}-{name.rpartition('-')[2].capitalize()} is repeated"):
        reader(request)


METHODS = ["get", "GETz", "GET ", "G", "GET,POST", "M-SEARCH", "*"]
PATHS = ["//a", "/a/../b", "/a%2fb", "http://evil.example/a", "/a#b", "a", "*"]


@each_family
@pytest.mark.parametrize("method", METHODS)
def test_promise_25_an_odd_method_is_refused(family, method):
    with pytest.raises(UnreadableTarget, match="method"):
        read(family, method=method)
    with pytest.raises(UnreadableTarget, match="method"):
        envoy(envoy_request(method=method))


@each_family
@pytest.mark.parametrize("uri", PATHS)
def test_promise_23_an_ambiguous_path_is_refused_with_the_reason(family, uri):
    with pytest.raises(UnreadableTarget, match="path"):
        read(family, uri=uri)
    with pytest.raises(UnreadableTarget, match="path"):
        envoy(envoy_request(uri))


def test_promise_24_a_query_matches_no_path_pattern():
    assert envoy(envoy_request("/a?/b/../c//")).path == ("a",)
    assert read("Original", uri="/a?/b/../c//").path == ("a",)


def test_the_cache_of_parsed_targets_is_bounded():
    _cached.cache_clear()
    for path in ("/" + "a/" * 200, "/a"):
        assert parse_target("GET", "h", path).text == path
    assert _cached.cache_info().currsize == 1, "a long path, which may have thousands of segments, is not cached"
    assert _cached.cache_info().maxsize == 4_096


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
def test_promise_26_an_invalid_host_is_refused(text):
    with pytest.raises(UnreadableTarget, match="host"):
        canonical_host(text)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.from_regex(r"\A[A-Za-z0-9.\-\[\]:]{0,30}\Z")))
def test_a_host_is_refused_or_canonical(text):
    try:
        host = canonical_host(text)
    except UnreadableTarget:
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
def test_a_reader_raises_only_unreadable_target(values):
    try:
        target = x_forwarded(AuthRequest([], ProxyInfo(trusted=True, forwarded=MappingProxyType(values))))
    except UnreadableTarget:
        return
    assert target.method == values["method"]
    assert target.text == values["uri"].partition("?")[0]


def test_the_test_helper_makes_a_readable_target():
    assert str(x_forwarded(AuthRequest([], proxied("POST", "/x")))) == "POST api.example.com/x"
