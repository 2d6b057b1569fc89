"""Refusals of the real server: the same decision id on the fast path and the slow path, and redirects only where allowed."""

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.http_client import HOST, OPEN, Reply, answers, ask, bearer, encode
from tests.servers import SkyAuth, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]

CHROME = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
SITE = "https://api.example.com"


@pytest.fixture(scope="module")
def redirecting() -> Iterator[SkyAuth]:
    """SkyAuth in redirect mode, whose pages are on the origin of the protected API."""
    with skyauth_server(AUTH_REDIRECT="true", PUBLIC_URL=SITE) as running:
        yield running


def original(
    method: str = "GET", uri: str = "/things", family: str = "Forwarded", host: str = "api.example.com"
) -> list[tuple[str, str]]:
    """Return the headers with the original request."""
    return [
        (f"X-{family}-Method", method), (f"X-{family}-Host", host), (f"X-{family}-Uri", uri), ("X-Forwarded-Proto", "https"),
    ]  # fmt: skip


def decision(reply: Reply) -> str:
    """Return the id of a 403."""
    assert reply.status == 403
    decision_id = reply.header("X-Skyauth-Decision")
    assert decision_id is not None
    assert re.fullmatch(r"[0-9A-Za-z]{12}", decision_id)
    return decision_id


def test_a_repeated_denial_has_one_decision_id_and_its_page_has_the_same(server: SkyAuth) -> None:
    server.console("create_account", name="refused", role="viewer")
    token = bearer(server.console("issue", account="refused"))
    request = encode("GET", "/authz/verify", [OPEN, token, *original("DELETE")])
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(request * 50)
        replies = answers(connection, ["GET"] * 50)
    assert len({decision(reply) for reply in replies}) == 1
    assert {json.loads(reply.body)["decision"] for reply in replies} == {decision(replies[0])}
    pages = [ask(server.port, "/authz/verify", [token, CHROME, *original("GET", "/a%2fb")]) for _ in range(3)]
    assert len({decision(page) for page in pages}) == 1
    assert all(decision(page).encode() in page.body for page in pages)
    assert pages[0].header("Content-Type") == "text/html; charset=utf-8"


def test_the_page_of_a_denial_has_no_body_for_head(server: SkyAuth) -> None:
    reply = ask(server.port, "/authz/envoy//", [CHROME], method="HEAD")
    decision(reply)
    assert (reply.body, reply.header("Content-Type")) == (b"", "text/html; charset=utf-8")


def test_in_redirect_mode_each_dialect_redirects_browsers_and_no_programs(redirecting: SkyAuth) -> None:
    location = f"{SITE}/sign-in?next=%2Fthings%3Fa%3D%2520"
    nginx = original(uri="/things?a=%20", family="Original")
    requests = [
        ("/authz/verify", original(uri="/things?a=%20")),
        ("/authz/nginx/answer", nginx),
        ("/authz/envoy/things?a=%20", [("Host", "api.example.com"), ("X-Forwarded-Proto", "https")]),
    ]
    for endpoint, lines in requests:
        for _ in range(3):
            reply = ask(redirecting.port, endpoint, [*lines, CHROME])
            assert (reply.status, reply.header("Location")) == (302, location), endpoint
            assert reply.header("X-Auth-Request-Email") == ""
            assert ask(redirecting.port, endpoint, lines).status == 401
            assert ask(redirecting.port, endpoint, [*lines, CHROME, bearer("sky_x")]).status == 401
            assert ask(redirecting.port, endpoint, [*lines, CHROME], source="127.0.0.2").status == 403


def test_promise_29_the_first_request_of_nginx_gets_no_redirect_and_no_page(redirecting: SkyAuth) -> None:
    for _ in range(3):
        reply = ask(redirecting.port, "/authz/nginx", [*original(family="Original"), CHROME])
        assert (reply.status, reply.header("Content-Type")) == (401, "application/problem+json")


def test_promise_41_no_request_adds_a_header_to_a_redirect(redirecting: SkyAuth) -> None:
    for uri in ("//evil.example", "/\\evil.example", "/a?b=\\", "/a?b#c", "/%0d%0aSet-Cookie:x", "/a?b=%0d%0aSet-Cookie:x"):
        reply = ask(redirecting.port, "/authz/verify", [*original(uri=uri), CHROME])
        assert not reply.all("Set-Cookie")
        assert reply.status == (302 if uri.startswith("/a?") else 403), uri
        if reply.status == 302:
            next_path = quote(uri, safe="") if "%0d" in uri else "%2Fa"  # an unsafe query is left out
            assert str(reply.header("Location")).endswith(f"/sign-in?next={next_path}")
        assert [value for value in reply.all("Location") if not value.startswith(f"{SITE}/sign-in?next=%2Fa")] == []
