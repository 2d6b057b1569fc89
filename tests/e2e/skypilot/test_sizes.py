"""Users with many groups, and browsers with many cookies, in front of a SkyPilot server."""

import pytest

from tests.e2e.proxies.test_sizes import COOKIE, GROUPS
from tests.e2e.skypilot.conftest import BOB, Gateway, only_as
from tests.http_client import bearer
from tests.sky import AUTH_PROXY

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

NAMED = ("X-Auth-Request-Email", BOB)


def test_promise_50_300_groups_of_the_auth_proxy_reach_the_server(gateway: Gateway) -> None:
    told = [NAMED, ("X-Auth-Request-Groups", GROUPS), ("Cookie", COOKIE[:18_000])]
    [arrived] = gateway.arriving(told, source=AUTH_PROXY)
    assert only_as(BOB, [arrived])
    assert (arrived.all("X-Auth-Request-Groups"), arrived.all("Cookie")) == ([GROUPS], [COOKIE[:18_000]])
    assert gateway.ask_as(BOB, "/users/me/workspace", *told[1:]).status == 200
    assert gateway.ask_as(BOB, "/users/role", *told[1:]).status == 200


def test_promise_50_with_a_signed_assertion_and_a_cookie_of_30_kilobytes_they_do_too(gateway: Gateway) -> None:
    said = f"X-Auth-Request-Email: {BOB}\r\nX-Auth-Request-Groups: {GROUPS}\r\nX-Auth-Request-Jwt: {'j' * 16_000}\r\n"
    with gateway.ground.judging.answering(
        f"HTTP/1.1 200 OK\r\n{said}X-Auth-Request-Method: proxy\r\nContent-Length: 0\r\n\r\n".encode()
    ):
        [arrived] = gateway.arriving([("Cookie", COOKIE)])
        assert gateway.ask(("Cookie", COOKIE)).status == 200
    assert only_as(BOB, [arrived])
    assert (arrived.all("X-Auth-Request-Groups"), arrived.all("Cookie")) == ([GROUPS], [COOKIE])


@pytest.mark.parametrize("target", ["/users/me/workspace", "/users/role", "/api/health"])
def test_a_cookie_of_30_kilobytes_locks_nobody_out(gateway: Gateway, reader: str, target: str) -> None:
    assert gateway.ask(bearer(reader), ("Cookie", COOKIE), target=target).status == 200
