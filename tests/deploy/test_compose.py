"""deploy/compose: Docker Compose accepts it, it is safe by default, and its services work together as it starts them."""

import html
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from tests.deploy.compose import EXAMPLE, HOME, OAUTH2_PROXY, Stack, filled_in, free_ports, resolve, services, up
from tests.deploy.test_oauth2_proxy import Browser, program
from tests.http_client import HOST, ask, basic, bearer, session_key
from tests.servers import ROOT
from tests.sso import identity_provider
from tests.upstream import Upstream, upstream

PASSWORD = secrets.token_hex(24)
KEY = secrets.token_urlsafe(48)
ALL = ("--profile", "*")
PAGE = ("Accept", "text/html")


def three_lines(public_url: str = "http://localhost:8080", **more: str) -> str:
    return filled_in(PUBLIC_URL=public_url, DATABASE_PASSWORD=PASSWORD, SECRET_KEY=KEY, **more)


def test_the_gateways_file_is_made_from_the_shipped_one() -> None:
    made = subprocess.run([sys.executable, "scripts/compose_gateway.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (HOME / "Caddyfile").read_text(encoding="utf-8") == made.stdout, "python scripts/compose_gateway.py --write"


def test_three_lines_are_to_be_filled_in() -> None:
    lines = [line for line in EXAMPLE.splitlines() if line and line[0] != "#"]
    assert [line.partition("=")[0] for line in lines] == ["PUBLIC_URL", "DATABASE_PASSWORD", "SECRET_KEY"]
    assert set(services(three_lines())) == {"database", "bootstrap", "skyauth", "gateway", "upstream"}
    for name in ("DATABASE_PASSWORD", "SECRET_KEY"):
        done = resolve(re.sub(rf"^{name}=.*$", f"{name}=", three_lines(), flags=re.MULTILINE))
        assert done.returncode != 0
        assert f"Set {name} in .env" in done.stderr


def test_every_other_line_of_the_example_is_read_by_the_file() -> None:
    text = (HOME / "compose.yaml").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    assert set(re.findall(r"^#?([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)) - {"COMPOSE_PROFILES"} <= read
    assert read - set(re.findall(r"^#?([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)) == {
        "SKYAUTH_IMAGE",
        "OAUTH2_PROXY_IMAGE",
        "OAUTH2_PROXY_LISTEN",
    }


def test_only_the_gateway_is_published_and_only_to_this_machine() -> None:
    found = services(three_lines(), *ALL)
    published = {name: service["ports"] for name, service in found.items() if "ports" in service}
    assert set(published) == {"gateway", "oauth2-proxy"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_the_networks_part_what_must_not_reach_each_other() -> None:
    found = services(three_lines(), *ALL)
    networks = {name: set(service["networks"]) for name, service in found.items()}
    assert {name for name in networks if "api" in networks[name]} == {"gateway", "upstream"}
    assert networks["upstream"] == {"api"}
    assert {name for name in networks if "database" in networks[name]} == {"database", "bootstrap", "skyauth"}
    assert {name for name in networks if "authz" in networks[name]} == {"gateway", "skyauth"}
    fixed = {network: values["ipv4_address"] for network, values in found["gateway"]["networks"].items() if values}
    auth_proxy = found["oauth2-proxy"]["networks"]["front"]["ipv4_address"]
    assert found["skyauth"]["environment"]["TRUSTED_PROXIES"].split(",") == [fixed["authz"], auth_proxy]
    assert found["gateway"]["environment"]["AUTH_PROXY"] == auth_proxy


def test_every_container_but_the_database_is_restricted() -> None:
    for name, service in services(three_lines(), *ALL).items():
        if name != "database":
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    ports = free_ports()
    with up(three_lines(f"http://{HOST}:{ports['gateway']}"), ports) as running:
        yield running


@pytest.mark.e2e
@pytest.mark.postgres
@pytest.mark.xdist_group("compose")
class TestRunning:
    """What `docker compose up` starts, with three lines filled in."""

    def test_a_user_signs_in_at_the_gateway_and_the_api_receives_the_identity(self, stack: Stack) -> None:
        port = stack.ports["gateway"]
        asked = ask(port, "/jobs", [PAGE, ("Host", f"{HOST}:{port}")])
        assert (asked.status, asked.header("Location")) == (302, f"http://{HOST}:{port}/sign-in?next=%2Fjobs")
        cookie = ("Cookie", f"skyauth={session_key(port, 'admin', stack.password)}")
        allowed = ask(port, "/jobs", [cookie])
        assert allowed.status == 200
        assert allowed.json["received_headers"]["X-Auth-Request-User"]
        assert allowed.json["received_headers"]["X-Auth-Request-Role"] == "admin"
        assert ask(port, "/skyauth/", [cookie, PAGE]).status == 200

    def test_a_forged_identity_header_is_of_no_use(self, stack: Stack) -> None:
        token = bearer(stack.manage("create_token", "reader", "--create", "--role", "viewer").split()[-1])
        for name in ("X-Auth-Request-Email", "X-Forwarded-Email", "X_Forwarded_Email", "X-Forwarded-User", "Remote-User"):
            for source in (HOST, OAUTH2_PROXY):  # the profile is off, so SkyAuth does not read the header at all
                assert ask(stack.ports["gateway"], "/", [(name, "admin")], source=source).status == 401, name
            assert (
                ask(stack.ports["gateway"], "/", [token, (name, "admin")]).json["received_headers"]["X-Auth-Request-Role"]
                == "viewer"
            )
        assert ask(stack.ports["gateway"], "/", [token], method="POST").status == 403

    def test_skyauth_trusts_nobody_but_the_gateway(self, stack: Stack) -> None:
        question = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/")]
        admin = basic("admin", stack.password)
        assert ask(stack.ports["skyauth"], "/authz/verify", [*question, admin]).status == 200
        assert ask(stack.ports["skyauth"], "/authz/verify", [*question, admin], source="127.0.0.9").status == 403

    def test_the_commands_of_the_guide_work(self, stack: Stack) -> None:
        guide = (ROOT / "docs" / "guides" / "containers.md").read_text(encoding="utf-8")
        commands = re.findall(r"^\s*docker compose run --rm skyauth (.*)$", guide, re.MULTILINE)
        assert [line.split()[0] for line in commands] == ["doctor", "create_token", "create_user"]
        for line in commands:
            stack.manage(*line.split())

    def test_the_database_wants_the_password_of_the_file(self, stack: Stack) -> None:
        values = stack.environment("skyauth")
        assert PASSWORD in values["DATABASE_URL"]
        wrong = {**values, "DATABASE_URL": values["DATABASE_URL"].replace(PASSWORD, "wrong")}
        command = [sys.executable, str(ROOT / "manage.py"), "list_tokens"]
        done = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1


@pytest.fixture(scope="module")
def single_sign_on() -> Iterator[tuple[Stack, Upstream]]:
    """The same with the profile `oauth2-proxy`: the real OAuth2 Proxy and an identity provider."""
    oauth2_proxy = program()
    ports = free_ports()
    with identity_provider(nina="nina@example.com") as provider, upstream() as api:
        dotenv = three_lines(
            f"http://{HOST}:{ports['oauth2-proxy']}",
            COMPOSE_PROFILES="oauth2-proxy",
            AUTH_USER_HEADER_FORMAT="plaintext",
            OIDC_ISSUER_URL=provider,
            OIDC_CLIENT_ID="skyauth",
            OIDC_CLIENT_SECRET="known-to-the-test-alone",
            COOKIE_SECRET=secrets.token_hex(16),
            COOKIE_SECURE="false",
            EMAIL_DOMAINS="example.com",
            UPSTREAM=api.address,
        )
        with up(dotenv, ports, **natively()) as stack:
            stack.run("oauth2-proxy", [oauth2_proxy])
            yield stack, api


def natively() -> dict[str, str]:
    """Return the address from which OAuth2 Proxy connects here: it cannot choose 127.0.0.2, as its container has its own."""
    return {"AUTH_PROXY": HOST}


@pytest.mark.e2e
@pytest.mark.postgres
@pytest.mark.xdist_group("compose")
class TestSingleSignOn:
    def test_a_browser_signs_in_at_the_provider_and_the_api_receives_the_identity(
        self, single_sign_on: tuple[Stack, Upstream]
    ) -> None:
        stack, api = single_sign_on
        front = f"http://{HOST}:{stack.ports['oauth2-proxy']}"
        browser = Browser()
        _, where, page = browser.open(f"{front}/jobs")
        assert stack.environment("oauth2-proxy")["OAUTH2_PROXY_OIDC_ISSUER_URL"] in where
        form = re.search(r'<form[^>]*action="([^"]*)"', page)
        action = urljoin(where, html.unescape(form[1])) if form else where
        assert browser.open(action, {"sub": "nina"})[:2] == (200, f"{front}/jobs")
        arrived = api.arrived[-1]
        assert arrived.all("X-Auth-Request-Email") == ["nina@example.com"]
        assert arrived.all("X-Forwarded-Email") == []

    def test_a_forged_header_and_a_request_without_a_session_are_denied(self, single_sign_on: tuple[Stack, Upstream]) -> None:
        stack, api = single_sign_on
        before = len(api.arrived)
        for name in ("X-Forwarded-Email", "X-Auth-Request-Email", "X-Forwarded-User"):
            assert ask(stack.ports["oauth2-proxy"], "/jobs", [(name, "nina@example.com")]).status == 401
            assert ask(stack.ports["gateway"], "/jobs", [(name, "nina@example.com")], source="127.0.0.9").status == 401
        assert len(api.arrived) == before

    def test_a_program_with_a_token_needs_no_sign_in(self, single_sign_on: tuple[Stack, Upstream]) -> None:
        stack, api = single_sign_on
        token = bearer(stack.manage("create_token", "pipeline", "--create", "--role", "viewer").split()[-1])
        assert ask(stack.ports["oauth2-proxy"], "/jobs", [token]).status == 200
        assert api.arrived[-1].all("X-Auth-Request-Role") == ["viewer"]
