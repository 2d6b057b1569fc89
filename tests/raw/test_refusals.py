"""Refusals of the running server: the same id on the short way and the long one, and redirects where they may be."""

import json
import re
import socket
from collections.abc import Iterator

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


def told(
    method: str = "GET", uri: str = "/things", family: str = "Forwarded", host: str = "api.example.com"
) -> list[tuple[str, str]]:
    """Return what a proxy says of the original request."""
    return [
        (f"X-{family}-Method", method), (f"X-{family}-Host", host), (f"X-{family}-Uri", uri), ("X-Forwarded-Proto", "https"),
    ]  # fmt: skip


def decision(reply: Reply) -> str:
    """Return the id of a 403."""
    assert reply.status == 403
    found = reply.header("X-Skyauth-Decision")
    assert found is not None
    assert re.fullmatch(r"[0-9A-Za-z]{12}", found)
    return found


def test_every_repetition_of_a_denial_has_one_id_and_the_page_has_it_too(server: SkyAuth) -> None:
    server.console("create_account", name="refused", role="viewer")
    token = bearer(server.console("issue", account="refused"))
    request = encode("GET", "/authz/verify", [OPEN, token, *told("DELETE")])
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(request * 50)
        replies = answers(connection, ["GET"] * 50)
    assert len({decision(reply) for reply in replies}) == 1
    assert {json.loads(reply.body)["decision"] for reply in replies} == {decision(replies[0])}
    pages = [ask(server.port, "/authz/verify", [token, CHROME, *told("GET", "/a%2fb")]) for _ in range(3)]
    assert len({decision(page) for page in pages}) == 1
    assert all(decision(page).encode() in page.body for page in pages)
    assert pages[0].header("Content-Type") == "text/html; charset=utf-8"


def test_the_head_of_a_page_has_no_body(server: SkyAuth) -> None:
    reply = ask(server.port, "/authz/envoy//", [CHROME], method="HEAD")
    decision(reply)
    assert (reply.body, reply.header("Content-Type")) == (b"", "text/html; charset=utf-8")


def test_in_redirect_mode_each_dialect_sends_people_to_sign_in_and_programs_nowhere(redirecting: SkyAuth) -> None:
    location = f"{SITE}/sign-in?next=%2Fthings%3Fa%3D%2520"
    original = told(uri="/things?a=%20", family="Original")
    questions = [
        ("/authz/verify", told(uri="/things?a=%20")),
        ("/authz/nginx/answer", original),
        ("/authz/envoy/things?a=%20", [("Host", "api.example.com"), ("X-Forwarded-Proto", "https")]),
    ]
    for endpoint, lines in questions:
        for _ in range(3):
            reply = ask(redirecting.port, endpoint, [*lines, CHROME])
            assert (reply.status, reply.header("Location")) == (302, location), endpoint
            assert reply.header("X-Auth-Request-Email") == ""
            assert ask(redirecting.port, endpoint, lines).status == 401
            assert ask(redirecting.port, endpoint, [*lines, CHROME, bearer("sky_x")]).status == 401
            assert ask(redirecting.port, endpoint, [*lines, CHROME], source="127.0.0.2").status == 403


def test_promise_29_nginxs_first_question_is_never_redirected_and_has_no_page(redirecting: SkyAuth) -> None:
    for _ in range(3):
        reply = ask(redirecting.port, "/authz/nginx", [*told(family="Original"), CHROME])
        assert (reply.status, reply.header("Content-Type")) == (401, "application/problem+json")


def test_promise_41_a_redirect_keeps_its_one_header(redirecting: SkyAuth) -> None:
    for uri in ("//evil.example", "/\\evil.example", "/a?b=\\", "/a?b#c", "/%0d%0aSet-Cookie:x", "/a?b=%0d%0aSet-Cookie:x"):
        reply = ask(redirecting.port, "/authz/verify", [*told(uri=uri), CHROME])
        assert not reply.all("Set-Cookie")
        assert reply.status == (302 if uri.startswith("/a?b=%0d") else 401 if uri.startswith("/a?") else 403), uri
        assert [value for value in reply.all("Location") if not value.startswith(f"{SITE}/sign-in?next=%2Fa")] == []
