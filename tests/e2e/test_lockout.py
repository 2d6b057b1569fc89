"""The throttle of passwords on two servers that share a database: one remembers a password, the other counts the failures."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.factories import PASSWORD
from tests.http_client import HOST, answers, basic, question
from tests.servers import SkyAuth, replica, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("freshness")]
NAME = "bob@example.com"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[SkyAuth, SkyAuth]]:
    """Two servers on one database."""
    with skyauth_server() as one, replica(one) as two:
        one.console("create_user", name=NAME, role="user", password=PASSWORD)
        yield one, two


def attempts(server: SkyAuth, passwords: list[str], client: str) -> list[int]:
    """Return the status of each request with bob's name and one of these passwords, which a proxy forwards for the client."""
    with closing(socket.create_connection((HOST, server.port), timeout=20)) as connection:
        statuses = []
        for password in passwords:
            connection.sendall(question(basic(NAME, password), ("X-Forwarded-For", client)))
            statuses += [reply.status for reply in answers(connection, ["GET"])]
        return statuses


def test_promise_51_no_server_accepts_from_its_cache_what_another_has_locked_out(pair: tuple[SkyAuth, SkyAuth]) -> None:
    one, two = pair
    shared = "192.0.2.10"  # the owner's network, from which somebody else guesses
    assert attempts(one, [PASSWORD] * 3, shared) == [200] * 3
    assert attempts(two, ["wrong"] * 5, shared) == [401] * 5
    assert attempts(one, [PASSWORD], shared) == [401], "cached there for this very address"
    assert attempts(two, [PASSWORD], shared) == [401]


@pytest.mark.parametrize(
    ("stranger", "same_stranger", "owner"),
    [
        ("203.0.113.9:51234", "203.0.113.9:51235", "198.51.100.7:40000"),
        ("[2001:db8:1::9]:51234", "2001:db8:1::9", "[2001:db8:2::7]:40000"),
        ("::ffff:203.0.113.19", "203.0.113.19", "::ffff:198.51.100.17"),
    ],
)
def test_promise_22_a_stranger_behind_a_load_balancer_locks_out_nobody_else(pair, stranger, same_stranger, owner) -> None:
    one, two = pair
    assert attempts(one, ["wrong"] * 6, stranger) == [401] * 6
    assert attempts(two, [PASSWORD], same_stranger) == [401]
    assert attempts(two, [PASSWORD], owner) == [200]


def test_promise_51_a_guess_elsewhere_is_throttled_while_the_owner_is_not(pair: tuple[SkyAuth, SkyAuth]) -> None:
    one, two = pair
    owner, stranger = "192.0.2.20", "203.0.113.20"
    assert attempts(one, [PASSWORD] * 3, owner) == [200] * 3
    assert attempts(one, [*(["wrong"] * 5), PASSWORD], stranger) == [401] * 6
    assert attempts(two, [PASSWORD], stranger) == [401]
    assert attempts(one, [PASSWORD], owner) == [200]
    assert attempts(two, [PASSWORD], owner) == [200]
