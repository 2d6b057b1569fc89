"""Trouble of ours is 503, or the gateway's 502: never the caller's 401, and never let through."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGKILL

import psycopg
import pytest

from accounts import token_format
from tests.http_client import Reply, ask, bearer
from tests.servers import SkyAuth, caddy, postgres, skyauth_server, wait_until
from tests.upstream import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("outage")]


def machine(server: SkyAuth) -> str:
    """Return a token of a service account with the role user."""
    server.console("create_account", name="pipeline", role="user")
    return str(server.console("issue", account="pipeline"))


def unavailable(reply: Reply) -> bool:
    """Return whether an answer is the 503 of trouble that is ours, with no identity in it."""
    named = [value for name, value in reply.headers if name.lower().startswith("x-auth-request-") and value]
    return reply.status == 503 and (reply.header("Retry-After") or "").isdigit() and not named


def all_is_well(server: SkyAuth, token: str) -> bool:
    """Return whether good and bad are told apart again; until then it must go on saying that the trouble is ours."""
    reply = server.ask(bearer(token))
    assert reply.status == 200 or unavailable(reply), reply
    return reply.status == 200 and server.ask(bearer(token_format.mint().plaintext)).status == 401


def test_nothing_is_let_through_while_skyauth_is_down_and_all_is_well_when_it_is_back() -> None:
    with skyauth_server() as server, upstream() as behind, caddy(server.port, behind.address) as gateway:
        good = bearer(machine(server))
        assert ask(gateway, "/", [good]).status == 200
        server.stop(SIGKILL)
        reached = len(behind.arrived)
        for headers in ([good], [], [bearer("sky_x")]):
            reply = ask(gateway, "/", headers)
            assert (reply.status, reply.json["code"]) == (502, "gateway")
        assert len(behind.arrived) == reached
        server.start()
        assert ask(gateway, "/", [good]).status == 200
        assert ask(gateway, "/").status == 401


@contextmanager
def held(path: Path, *statements: str) -> Iterator[None]:
    """Hold a lock on an SQLite database, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()
        yield


@pytest.mark.sqlite
def test_a_writer_elsewhere_does_not_stop_a_known_token_from_being_judged() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        token = machine(server)
        path = server.data / "skyauth.sqlite3"
        with held(path, "BEGIN IMMEDIATE"):
            assert server.ask(bearer(token)).status == 200
            assert server.ask(bearer(token_format.mint().plaintext)).status == 401
            assert server.ask().status == 401


@pytest.mark.sqlite
def test_a_database_that_is_locked_for_readers_is_503_until_it_is_free_again() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        token = machine(server)
        with held(server.data / "skyauth.sqlite3", "PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE"):
            started = time.monotonic()
            for credential in (bearer(token), bearer(token_format.mint().plaintext)):
                assert unavailable(server.ask(credential))
            assert time.monotonic() - started < 10
        wait_until(lambda: all_is_well(server, token), "the database is free")


@pytest.mark.sqlite
@pytest.mark.parametrize("broken", ["no database", "a directory", "an empty one"])
def test_a_database_file_that_is_not_the_database_is_503(broken: str) -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        token = machine(server)
        for file in server.data.glob("skyauth.sqlite3*"):
            file.unlink()
        path = server.data / "skyauth.sqlite3"
        if broken == "a directory":
            path.mkdir()
        else:
            path.write_bytes(b"this is no database\n" * 500 if broken == "no database" else b"")
        for credential in (bearer(token), bearer(token_format.mint().plaintext)):
            assert unavailable(server.ask(credential))


@pytest.mark.postgres
def test_postgresql_that_goes_away_is_503_until_it_is_back() -> None:
    with postgres() as cluster, skyauth_server(DATABASE_URL=cluster.url, DATABASE_TIMEOUT="1") as server:
        token = machine(server)
        assert server.ask(bearer(token)).status == 200
        cluster.stop()
        for credential in (bearer(token), bearer(token_format.mint().plaintext)):
            assert unavailable(server.ask(credential))
        cluster.start()
        wait_until(lambda: all_is_well(server, token), "PostgreSQL is back")


@pytest.mark.postgres
def test_a_table_of_postgresql_that_is_locked_is_503_until_it_is_free_again() -> None:
    with postgres() as cluster, skyauth_server(DATABASE_URL=cluster.url, DATABASE_TIMEOUT="1") as server:
        token = machine(server)
        with psycopg.connect(cluster.url) as connection:
            connection.execute("LOCK TABLE accounts_token IN ACCESS EXCLUSIVE MODE")
            for credential in (bearer(token), bearer(token_format.mint().plaintext)):
                assert unavailable(server.ask(credential))
        assert server.ask(bearer(token)).status == 200
