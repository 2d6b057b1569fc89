"""Whom SkyAuth believes: the address of the socket decides, and nothing that is sent."""

from collections.abc import Iterator

import pytest

from tests.http_client import ask, bearer
from tests.servers import SkyAuth, caddy, skyauth_server
from tests.upstream import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("peers"), pytest.mark.sqlite]

TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"
GROUPS = ("X-Auth-Request-Groups", "ops,dev")


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    """SkyAuth with sign-in by an auth proxy's header; new users get the role user."""
    settings = {
        "AUTH_USER_HEADER_FORMAT": "plaintext",
        "AUTH_GROUPS_HEADER": "X-Auth-Request-Groups",
        "RBAC_DEFAULT_ROLE": "user",
    }
    with skyauth_server(**settings) as running:
        yield running


def named(name: str) -> tuple[str, str]:
    """Return the header in which an auth proxy names the user."""
    return "X-Auth-Request-Email", name


def test_a_trusted_proxy_names_the_user_who_is_created_on_first_sight(server: SkyAuth) -> None:
    reply = server.ask(named("Alice@Example.com"), GROUPS, source=TRUSTED, method="POST")
    assert reply.status == 200
    assert reply.header("X-Auth-Request-Email") == "alice@example.com"
    assert reply.header("X-Auth-Request-User") == "c160f8cc"  # the first 8 digits of md5("alice@example.com")
    assert reply.header("X-Auth-Request-Groups") == "ops,dev"
    assert reply.header("X-Auth-Request-Role") == "user"
    assert reply.header("X-Auth-Request-Method") == "proxy"


@pytest.mark.parametrize("name", ["X-Auth-Request-Email", "x-auth-request-email", "X_Auth_Request_Email", "X.Auth.Request.Email"])
def test_a_client_of_the_gateway_names_nobody_though_the_gateway_is_trusted(server: SkyAuth, name: str) -> None:
    with upstream() as behind, caddy(server.port, behind.address) as gateway:
        assert ask(gateway, "/", [(name, "alice@example.com")]).status == 401
        assert behind.arrived == []


def test_an_untrusted_peer_names_nobody_and_creates_nobody(server: SkyAuth) -> None:
    reply = server.ask(named("mallory@example.com"), GROUPS, source=STRANGER)
    assert reply.status in {401, 403}
    assert reply.all("X-Auth-Request-Email") in ([], [""])
    with pytest.raises(AssertionError, match="There is no user named"):
        server.console("role_of", name="mallory@example.com")


@pytest.mark.parametrize(
    "claim",
    [
        ("X-Forwarded-For", TRUSTED), ("X-Real-IP", TRUSTED), ("Forwarded", f"for={TRUSTED}"), ("X-Client-IP", TRUSTED),
        ("X_Forwarded_For", TRUSTED), ("True-Client-IP", TRUSTED),
    ],
)  # fmt: skip
def test_no_header_makes_a_stranger_trusted(server: SkyAuth, claim: tuple[str, str]) -> None:
    assert server.ask(claim, named("alice@example.com"), source=STRANGER).status in {401, 403}


def test_a_token_from_an_untrusted_peer_is_known_but_its_path_is_not_believed(server: SkyAuth) -> None:
    server.console("create_account", name="pipeline", role="user")
    token = server.console("issue", account="pipeline")
    assert server.ask(bearer(token), source=TRUSTED).status == 200
    reply = server.ask(bearer(token), source=STRANGER)
    assert (reply.status, reply.json["code"]) == (403, "unreadable-target")


def test_the_first_credential_present_decides(server: SkyAuth) -> None:
    server.console("create_account", name="first", role="user")
    token = server.console("issue", account="first")
    assert server.ask(bearer(token), named("alice@example.com")).header("X-Auth-Request-Method") == "bearer"
    assert server.ask(bearer(token[:-1] + "!"), named("alice@example.com")).status == 401
    assert server.ask(bearer("somebody-elses"), named("alice@example.com")).header("X-Auth-Request-Method") == "proxy"


@pytest.mark.parametrize(
    "names",
    [
        ("alice@example.com", "bob@example.com"), ("alice@example.com", "alice@example.com"),
        ("alice@example.com,bob@example.com",), ("alice@example.com@evil.example",), ("alice",), ("álice@example.com",),
        ("alice@example.com x",), ("<alice@example.com>",),
    ],
)  # fmt: skip
def test_what_is_not_exactly_one_address_is_refused(server: SkyAuth, names: tuple[str, ...]) -> None:
    assert server.ask(*map(named, names)).status == 401


@pytest.mark.parametrize("alias", ["X_Auth_Request_Email", "X.Auth.Request.Email", "x-auth_request.email"])
def test_an_alias_names_nobody_even_from_a_trusted_proxy(server: SkyAuth, alias: str) -> None:
    assert server.ask((alias, "alice@example.com")).status == 401
    reply = server.ask(named("alice@example.com"), (alias, "evil@example.com"))
    assert (reply.status, reply.header("X-Auth-Request-Email")) == (200, "alice@example.com")


def test_a_disabled_user_is_refused_whom_the_proxy_still_signs_in(server: SkyAuth) -> None:
    assert server.ask(named("ivan@example.com")).status == 200
    server.console("set_active", name="ivan@example.com", active=False)
    assert server.ask(named("ivan@example.com")).status == 401


def test_nobody_is_trusted_by_default() -> None:
    with skyauth_server(TRUSTED_PROXIES="") as server:
        server.console("create_account", name="pipeline", role="user")
        token = server.console("issue", account="pipeline")
        assert server.ask(bearer(token)).status == 403
        assert server.ask(named("alice@example.com")).status in {401, 403}
