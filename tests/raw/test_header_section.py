"""The header section as bytes: what the real server and its header filter do with requests that no client library sends."""

from http.client import HTTPException

import pytest

from tests.http_client import HOST, Reply, bearer, encode, send
from tests.servers import SkyAuth

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]

UNTRUSTED = "127.0.0.2"
ALICE = "alice@example.com"
TARGET = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"))


def verify(
    server: SkyAuth, *headers: tuple[str | bytes, str | bytes], source: str = HOST, target: str = "/authz/verify"
) -> Reply:
    """Send a request with exactly these headers to the verify endpoint."""
    return send(server.port, encode("GET", target, headers), source=source)


def allowed_user(reply: Reply) -> str | None:
    """Return the user of an allowed request, or None."""
    return reply.header("X-Auth-Request-Email") if reply.status == 200 else None


def test_the_exact_header_of_a_trusted_proxy_is_trusted(server: SkyAuth) -> None:
    assert allowed_user(verify(server, *TARGET, ("X-Auth-Request-Email", ALICE))) == ALICE
    assert allowed_user(verify(server, *TARGET, ("x-AUTH-request-EMAIL", ALICE))) == ALICE


def test_promise_1_an_untrusted_peer_can_set_neither_user_nor_path(server: SkyAuth, token: str) -> None:
    assert verify(server, *TARGET, ("X-Auth-Request-Email", ALICE), source=UNTRUSTED).status == 403
    assert verify(server, *TARGET, bearer(token), source=UNTRUSTED).json["code"] == "unreadable-target"


@pytest.mark.parametrize(
    "alias",
    [
        "X_Auth_Request_Email", "X-Auth_Request-Email", "X.Auth.Request.Email", "X-Auth.Request_Email", "x_auth_request_email",
        "HTTP_X_AUTH_REQUEST_EMAIL", "HTTP-X-Auth-Request-Email", "X-Auth-Request-Email-", "X--Auth-Request-Email",
    ],
)  # fmt: skip
def test_promise_3_an_alias_never_sets_the_identity(server: SkyAuth, alias: str) -> None:
    assert verify(server, *TARGET, (alias, ALICE)).status == 401
    assert allowed_user(verify(server, *TARGET, ("X-Auth-Request-Email", ALICE), (alias, "evil@example.com"))) == ALICE


@pytest.mark.parametrize("name", ["Method", "Uri", "Host"])
@pytest.mark.parametrize("spelling", ["X_Forwarded_{}", "X.Forwarded.{}", "X-Forwarded_{}"])
def test_promise_3_an_alias_never_sets_the_original_request(server: SkyAuth, token: str, name: str, spelling: str) -> None:
    others = [header for header in TARGET if not header[0].endswith(name)]
    value = dict(TARGET)[f"X-Forwarded-{name}"]
    reply = verify(server, *others, (spelling.format(name), value), bearer(token))
    assert (reply.status, reply.json["detail"]) == (403, f"The proxy did not send X-Forwarded-{name}.")


@pytest.mark.parametrize("second", [ALICE, "bob@example.com", ""])
def test_promise_4_a_repeated_identity_header_is_refused(server: SkyAuth, second: str) -> None:
    assert verify(server, *TARGET, ("X-Auth-Request-Email", ALICE), ("x-auth-request-email", second)).status == 401


@pytest.mark.parametrize("name", ["Method", "Uri", "Host"])
def test_promise_4_a_repeated_forward_header_is_refused(server: SkyAuth, token: str, name: str) -> None:
    value = dict(TARGET)[f"X-Forwarded-{name}"]
    reply = verify(server, *TARGET, (f"X-Forwarded-{name}", value), bearer(token))
    assert (reply.status, reply.json["detail"]) == (403, f"X-Forwarded-{name} is repeated or not ASCII.")


def test_promise_4_a_repeated_credential_is_refused(server: SkyAuth, token: str) -> None:
    assert verify(server, *TARGET, bearer(token), bearer(token)).status == 401
    assert verify(server, *TARGET, bearer(token), ("authorization", "")).status == 401


@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t"])
def test_a_folded_header_line_sets_neither_user_nor_path(server: SkyAuth, token: str, fold: bytes) -> None:
    assert no_identity(server, *TARGET, ("X-Auth-Request-Email", b"alice@exa" + fold + b"mple.com"))
    forwarded = [*TARGET[:2], ("X-Forwarded-Uri", b"/a" + fold + b"b")]
    assert no_identity(server, *forwarded, bearer(token))


def no_identity(server: SkyAuth, *headers: tuple[str | bytes, str | bytes]) -> bool:
    """Return whether the server refuses a request, with a response or by closing the connection."""
    try:
        reply = verify(server, *headers)
    except (OSError, HTTPException):
        return True
    return reply.status in {400, 401, 403}


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_bare_line_end_in_a_value_adds_no_identity(server: SkyAuth, end: bytes) -> None:
    smuggled = ("X-Comment", b"x" + end + b"X-Auth-Request-Email: evil@example.com")
    assert no_identity(server, *TARGET, ("X-Auth-Request-Email", ALICE), smuggled)


@pytest.mark.parametrize("value", [b"alice@example.com\0", b"\0", b"alice@example.com\x01", b"\x7falice@example.com"])
def test_an_identity_with_a_control_character_is_refused(server: SkyAuth, value: bytes) -> None:
    assert no_identity(server, *TARGET, ("X-Auth-Request-Email", value))


@pytest.mark.parametrize(
    "name", [b"X-Auth-Request-Email ", b"X-Auth-Request-Email\t", b" X-Auth-Request-Email", b"X-Auth-Request-Email\0"]
)
def test_a_header_name_with_a_space_is_no_identity_header(server: SkyAuth, name: bytes) -> None:
    assert no_identity(server, *TARGET, (name, ALICE))


@pytest.mark.parametrize(
    "bulk",
    [
        [("X-Bulk", "x" * 70_000)],
        [("X-Bulk", "x" * 5_000)] * 10,
        [(f"X-Bulk-{n}", "x") for n in range(200)],
        [("Cookie", "a=" + "x" * 40_000)],
        [("X" * 40_000, "x")],
    ],
    ids=["one of 70 kB", "many of 5 kB", "200 fields", "a cookie of 40 kB", "a name of 40 kB"],
)
def test_an_oversized_header_section_is_refused(server: SkyAuth, token: str, bulk: list[tuple[str, str]]) -> None:
    reply = verify(server, *TARGET, bearer(token), *bulk)
    assert (reply.status, reply.json["code"]) == (403, "headers-too-large")
    assert verify(server, bearer(token), *bulk, target="/admin/").status == 431


@pytest.mark.parametrize(
    ("chain", "client", "not_client"),
    [
        (["203.0.113.1"], "203.0.113.1", ""),
        (["198.51.100.1, 203.0.113.2"], "203.0.113.2", "198.51.100.1"),
        (["198.51.100.2", "203.0.113.3"], "203.0.113.3", "198.51.100.2"),
        (["203.0.113.4, 127.0.0.1"], "203.0.113.4", ""),
        (["198.51.100.3, junk, 127.0.0.1"], HOST, "198.51.100.3"),
        (["2001:db8::9"], "2001:db8::9", ""),
        (["198.51.100.4:80"], "198.51.100.4", ""),
        (["198.51.100.5:80, [2001:db8::a]:51234"], "2001:db8::a", "198.51.100.5"),
        (["::ffff:203.0.113.6"], "203.0.113.6", ""),
    ],
)
def test_the_client_is_the_nearest_address_that_is_not_a_trusted_proxy(
    server: SkyAuth, chain: list[str], client: str, not_client: str
) -> None:
    assert verify(server, *TARGET, *[("X-Forwarded-For", hop) for hop in chain], bearer("sky_x")).status == 401
    peers = {entry["peer"] for entry in server.console("refusals")}
    assert client in peers
    assert not_client not in peers


def test_an_untrusted_peer_cannot_choose_its_address(server: SkyAuth) -> None:
    verify(server, *TARGET, ("X-Forwarded-For", "203.0.113.77"), bearer("sky_x"), source=UNTRUSTED)
    peers = {entry["peer"] for entry in server.console("refusals")}
    assert UNTRUSTED in peers
    assert "203.0.113.77" not in peers
