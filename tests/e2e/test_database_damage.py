"""The database is damaged while SkyAuth runs. No stale decision allows a request, and trouble of ours is 503."""

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from accounts import token_format
from tests.database_proxy import DatabaseProxy, database_proxy
from tests.e2e.test_outage import machine, unavailable
from tests.http_client import HOST, ask, bearer
from tests.requirements import need_program
from tests.servers import POSTGRESQL, SECRET_KEY, Postgres, SkyAuth, directory, free_port, postgres, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("database-damage")]


def issued(server: SkyAuth) -> str:
    """Return another token of the account that `machine` has created."""
    return str(server.console("issue", account="pipeline"))


def status(server: SkyAuth, token: str) -> int:
    """Return the status of the answer to a token; a 503 must be that of trouble that is ours."""
    reply = server.ask(bearer(token))
    assert reply.status in {200, 401} or unavailable(reply), reply
    return int(reply.status)


def cached(server: SkyAuth, *tokens: str) -> set[int]:
    """Ask until the answers come from the cache, and return their statuses."""
    for _ in range(20):
        seen = {status(server, token) for token in tokens}
        time.sleep(0.05)
    return seen


def is_well(server: SkyAuth, token: str) -> bool:
    """Return whether good and bad tokens are told apart, and the probe says so."""
    seen = status(server, token), status(server, token_format.mint().plaintext), ask(server.port, "/readyz").status
    return seen == (200, 401, 200)


@pytest.mark.sqlite
@pytest.mark.parametrize(("endings", "workers"), [(["-shm"], 1), (["-wal"], 1), (["-shm", "-wal"], 1), (["-wal"], 2)])
def test_promise_54_a_change_counts_after_the_journal_of_sqlite_was_removed(endings: list[str], workers: int) -> None:
    """Without the index of the log (-shm) at its path, no process sees what the others commit."""
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        if workers > 1:
            server.stop()
            server.start(workers=workers)
        kept, revoked = machine(server), issued(server)
        assert cached(server, kept, revoked) == {200}
        assert {ask(server.port, "/sign-in").status for _ in range(5)} == {200}, "the threads of pages have connections, too"
        for ending in endings:
            (server.data / f"skyauth.sqlite3{ending}").unlink()
        wait_until(lambda: all(is_well(server, kept) for _ in range(10)), "SkyAuth has opened the files again", 30)
        server.console("revoke", token=revoked)
        assert {(status(server, kept), status(server, revoked)) for _ in range(10)} == {(200, 401)}
        assert "was removed or replaced while SkyAuth used it" in server.log
        assert "Traceback" not in server.log


@pytest.mark.sqlite
def test_promise_54_a_change_counts_that_was_made_right_after_the_index_of_the_log_was_removed() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        kept, revoked = machine(server), issued(server)
        assert cached(server, kept, revoked) == {200}
        (server.data / "skyauth.sqlite3-shm").unlink()
        server.console("revoke", token=revoked)
        assert status(server, revoked) in {401, 503}
        wait_until(lambda: is_well(server, kept), "SkyAuth has opened the files again", 30)
        assert [status(server, token) for token in (kept, revoked)] == [200, 401]


@pytest.mark.sqlite
@pytest.mark.parametrize("linked", ["DATA_DIR", "DATABASE_URL", "the file"])
def test_promise_54_a_link_that_leads_to_another_sqlite_file_is_no_reason_to_go_on_with_the_former(linked: str) -> None:
    with directory() as base:
        for name in ("first", "second"):
            (base / name).mkdir()
        link, file = base / "link", "skyauth.sqlite3"
        link.symlink_to(f"first/{file}" if linked == "the file" else "first")
        settings = {
            "DATA_DIR": {"DATA_DIR": str(link)},
            "DATABASE_URL": {"DATABASE_URL": f"sqlite:///{link}/{file}"},
            "the file": {"DATABASE_URL": f"sqlite:///{link}"},
        }
        with skyauth_server(DATABASE_TIMEOUT="1", **settings[linked]) as server:
            kept, revoked = machine(server), issued(server)
            assert cached(server, kept, revoked) == {200}
            with (
                closing(sqlite3.connect(base / "first" / file)) as source,
                closing(sqlite3.connect(base / "second" / file)) as copy,
            ):
                source.backup(copy)
                copy.execute("UPDATE accounts_token SET revoked_at = created_at WHERE key_id = ?", [revoked.split("_")[1]])
                copy.commit()
            (base / "next").symlink_to(f"second/{file}" if linked == "the file" else "second")
            (base / "next").replace(link)
            assert {status(server, token) for token in (kept, revoked) for _ in range(5)} == {503}
            assert ask(server.port, "/readyz").status == 503
            assert "The path of the database leads to another file than before. Restart SkyAuth." in server.log
            server.stop()
            server.start()
            assert [status(server, token) for token in (kept, revoked)] == [200, 401]


@contextmanager
def on_postgresql() -> Iterator[tuple[Postgres, DatabaseProxy, SkyAuth]]:
    """Serve SkyAuth behind a proxy, with a PostgreSQL of its own."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        proxy = stack.enter_context(database_proxy(cluster.port))
        settings = {"DATABASE_URL": proxy.url, "DATABASE_TIMEOUT": "2", "SECRET_KEY": SECRET_KEY}
        yield cluster, proxy, stack.enter_context(skyauth_server(**settings))


def revoke(on: Postgres, token: str) -> None:
    """Revoke a token past SkyAuth, as another replica does on the primary."""
    with psycopg.connect(on.url, autocommit=True) as operator:
        done = operator.execute("UPDATE accounts_token SET revoked_at = now() WHERE key_id = %s", [token.split("_")[1]])
        assert done.rowcount == 1


@pytest.mark.postgres
def test_promise_54_a_hot_standby_decides_nothing() -> None:
    """It answers, with data of its past, and the name of the database can lead to it after a failover."""
    with on_postgresql() as (cluster, proxy, server), directory() as data:
        kept, revoked = machine(server), issued(server)
        assert cached(server, kept, revoked) == {200}
        if cluster.user is not None:
            data.chmod(0o777)
        command = [
            need_program("pg_basebackup", hint=POSTGRESQL),
            "-D",
            str(data / "cluster"),
            "-h",
            HOST,
            "-p",
            str(cluster.port),
        ]
        command += ["-U", "postgres", "--no-sync", "--checkpoint=fast", "--write-recovery-conf"]
        subprocess.run(command, check=True, user=cluster.user, cwd="/")
        standby = Postgres(free_port(), data, cluster.user)
        standby.start()
        try:
            with psycopg.connect(standby.url, autocommit=True) as operator:
                operator.execute("SELECT pg_wal_replay_pause()")
            proxy.target = standby.port
            proxy.silence()
            revoke(cluster, revoked)
            until = time.monotonic() + 6
            while time.monotonic() < until:
                assert status(server, revoked) == 503
                assert status(server, kept) == 503
            assert ask(server.port, "/readyz").status == 503
            assert "server is in hot standby mode" in server.log
            proxy.target = cluster.port
            wait_until(lambda: is_well(server, kept), "the primary is used again", 30)
            assert status(server, revoked) == 401
        finally:
            proxy.silence()
            standby.stop()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "replace",
    [
        "ALTER TABLE accounts_token RENAME TO old; ALTER TABLE new RENAME TO accounts_token",
        "CREATE SCHEMA aside; ALTER TABLE accounts_token SET SCHEMA aside; ALTER TABLE new RENAME TO accounts_token",
        # The schema with the name of the role comes first.
        "CREATE SCHEMA postgres; ALTER TABLE new SET SCHEMA postgres; ALTER TABLE postgres.new RENAME TO accounts_token",
    ],
)
def test_promise_54_a_table_that_another_one_replaced_is_noticed_within_a_second(replace: str) -> None:
    """The triggers stay with the table that was replaced."""
    with on_postgresql() as (cluster, _, server):
        kept, revoked = machine(server), issued(server)
        assert cached(server, kept, revoked) == {200}
        with psycopg.connect(cluster.url) as operator:
            operator.execute("CREATE TABLE new AS SELECT * FROM accounts_token")
            operator.execute("UPDATE new SET revoked_at = now() WHERE key_id = %s", [revoked.split("_")[1]])
            operator.execute(replace)  # type: ignore[call-overload]
        wait_until(lambda: status(server, revoked) == 401, "the new table decides", 5)
        assert [status(server, kept) for _ in range(5)] == [200] * 5, "from the database"
        wait_until(lambda: ask(server.port, "/readyz").status == 503, "the probe tells", 5)
        assert "Triggers are missing" in server.log


@pytest.mark.postgres
def test_promise_53_connections_that_were_closed_while_idle_fail_no_request() -> None:
    """By an operator, by `idle_session_timeout`, or by a proxy or firewall in between."""
    with on_postgresql() as (cluster, _, server):
        token = machine(server)
        for _ in range(5):
            wait_until(lambda: is_well(server, token), "all is well", 30)
            with psycopg.connect(cluster.url, autocommit=True) as operator:
                operator.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            assert status(server, token_format.mint().plaintext) == 401
            assert status(server, token) == 200
        assert "The database is lost" not in server.log


@pytest.mark.postgres
def test_promise_53_a_server_that_falls_silent_after_the_login_stops_the_cache_for_no_longer_than_that() -> None:
    with on_postgresql() as (cluster, proxy, server):
        token = machine(server)
        assert cached(server, token) == {200}
        proxy.silent_after_login = True
        proxy.silence()
        until = time.monotonic() + 4
        while time.monotonic() < until:
            status(server, token)
        proxy.silent_after_login = False
        wait_until(lambda: is_well(server, token), "let through again", 30)

        def is_read() -> bool:
            status(server, token)
            with psycopg.connect(cluster.url) as operator:
                recent = "query LIKE 'SELECT mark%' AND state_change > clock_timestamp() - interval '2 seconds'"
                row = operator.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {recent}").fetchone()  # type: ignore[call-overload] # noqa: S608
            return row is not None and row[0] > 0

        wait_until(is_read, "the policy revision is read again", 15)
