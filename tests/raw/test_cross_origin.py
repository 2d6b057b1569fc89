"""Requests of other origins' pages at the real server: the fast path, the slow path and an upgrade are refused alike."""

import pytest

from tests.factories import PASSWORD
from tests.http_client import HOST, basic, encode, send
from tests.servers import SkyAuth

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]

NAME = "origin@example.com"
TARGET = [("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"), ("X-Forwarded-Proto", "http")]
HANDSHAKE = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
UPGRADE = [*HANDSHAKE, ("Upgrade", "websocket"), ("Connection", "Upgrade")]


@pytest.fixture(scope="module")
def credential(server: SkyAuth) -> tuple[str, bytes]:
    """The password of a user who can write."""
    server.console("create_user", name=NAME, role="user", password=PASSWORD)
    return basic(NAME, PASSWORD)


@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", []), ("DELETE", []), ("GET", HANDSHAKE), ("GET", UPGRADE)],
    ids=["a write", "a deletion", "a handshake", "an upgrade"],
)
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (("Origin", "http://127.0.0.1:9999"), 403),
        (("Origin", "null"), 403),
        (("Sec-Fetch-Site", "same-site"), 403),
        (("Origin", "http://127.0.0.1"), 200),
        (("Sec-Fetch-Site", "same-origin"), 200),
        (("Accept", "*/*"), 200),
    ],
)
def test_promise_52_another_origins_page_is_refused_on_every_path(
    server: SkyAuth,
    credential: tuple[str, bytes],
    method: str,
    headers: list[tuple[str, str]],
    origin: tuple[str, str],
    status: int,
) -> None:
    lines = [*TARGET, ("X-Forwarded-Method", method), credential, origin, *headers]
    replies = [send(server.port, encode("GET", "/authz/verify", lines)) for _ in range(3)]
    assert {reply.status for reply in replies} == {status}
    if status == 403:
        assert {reply.json["code"] for reply in replies} == {"cross-origin"}
        assert not any(reply.header("X-Auth-Request-Email") for reply in replies)
