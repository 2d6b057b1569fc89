"""The trusted-proxy header filter: which peers it trusts, which headers it removes, and what it returns of them."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authn.proxy_header_middleware import OVERSIZED_KEY, SCOPE_KEY, ProxyHeaderMiddleware, policy_from_settings
from authn.proxy_headers import MAX_FIELDS, MAX_SECTION, ProxyInfo, TrustPolicy, filter_headers, fold, parse_networks

POLICY = TrustPolicy(
    parse_networks(["10.0.0.0/8", "192.168.1.5", "fd00::/8"]), subject_header="X-Auth-Request-Email", groups_header="X-My-Groups"
)
GUARDED = [
    b"x-auth-request-email",
    b"x-auth-request-user",
    b"x-auth-request-access-token",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-uri",
    b"x-forwarded-method",
    b"x-forwarded-proto",
    b"x-forwarded-anything",
    b"x-original-url",
    b"x-original-uri",
    b"x-envoy-external-address",
    b"x-my-groups",
    b"forwarded",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"remote-user",
    b"x-remote-user",
    b"x-rewrite-url",
]


def test_the_peers_of_a_unix_socket_are_trusted_only_by_name() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-method", b"GET")]
    by_name = TrustPolicy(parse_networks(["unix", "10.0.0.0/8"]), unix=True)
    assert by_name.networks == parse_networks(["10.0.0.0/8"])
    assert filter_headers(headers, "unix", by_name).proxied.client == "203.0.113.9"
    for peer, policy in ((None, by_name), ("", by_name), ("unix", POLICY), ("unix", TrustPolicy())):
        assert not filter_headers(headers, peer, policy).proxied.trusted
    assert filter_headers([(b"x-forwarded-for", b"203.0.113.9, unix")], "10.0.0.1", by_name).proxied.client == "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("192.168.1.5", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),  # a dual-stack socket reports IPv4 peers so
        ("::FFFF:0a00:0001", True),
        ("11.0.0.1", False),
        ("192.168.1.6", False),
        ("::ffff:192.0.2.1", False),
        ("::10.0.0.1", False),  # IPv4-compatible is not IPv4-mapped
        ("fe80::1%eth0", False),
        ("10.0.0.1:4711", False),
        ("010.0.0.1", False),
        ("localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_promise_01_a_proxy_is_trusted_by_the_sockets_peer_only(peer, trusted):
    headers = [(b"x-auth-request-email", b"alice@example.com"), (b"x-forwarded-for", b"10.0.0.1"), (b"accept", b"*/*")]
    admitted = filter_headers(headers, peer, POLICY)
    assert admitted.headers == [(b"accept", b"*/*")]
    assert admitted.proxied.trusted is trusted
    assert admitted.proxied.subject == ("alice@example.com" if trusted else None)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::192.0.2.1", "::c000:201"),
        ("@unix", "@unix"),
        ("", ""),
        (None, ""),
    ],
)
def test_promise_22_a_peer_has_one_spelling_on_every_kind_of_socket(peer, address):
    found = filter_headers([], peer, POLICY).proxied
    assert (found.peer, found.client) == (address, address)


@pytest.mark.parametrize("network", ["::ffff:172.16.0.1", "::ffff:172.16.0.0/108", "172.16.0.0/12"])
def test_promise_01_a_mapped_network_of_trusted_proxies_is_the_ipv4_network(network):
    policy = TrustPolicy(parse_networks([network]))
    assert [policy.trusts[peer] for peer in ("172.16.0.1", "::ffff:172.16.0.1", "172.32.0.1", "::")] == [True, True, False, False]


def test_promise_02_default_settings_trust_no_proxy(settings):
    settings.TRUSTED_PROXIES, settings.AUTH_USER_HEADER_FORMAT = [], "off"
    policy = policy_from_settings()
    assert policy == TrustPolicy()
    for peer in ("127.0.0.1", "::1", "10.0.0.1", "172.17.0.1"):
        found = filter_headers([(b"x-auth-request-email", b"alice@example.com"), (b"x-forwarded-uri", b"/")], peer, policy)
        assert found.headers == []
        assert found.proxied == ProxyInfo(peer=peer, client=peer)


@pytest.mark.parametrize("format_", ["off", "plaintext", "jwt"])
def test_the_user_header_is_read_only_where_a_format_is_set(settings, format_):
    settings.TRUSTED_PROXIES, settings.AUTH_USER_HEADER_FORMAT = ["10.0.0.0/8"], format_
    settings.AUTH_USER_HEADER, settings.AUTH_GROUPS_HEADER = "X-Who", "X-Groups"
    policy = policy_from_settings()
    assert policy.subject_header == ("" if format_ == "off" else "X-Who")
    found = filter_headers([(b"x-who", b"a@example.com"), (b"x-groups", b"dev")], "10.0.0.1", policy).proxied
    assert (found.subject, found.groups) == ((None, None) if format_ == "off" else ("a@example.com", "dev"))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example.com", "", "10.0.0", "*", "10.0.0.0/8;"])
def test_a_bad_network_is_named(text):
    with pytest.raises(ValueError, match="is not an address or a network") as raised:
        parse_networks(["10.0.0.0/8", text])
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    "alias", [b"X_Auth_Request_Email", b"x.auth.request.email", b"X-Auth_Request.Email", b"x_auth-request-email"]
)
@pytest.mark.parametrize("peer", ["10.0.0.1", "192.0.2.1"])
def test_promise_03_an_alias_spelling_never_names_the_user(alias, peer):
    alone = filter_headers([(alias, b"mallory@example.com")], peer, POLICY)
    assert alone.headers == []
    assert alone.proxied.subject is None
    assert alone.proxied.fault == ""
    beside = filter_headers(
        [(alias, b"mallory@example.com"), (b"x-auth-request-email", b"alice@example.com")], "10.0.0.1", POLICY
    )
    assert beside.proxied.subject == "alice@example.com"


@pytest.mark.parametrize(
    "values",
    [
        [b"alice@example.com", b"mallory@example.com"],
        [b"alice@example.com", b"alice@example.com"],
        [b"", b"alice@example.com"],
        [b"a@example.com"] * 5,
    ],
)
def test_promise_04_a_repeated_identity_header_is_a_bad_credential(values):
    found = filter_headers([(b"X-Auth-Request-Email", value) for value in values], "10.0.0.1", POLICY).proxied
    assert (found.fault, found.subject) == ("the identity header is repeated", None)
    assert found.claimed == b", ".join(values).decode()


GROUP_FAULTS = {
    "repeated": ([b"dev", b"ops"], "the groups header is repeated"),
    "repeated and empty": ([b"", b"dev"], "the groups header is repeated"),
    "not UTF-8": ([b"dev,\xe9quipe"], "the groups header is not UTF-8"),
    "a cut character": ([b"dev,\xc3"], "the groups header is not UTF-8"),
}


@pytest.mark.parametrize(("values", "fault"), GROUP_FAULTS.values(), ids=GROUP_FAULTS)
def test_a_fault_in_the_groups_header_costs_the_groups_and_not_the_user(values, fault):
    lines = [(b"x-auth-request-email", b"a@example.com"), *((b"X-My-Groups", value) for value in values)]
    found = filter_headers(lines, "10.0.0.1", POLICY).proxied
    assert (found.subject, found.fault) == ("a@example.com", "")
    assert (found.groups, found.groups_fault) == (None, fault)


@pytest.mark.parametrize("value", [b"a@example.com,b@example.com", b"a@example.com,", b",", b"a@example.com, "])
def test_promise_04_an_identity_header_with_a_comma_is_a_bad_credential(value):
    assert "comma" in filter_headers([(b"x-auth-request-email", value)], "10.0.0.1", POLICY).proxied.fault


def test_the_groups_header_can_contain_commas():
    found = filter_headers(
        [(b"x-auth-request-email", b"a@example.com"), (b"x-my-groups", b"dev, ops")], "10.0.0.1", POLICY
    ).proxied
    assert (found.fault, found.groups) == ("", "dev, ops")


@pytest.mark.parametrize("value", [b"\xff\xfe", b"alic\xe9@example.com"])
def test_an_identity_header_that_is_not_utf_8_is_a_bad_credential(value):
    found = filter_headers([(b"x-auth-request-email", value)], "10.0.0.1", POLICY).proxied
    assert (found.subject, found.fault) == (None, "the identity header is not UTF-8")
    assert "\ufffd" in found.claimed


def test_identity_headers_are_utf_8():
    lines = [(b"x-auth-request-email", "alice@bücher.example".encode()), (b"x-my-groups", "équipe".encode())]
    found = filter_headers(lines, "10.0.0.1", POLICY).proxied
    assert (found.subject, found.groups, found.fault) == ("alice@bücher.example", "équipe", "")


def test_an_empty_identity_header_names_nobody():
    found = filter_headers([(b"x-auth-request-email", b""), (b"x-my-groups", b"")], "10.0.0.1", POLICY).proxied
    assert (found.subject, found.groups, found.fault) == (None, "", "")


def test_repeated_and_non_ascii_forwarding_headers_are_reported_and_not_used():
    found = filter_headers(
        [
            (b"x-forwarded-method", b"GET"),
            (b"X-Forwarded-Uri", b"/a"),
            (b"x-forwarded-uri", b"/b"),
            (b"x-forwarded-host", "é".encode()),
            (b"x_forwarded_proto", b"https"),
        ],
        "10.0.0.1",
        POLICY,
    ).proxied
    assert dict(found.forwarded) == {"method": "GET"}
    assert found.repeated == {"uri", "host"}


def test_the_forwarded_values_are_read_only():
    found = filter_headers([(b"x-forwarded-method", b"GET")], "10.0.0.1", POLICY).proxied
    with pytest.raises(TypeError):
        found.forwarded["method"] = "POST"


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], "10.0.0.1"),
        ([b""], "10.0.0.1"),
        ([b"192.0.2.7"], "192.0.2.7"),
        ([b"198.51.100.9, 192.0.2.7"], "192.0.2.7"),  # what stands further left is the client's own word
        ([b"198.51.100.9, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ([b"198.51.100.9", b"192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([b"192.0.2.7, garbage"], "10.0.0.1"),
        ([b"192.0.2.7, garbage, 10.0.0.2"], "10.0.0.2"),
        # Application Gateway and other load balancers of Azure add the port.
        ([b"192.0.2.7:4711"], "192.0.2.7"),
        ([b"192.0.2.7:4711, 10.0.0.2:80"], "192.0.2.7"),
        ([b"198.51.100.9:1, 192.0.2.7:65535, 10.0.0.2"], "192.0.2.7"),
        ([b"[2001:db8::1]:51234"], "2001:db8::1"),
        ([b"[2001:DB8::1]"], "2001:db8::1"),
        ([b"[::ffff:192.0.2.7]:51234"], "192.0.2.7"),
        ([b"::ffff:192.0.2.7"], "192.0.2.7"),
        ([b"192.0.2.7, ::ffff:10.0.0.9"], "192.0.2.7"),
        ([b"::ffff:10.0.0.9"], "10.0.0.9"),
        ([b"2001:db8::1:5123"], "2001:db8::1:5123"),  # without brackets, all of it is the address
        ([b"2001:db8::1:51234"], "10.0.0.1"),
        ([b"192.0.2.7:"], "10.0.0.1"),
        ([b"192.0.2.7:port"], "10.0.0.1"),
        ([b"192.0.2.7:123456"], "10.0.0.1"),
        ([b"192.0.2.7:80:80"], "10.0.0.1"),
        ([b"192.0.2.7 :80"], "10.0.0.1"),
        ([b"[192.0.2.7]:80"], "10.0.0.1"),
        ([b"[192.0.2.7]"], "10.0.0.1"),
        ([b"[2001:db8::1"], "10.0.0.1"),
        ([b"[2001:db8::1]x"], "10.0.0.1"),
        ([b"[2001:db8::1]51234"], "10.0.0.1"),
        ([b"[[2001:db8::1]]"], "10.0.0.1"),
        ([b"[fe80::1%eth0]:80"], "10.0.0.1"),
        ([b"010.0.0.1"], "10.0.0.1"),
        ([b"192.0.2.7/32"], "10.0.0.1"),
        ([b"0x7f000001"], "10.0.0.1"),
        ([b"for=192.0.2.7"], "10.0.0.1"),
        ([b'"[2001:db8::1]:80"'], "10.0.0.1"),
        ([b"192.0.2.7:\xd9\xa1"], "10.0.0.1"),
        ([b"client.example.com"], "10.0.0.1"),
        ([b"_hidden"], "10.0.0.1"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"2001:DB8:0::1, ::ffff:10.0.0.9"], "2001:db8::1"),
        ([b" , ,192.0.2.7, "], "192.0.2.7"),
        ([b"\xff\xfe"], "10.0.0.1"),
        ([b"unknown"], "10.0.0.1"),
        ([b"192.0.2.7, fe80::1%" + b"z" * 80], "10.0.0.1"),
    ],
)
def test_promise_22_the_clients_address_is_the_nearest_untrusted_one(values, client):
    headers = [(b"x-forwarded-for", value) for value in values]
    assert filter_headers(headers, "10.0.0.1", POLICY).proxied.client == client


def test_promise_22_an_untrusted_peer_cannot_choose_its_address():
    found = filter_headers([(b"x-forwarded-for", b"198.51.100.9"), (b"forwarded", b"for=198.51.100.9")], "192.0.2.7", POLICY)
    assert found.proxied.client == "192.0.2.7"
    assert found.headers == []


@pytest.mark.parametrize(
    ("headers", "oversized"),
    [
        ([(b"a", b"b")] * MAX_FIELDS, False),
        ([(b"a", b"b")] * (MAX_FIELDS + 1), True),
        ([(b"a", b"b" * (MAX_SECTION - 5))], False),
        ([(b"a", b"b" * (MAX_SECTION - 4))], True),
        ([(b"x_forwarded_x", b"b" * MAX_SECTION)], True),
        ([], False),
    ],
)
def test_an_oversized_header_section_is_detected_from_every_peer(headers, oversized):
    for peer in ("10.0.0.1", "192.0.2.7"):
        assert filter_headers(headers, peer, POLICY).oversized is oversized


def test_other_headers_keep_order_spelling_and_repeats():
    headers = [(b"X-One", b"1"), (b"x_two", b"2"), (b"Authorization", b"a"), (b"authorization", b"b"), (b"xforwarded-for", b"3")]
    assert filter_headers(headers, "10.0.0.1", POLICY).headers == headers


@st.composite
def spellings(draw):
    """A guarded header in any mix of case and separators."""
    name = draw(st.sampled_from(GUARDED))
    return bytes(
        draw(st.sampled_from(b"-_.")) if byte == ord("-") else draw(st.sampled_from([byte, *bytes((byte,)).upper()]))
        for byte in name
    )


@settings(deadline=None)
@given(
    names=st.lists(st.tuples(spellings(), st.binary(max_size=30)), max_size=8),
    others=st.lists(st.tuples(st.sampled_from([b"accept", b"Cookie", b"x-request-id"]), st.binary(max_size=9)), max_size=4),
    peer=st.sampled_from(["10.0.0.1", "192.0.2.1", "::1", ""]),
)
def test_promise_03_no_spelling_of_a_guarded_header_passes_the_filter(names, others, peer):
    admitted = filter_headers([*names, *others], peer, POLICY)
    assert admitted.headers == others
    assert all(fold(name) not in GUARDED for name, _ in admitted.headers)
    exact = [value for name, value in names if name.lower() == b"x-auth-request-email"]
    if peer != "10.0.0.1" or len(exact) != 1:
        assert admitted.proxied.subject is None
    elif admitted.proxied.subject is not None:
        assert admitted.proxied.subject.encode("ascii") == exact[0]


@settings(deadline=None)
@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=12)), max_size=6))
def test_the_clients_address_is_always_an_address(hops):
    value = ",".join(hops).encode("utf-8")
    ipaddress.ip_address(filter_headers([(b"x-forwarded-for", value)], "10.0.0.1", POLICY).proxied.client)


class Inner:
    """An application that keeps what it was called with."""

    def __init__(self) -> None:
        self.scope = None

    async def __call__(self, scope, receive, send) -> None:
        self.scope = scope


def filtered_scope(**scope):
    """Return the scope behind the header filter. It awaits nothing, so it needs no event loop."""
    inner = Inner()
    call = ProxyHeaderMiddleware(inner, POLICY)({"type": "http", "headers": [], "scheme": "http", **scope}, None, None)
    with pytest.raises(StopIteration):
        call.send(None)
    return inner.scope


def test_the_filter_passes_the_kept_headers_and_the_proxy_info_on():
    scope = {"headers": [(b"x-auth-request-email", b"a@example.com"), (b"accept", b"*/*")], "client": ("10.0.0.1", 5)}
    seen = filtered_scope(**scope)
    assert seen["headers"] == [(b"accept", b"*/*")]
    assert seen[SCOPE_KEY].subject == "a@example.com"
    assert seen[OVERSIZED_KEY] is False
    assert scope["headers"][0][0] == b"x-auth-request-email", "the server's own scope is left alone"


@pytest.mark.parametrize(
    ("client", "proto", "scheme"),
    [
        (("10.0.0.1", 5), b"https", "https"),
        (("10.0.0.1", 5), b"gopher", "http"),
        (("192.0.2.1", 5), b"https", "http"),
        (None, b"https", "http"),
    ],
)
def test_the_scheme_is_the_trusted_proxys(client, proto, scheme):
    assert filtered_scope(client=client, headers=[(b"x-forwarded-proto", proto)])["scheme"] == scheme


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_the_filter_supports_http_only(kind):
    with pytest.raises(ValueError, match=f"does not support {kind}"):
        ProxyHeaderMiddleware(Inner(), POLICY)({"type": kind, "headers": []}, None, None).send(None)


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        ([b"https"], "https"),
        ([b"HTTP"], "http"),
        ([b"https,http"], "https"),
        ([b"https, http"], "https"),
        ([b"http,https"], "http"),
        ([b"wss"], "https"),
        ([b"ws"], "http"),
        ([b"wss,http"], "https"),
        ([b""], ""),
        ([b"ftp"], ""),
        ([b",https"], ""),
        ([b"https;http"], ""),
        ([b"https", b"http"], None),
        ([b"https\xff"], None),
    ],
)
def test_the_scheme_is_the_first_of_a_chain_of_proxies_or_unknown(values, scheme):
    policy = TrustPolicy(parse_networks(["10.0.0.0/8"]))
    found = filter_headers([(b"x-forwarded-proto", value) for value in values], "10.0.0.1", policy).proxied
    assert found.forwarded.get("proto") == scheme
    assert found.repeated == (frozenset() if scheme is not None else {"proto"})
