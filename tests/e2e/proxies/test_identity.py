"""Who is let through each proxy and as whom, who is not, and that a refusal arrives as SkyAuth wrote it."""

import re

import jwt
import pytest

from accounts import token_format
from tests.e2e.conftest import SHARED_PASSWORD
from tests.e2e.proxies.conftest import ADMIN, USER, Gateway
from tests.factories import PASSWORD
from tests.http_client import ask, basic, bearer, session_key

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]


def test_a_token_goes_through_and_the_upstream_reads_who_it_is(gateway: Gateway, pipeline: str) -> None:
    arrived = gateway.told(bearer(pipeline), ("X-Skypilot-Auth-Mode", "token"), target="/v1/things?page=2", method="POST")
    told = gateway.identity(arrived)
    assert told == {"email": f"pipeline@{told['user']}", "user": told["user"], "groups": "", "role": "user", "method": "bearer"}
    assert re.fullmatch(r"sa-[0-9a-f]{16}", told["user"])
    assert (arrived.method, arrived.target) == ("POST", "/v1/things?page=2")
    assert not arrived.all("Authorization")
    assert not arrived.all("X-Skypilot-Auth-Mode")
    assert pipeline not in repr(arrived)


def test_a_password_goes_through(gateway: Gateway) -> None:
    arrived = gateway.told(basic(USER, PASSWORD), method="POST")
    told = gateway.identity(arrived)
    assert (told["email"], told["role"], told["method"]) == (USER, "user", "basic")
    assert not arrived.all("Authorization")


def test_the_shared_password_goes_through_without_an_identity(gateway: Gateway) -> None:
    told = gateway.identity(gateway.told(basic("team", SHARED_PASSWORD), method="POST"))
    assert told == {"email": "", "user": "", "groups": "", "role": "", "method": "shared"}


def test_a_session_goes_through_and_its_cookie_does_not(gateway: Gateway) -> None:
    key = session_key(gateway.ground.skyauth.port, ADMIN, PASSWORD)
    arrived = gateway.told(("Cookie", f"theme=dark; skyauth={key}"), method="POST")
    told = gateway.identity(arrived)
    assert (told["email"], told["role"], told["method"]) == (ADMIN, "admin", "session")
    assert key not in repr(arrived)
    assert "".join(arrived.all("Cookie")) == ("theme=dark" if gateway.differs.keeps_cookies else "")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("skyauth=SECRET", ""),
        ("a=1; skyauth=SECRET; b=2", "a=1; b=2"),
        ("skyauth=SECRET; b=2", "b=2"),
        ("a=1; __Host-skyauth=SECRET; skyauth-csrf=SECRET", "a=1"),
        ("a=1;skyauth=SECRET;__Host-skyauth-csrf=SECRET", "a=1"),
        ("skyauth=SECRET; skyauth=SECRET; skyauth=SECRET; a=1; skyauth=SECRET", "a=1"),
        ("a=1; b=2; skyauth =SECRET", "a=1; b=2"),
        ("skyauth=SECRET;", ""),
    ],
)
def test_skyauths_own_cookies_never_reach_the_upstream(gateway: Gateway, pipeline: str, sent: str, kept: str) -> None:
    arrived = "".join(gateway.told(bearer(pipeline), ("Cookie", sent)).all("Cookie"))
    assert arrived == (kept if gateway.differs.keeps_cookies else "")


@pytest.mark.parametrize("sent", ["a=1", "a=1; b=2", "myskyauth=1; skyauthy=2", "a=skyauth"])
def test_other_cookies_do(gateway: Gateway, pipeline: str, sent: str) -> None:
    assert gateway.told(bearer(pipeline), ("Cookie", sent)).all("Cookie") == [sent]


def test_cookies_on_two_lines_hide_none_of_skyauths(gateway: Gateway, pipeline: str) -> None:
    arrived = gateway.told(bearer(pipeline), ("Cookie", "a=1"), ("Cookie", "skyauth=SECRET"), ("Cookie", "b=2; skyauth=SECRET"))
    assert "SECRET" not in repr(arrived)


def test_without_a_credential_the_answer_is_401_with_both_challenges(gateway: Gateway) -> None:
    reply = gateway.refused()
    assert reply.status == 401
    assert reply.all("WWW-Authenticate") == ['Basic realm="SkyAuth", charset="UTF-8"', 'Bearer realm="SkyAuth"']
    assert reply.header("Content-Type") == "application/problem+json"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.json["code"] == "unauthenticated"
    assert not [name for name, _ in reply.headers if name.lower().startswith("x-auth-request-")]


@pytest.mark.parametrize(
    "credential",
    [
        bearer(token_format.mint().plaintext), bearer("sky_"), bearer("sky_" + "A" * 8_000), bearer(b"sky_\xff"),
        ("Authorization", ""), ("Authorization", "Negotiate abc"), basic(USER, "wrong"), basic("nobody@example.com", PASSWORD),
        ("Cookie", "skyauth=0123456789abcdef0123456789abcdef"),
    ],
    ids=["unknown", "short", "long", "not ASCII", "empty", "of another scheme", "wrong", "nobody's", "no session"],
)  # fmt: skip
def test_a_bad_credential_is_401(gateway: Gateway, credential: tuple[str, str | bytes]) -> None:
    assert gateway.refused(credential).status == 401


def test_two_credentials_are_refused(gateway: Gateway, pipeline: str, reader: str) -> None:
    assert gateway.refused(bearer(pipeline), bearer(reader)).status in {400, 401}


def test_what_a_role_may_not_do_is_403_and_told_why(gateway: Gateway, reader: str) -> None:
    reply = gateway.refused(bearer(reader), method="POST")
    assert reply.status == 403
    assert reply.header("Content-Type") == "application/problem+json"
    assert (reply.json["code"], reply.json["needed"]) == ("not-permitted", "upstream:write")


def test_a_token_that_is_revoked_is_refused_on_the_next_request(gateway: Gateway) -> None:
    console = gateway.ground.skyauth.console
    token = console("issue", account="reader")
    gateway.told(bearer(token))
    console("revoke", token=token)
    assert gateway.refused(bearer(token)).status == 401


REFUSALS = {
    "a redirect": (302, [("Location", "/login?next=%2Fv1%2Fthings"), ("Cache-Control", "no-store")], b""),
    "a page": (
        403,
        [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'self'"),
            ("Cache-Control", "no-store"),
        ],
        b"<!doctype html><title>No</title>" + b"x" * 20_000,
    ),
    "challenges": (401, [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer"), ("Content-Type", "text/html")], b"<p>"),
    "trouble": (503, [("Retry-After", "7"), ("Content-Type", "application/problem+json")], b"{}"),
}


@pytest.mark.parametrize("kind", sorted(REFUSALS))
def test_a_refusal_arrives_as_skyauth_wrote_it(gateway: Gateway, pipeline: str, kind: str) -> None:
    """In SkyAuth's place, the tap: it answers both questions of nginx alike."""
    status, headers, body = REFUSALS[kind]
    identity = [(f"X-Auth-Request-{name}", "secret@example.com") for name in ("Email", "Jwt", "Shared")]
    with gateway.ground.tapped.answering(raw(status, headers + identity, body)):
        reply = gateway.refused(bearer(pipeline))
    assert "secret" not in repr(reply)
    if kind == "trouble" and not gateway.differs.passes_trouble:
        assert (reply.status, reply.json["code"]) == (503, "gateway")
        return
    assert (reply.status, reply.body) == (status, body)
    for name in dict(headers):
        assert reply.all(name) == [value for key, value in headers if key == name]


def raw(status: int, headers: list[tuple[str, str]], body: bytes = b"") -> bytes:
    """Return an answer of SkyAuth's as bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_the_signed_assertion_arrives_and_the_clients_does_not(gateway: Gateway, pipeline: str) -> None:
    key_set = ask(gateway.ground.skyauth.port, "/.well-known/jwks.json").json
    forged = [("X-Auth-Request-Jwt", "forged"), ("x_auth_request_jwt", "forged"), ("Connection", "close, X-Auth-Request-Jwt")]
    arrived = gateway.told(bearer(pipeline), *forged, ("Host", "api.example.com:8080"))
    assert "forged" not in repr(arrived)
    [assertion] = arrived.all("X-Auth-Request-Jwt")
    claims = jwt.decode(assertion, jwt.PyJWKSet.from_dict(key_set).keys[0], ["EdDSA"], audience="api.example.com")
    assert (claims["email"], claims["role"]) == (gateway.identity(arrived)["email"], "user")


def test_a_client_cannot_assert_anything_where_skyauth_does_not(gateway: Gateway) -> None:
    forged = [("X-Auth-Request-Jwt", "forged"), ("Connection", "close, X-Auth-Request-Jwt")]
    with gateway.ground.tapped.answering(raw(200, [("X-Auth-Request-Email", "a@example.com")])):
        assert gateway.told(*forged).all("X-Auth-Request-Jwt") in ([], [""])


def test_an_answer_without_an_identity_leaves_none_of_the_clients(gateway: Gateway) -> None:
    names = ("Email", "User", "Groups", "Role", "Method", "Jwt", "Shared", "Preferred-Username")
    with gateway.ground.tapped.answering(raw(200, [])):
        arrived = gateway.told(*((f"X-Auth-Request-{name}", "evil") for name in names))
    assert "evil" not in repr(arrived)
