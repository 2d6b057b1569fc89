"""What an auth proxy sends, byte by byte, to the served process: the user keeps the identity, and no role that nobody decided."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.http_client import TARGET, ask
from tests.servers import SkyAuth, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("identities"), pytest.mark.sqlite]

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://idp.example.com"


def mapped(server: SkyAuth) -> SkyAuth:
    """Map the group dev to the role user, and the group root to admin."""
    server.console("create_user", name="admin@example.com", role="admin")
    server.console("map_group", group="dev", role="user", priority=2)
    server.console("map_group", group="root", role="admin", priority=1)
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    """SkyAuth behind a proxy that sends users and groups as text."""
    settings = {
        "AUTH_USER_HEADER_FORMAT": "plaintext",
        "AUTH_GROUPS_HEADER": "X-Auth-Request-Groups",
        "RBAC_DEFAULT_ROLE": "viewer",
    }
    with skyauth_server(**settings) as running:
        yield mapped(running)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SkyAuth]:
    """SkyAuth behind a proxy that sends signed assertions; the key set has one key, without an id."""
    keys: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    keys.write_text(json.dumps({"keys": [ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)]}), encoding="utf-8")
    settings = {
        "AUTH_USER_HEADER_FORMAT": "jwt",
        "AUTH_JWT_JWKS": str(keys),
        "AUTH_JWT_ISSUER": ISSUER,
        "AUTH_JWT_AUDIENCE": "web,skyauth",
        "AUTH_JWT_GROUPS_CLAIM": "realm_access.roles",
        "RBAC_DEFAULT_ROLE": "viewer",
    }
    with skyauth_server(**settings) as running:
        yield mapped(running)


ODD_GROUPS: dict[str, tuple[list[bytes], str, str]] = {  # the lines with the groups, the role, and the fault in the audit log
    "none": ([], "viewer", ""),
    "an empty line": ([b""], "viewer", ""),
    "one byte of Latin-1": ([b"root,\xe9quipe"], "viewer", "the groups header is not UTF-8"),
    "two lines": ([b"root", b"dev"], "viewer", "the groups header is repeated"),
    "an empty line and another": ([b"", b"root"], "viewer", "the groups header is repeated"),
    "UTF-8": (["dev,équipe".encode()], "user", ""),
    "300 ids": ([b",".join(b"%08x-0000-4000-8000-000000000000" % n for n in range(300)) + b",dev"], "user", ""),
}


@pytest.mark.parametrize(("lines", "role", "fault"), ODD_GROUPS.values(), ids=ODD_GROUPS)
def test_promise_46_odd_groups_cost_the_groups_and_not_the_user(
    server: SkyAuth, lines: list[bytes], role: str, fault: str
) -> None:
    user = ("X-Auth-Request-Email", "carol@example.com")
    assert server.ask(user, ("X-Auth-Request-Groups", "root")).header("X-Auth-Request-Role") == "admin"
    for _ in range(2):  # the second answer can be a cached one
        reply = server.ask(user, *(("X-Auth-Request-Groups", line) for line in lines))
        assert (reply.status, reply.header("X-Auth-Request-Email")) == (200, "carol@example.com")
        assert reply.header("X-Auth-Request-Role") == role
    written = [(row["actor"], row["reason"]) for row in server.console("refusals") if row["event"] == "sign-in.groups-ignored"]
    assert not fault or written.count(("carol@example.com", fault)) == 1, "once a minute"


def test_a_name_outside_ascii_arrives_as_a_labels(server: SkyAuth) -> None:
    reply = server.ask(("X-Auth-Request-Email", "dora@bücher.example".encode()))
    assert (reply.status, reply.header("X-Auth-Request-Email")) == (200, "dora@xn--bcher-kva.example")
    assert server.ask(("X-Auth-Request-Email", b"dora@b\xfccher.example")).status == 401
    assert "dora@b\ufffdcher.example" in [row["actor"] for row in server.console("refusals")]


def test_promise_47_a_deleted_user_returns_with_the_lesser_role_or_not_at_all(server: SkyAuth) -> None:
    user = ("X-Auth-Request-Email", "eve@example.com")
    server.console("create_user", name="eve@example.com", role="admin")
    server.console("delete_user", name="eve@example.com")
    assert server.ask(user).header("X-Auth-Request-Role") == "viewer"
    server.console("delete_user", name="eve@example.com", block=True)
    reply = server.ask(user, ("X-Auth-Request-Groups", "root"))
    assert reply.status == 401
    assert reply.json["detail"] == "Your user was deleted, and its name is blocked. Ask an administrator of SkyAuth."


def assertion(**changes: object) -> tuple[str, str]:
    now = time.time()
    claims = {"iss": ISSUER, "aud": "skyauth", "email": "carol@example.com", "iat": now, "exp": now + 300.5, **changes}
    return "X-Auth-Request-Email", jwt.encode(claims, KEY, "ES256", {"typ": "application/at+JWT"})


ODD_CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    "none": ({}, "viewer"),
    "one as text": ({"realm_access": {"roles": "dev"}}, "user"),
    "a list": ({"realm_access": {"roles": ["other", "dev"]}}, "user"),
    "a list with a number": ({"realm_access": {"roles": ["root", 7]}}, "viewer"),
    "a mapping": ({"realm_access": {"roles": {"root": True}}}, "viewer"),
}


@pytest.mark.parametrize(("changes", "role"), ODD_CLAIMS.values(), ids=ODD_CLAIMS)
def test_promise_46_odd_claims_cost_the_groups_and_not_the_user(signed: SkyAuth, changes: dict[str, object], role: str) -> None:
    assert signed.ask(assertion(realm_access={"roles": ["root"]})).header("X-Auth-Request-Role") == "admin"
    reply = signed.ask(assertion(**changes))
    assert (reply.status, reply.header("X-Auth-Request-Email")) == (200, "carol@example.com")
    assert reply.header("X-Auth-Request-Role") == role


def test_promise_50_a_user_in_300_groups_signs_in_with_an_assertion(signed: SkyAuth) -> None:
    """A token of Entra ID has about 1 kB of other claims."""
    groups = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(300)]
    reply = signed.ask(assertion(realm_access={"roles": [*groups, "dev"]}, others="x" * 1_000))
    assert (reply.status, reply.header("X-Auth-Request-Role")) == (200, "user")


@pytest.mark.parametrize("path", ["/authz/verify", "/skyauth/"])
def test_promise_46_group_overage_is_refused_with_words_at_the_gateway_and_on_pages(signed: SkyAuth, path: str) -> None:
    claims = assertion(_claim_names={"realm_access": "src1"})
    told = TARGET if path == "/authz/verify" else ()
    reply = ask(signed.port, path, [*told, claims, ("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")])
    assert reply.status == 401
    assert b"in more groups than your identity provider sends" in reply.body
    assert reply.header("Content-Type") == "text/html; charset=utf-8"
    refused = signed.console("refusals")[-1]
    assert (refused["actor"], refused["event"]) == ("carol@example.com", "sign-in.refused")


def test_an_assertion_for_ten_years_is_refused(signed: SkyAuth) -> None:
    assert signed.ask(assertion(exp=time.time() + 10 * 365 * 86_400)).status == 401
    assert "AUTH_JWT_MAX_HOURS" in signed.console("refusals")[-1]["reason"]
