"""Trouble of ours lets nobody through any proxy, and passes without anybody restarting a proxy."""

from contextlib import suppress
from http.client import HTTPException
from signal import SIGKILL

import pytest

from tests.e2e.proxies.conftest import Gateway, Ground
from tests.e2e.proxies.test_identity import raw
from tests.http_client import ask, bearer
from tests.proxies import running
from tests.servers import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]


def test_nothing_is_let_through_while_skyauth_is_down_and_all_is_well_when_it_is_back(gateway: Gateway, pipeline: str) -> None:
    skyauth, tapped = gateway.ground.skyauth, gateway.ground.tapped
    gateway.told(bearer(pipeline))
    skyauth.stop(SIGKILL)
    tapped.close()
    try:
        for headers in ([bearer(pipeline)], [], [bearer("sky_x")], [bearer(pipeline), ("Upgrade", "websocket")]):
            for method in ("GET", "POST", "HEAD"):
                reply = gateway.refused(*headers, method=method)
                assert reply.status == gateway.differs.skyauth_down
        if gateway.differs.explains:
            reply = gateway.refused(bearer(pipeline))
            assert (reply.header("Content-Type"), reply.json["code"]) == ("application/problem+json", "gateway")
    finally:
        skyauth.start()
        tapped.open()
    assert gateway.ask(bearer(pipeline)).status == 200
    assert gateway.refused().status == 401


@pytest.mark.parametrize(
    "answered",
    [
        b"", b"\r\n\r\n", b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Auth-Request-Email: a@example.com\r\n",
        # Whole ones say that they close: a proxy that keeps the connection would send the next question into its end.
        b"HTTP/1.1 999 Odd\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Trouble\r\nX-Auth-Request-Email: a@example.com\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["none", "blank", "nonsense", "half", "999", "404", "500", "304", "302"],
)  # fmt: skip
def test_no_answer_but_a_whole_2xx_lets_anybody_through(gateway: Gateway, pipeline: str, answered: bytes) -> None:
    with gateway.ground.tapped.answering(answered, closing=True):
        assert gateway.refused(bearer(pipeline)).status >= 300
    gateway.told(bearer(pipeline))


def test_not_even_an_upgrade_lets_anybody_through(gateway: Gateway, pipeline: str) -> None:
    before = len(gateway.upstream.arrived)
    with (
        gateway.ground.tapped.answering(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", closing=True),
        suppress(OSError, HTTPException),
    ):
        gateway.ask(bearer(pipeline), ("Connection", "Upgrade"), ("Upgrade", "websocket"))
    assert len(gateway.upstream.arrived) == before


@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_2xx_does(gateway: Gateway, status: int) -> None:
    before = len(gateway.upstream.arrived)
    with gateway.ground.tapped.answering(raw(status, [("X-Auth-Request-Email", "a@example.com")])):
        reply = gateway.ask()
    if status == 200 or not gateway.differs.only_200:
        assert reply.status == 200
        assert gateway.upstream.arrived[before].all("X-Auth-Request-Email") == ["a@example.com"]
    else:
        assert len(gateway.upstream.arrived) == before


def test_an_upstream_that_is_down_is_told_apart_from_a_refusal(gateway: Gateway, ground: Ground, pipeline: str) -> None:
    nobody = free_port()
    with running(gateway.proxy, skyauth=ground.tapped.port, upstream=nobody, billing=nobody) as port:
        reply = ask(port, "/", [bearer(pipeline)])
        assert reply.status == gateway.differs.upstream_down
        if gateway.differs.explains:
            assert (reply.header("Content-Type"), reply.json["code"]) == ("application/problem+json", "gateway")
        assert ask(port, "/").status == 401
