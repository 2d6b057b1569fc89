"""Large headers: each proxy forwards what SkyAuth itself accepts, 32 kB, and the hundreds of groups of an answer."""

import time
from uuid import UUID

import jwt
import pytest

from tests.e2e.proxies.conftest import Gateway
from tests.e2e.proxies.test_identity import raw
from tests.http_client import TARGET, ask, bearer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]

GROUPS = ",".join(str(UUID(int=n)) for n in range(300))  # as Entra ID sends them: 11 kB, and 26 kB with the assertion
COOKIE = "theirs=" + "c" * 30_000
HEADS: dict[str, tuple[str, list[tuple[str, str | bytes]]]] = {
    "one cookie": ("/v1/things", [("Cookie", COOKIE)]),
    "many cookies": ("/v1/things", [("Cookie", "; ".join(f"theirs{n}={n:090}" for n in range(300)))]),
    "one header": ("/v1/things", [("X-Long", "x" * 30_000)]),
    "many headers": ("/v1/things", [(f"X-Long-{n}", "x" * 400) for n in range(70)]),
    "the query": ("/v1/things?" + "q" * 30_000, []),
}


def test_promise_50_300_groups_and_a_cookie_of_30_kilobytes_reach_the_upstream(gateway: Gateway) -> None:
    """The tap sends what SkyAuth itself answers about this user: no shipped file has an auth proxy that could name groups."""
    said = [*TARGET, ("X-Auth-Request-Email", "nina@example.com"), ("X-Auth-Request-Groups", GROUPS)]
    allowed = ask(gateway.ground.skyauth.port, "/authz/verify", said)
    assert (allowed.status, allowed.header("X-Auth-Request-Groups")) == (200, GROUPS)
    identity = [line for line in allowed.headers if line[0].lower().startswith("x-auth-request-")]
    with gateway.ground.tapped.answering(raw(200, identity)):
        arrived = gateway.told(("Cookie", COOKIE))
    told = gateway.identity(arrived)
    assert (told["email"], told["groups"]) == ("nina@example.com", GROUPS)
    [assertion] = arrived.all("X-Auth-Request-Jwt")
    assert ",".join(jwt.decode(assertion, options={"verify_signature": False})["groups"]) == GROUPS
    assert arrived.all("Cookie") == [COOKIE]


@pytest.mark.parametrize("what", HEADS)
def test_a_header_section_of_almost_32_kilobytes_is_decided_and_arrives_whole(gateway: Gateway, reader: str, what: str) -> None:
    target, headers = HEADS[what]
    arrived = gateway.told(bearer(reader), *headers, target=target)
    assert arrived.target == target
    for name, value in headers:
        assert arrived.all(name) == [value]
    assert gateway.refused(*headers, target=target).status == 401
    assert gateway.refused(bearer(reader), *headers, target=target, method="POST").status == 403


@pytest.mark.parametrize("size", [40_000, 50_000, 66_000, 100_000, 1_000_000])
def test_a_larger_one_is_refused_and_no_error_of_ours(gateway: Gateway, reader: str, size: int) -> None:
    for headers in ([("Cookie", "c" * size)], [(f"X-Long-{n}", "x" * (size // 64)) for n in range(64)]):
        status = gateway.refused(bearer(reader), *headers).status
        assert status in {403, gateway.differs.too_large}
        assert status == gateway.differs.too_large or size < 100_000


BLANKS = " " * 15_000
ODD_COOKIES = {
    "blanks within": f"a{BLANKS}b{BLANKS}c",
    "blanks": BLANKS * 2,
    "blanks around ours": f"a=1;{BLANKS}skyauth{BLANKS}",
    "blanks before the end": f"a=1{BLANKS};{BLANKS}",
    "semicolons": ";" * 30_000,
    "empty ones": "; " * 15_000,
    "ours, almost": "skyauth " * 3_800,
    "ours": ";skyauth=x" * 3_000,
}


@pytest.mark.parametrize("kind", ODD_COOKIES)
def test_promise_50_no_cookie_keeps_a_proxy_busy(gateway: Gateway, reader: str, kind: str) -> None:
    """A pattern that begins a new search at each blank takes seconds, in which the proxy serves nobody else."""
    began = time.monotonic()
    gateway.ask(bearer(reader), ("Cookie", ODD_COOKIES[kind]))
    assert time.monotonic() < began + 0.5
