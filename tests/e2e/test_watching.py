"""Watching the running server: probes through outages, and metrics that tell of all workers."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.database_proxy import database_proxy
from tests.e2e.test_freshness import Conversation
from tests.http_client import HOST, ask, bearer
from tests.servers import SkyAuth, directory, listens, postgres, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("watching")]

METRICS_TOKEN = "m" * 20 + "0123456789abcdef"
SCRAPE_TIMEOUT = 10  # seconds, Prometheus' default
FLUSHED = 1.5  # seconds after which each worker has told what it counted

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def machine(server: SkyAuth, name: str, role: str) -> tuple[str, bytes]:
    """Return the Authorization header of a new service account."""
    server.console("create_account", name=name, role=role)
    return bearer(str(server.console("issue", account=name)))


def scraper(server: SkyAuth) -> tuple[str, bytes]:
    """Return the Authorization header of a monitoring system."""
    server.console("ensure_role", name="metrics", permissions=["metrics:read"])
    return machine(server, "prometheus", "metrics")


def scrape(server: SkyAuth, credential: tuple[str, bytes]) -> Samples:
    """Return every sample of a scrape."""
    reply = ask(server.port, "/metrics", [credential])
    assert reply.status == 200, reply
    families = text_string_to_metric_families(reply.body.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def decisions(samples: Samples, **labels: str) -> float:
    """Return how many decisions have these labels."""
    wanted = set(labels.items())
    return sum(value for (name, has), value in samples.items() if name == "skyauth_decisions_total" and wanted <= set(has))


def converse(server: SkyAuth, credential: tuple[str, bytes], times: int) -> None:
    """Ask a number of times over one connection, and be let through."""
    with closing(Conversation(server, credential)) as conversation:
        assert {conversation.ask() for _ in range(times)} == {200}


def warm(server: SkyAuth, monitoring: tuple[str, bytes], workers: int = 1) -> Samples:
    """Return a scrape after each worker has remembered a caller: on PostgreSQL it first has to connect, to hear of changes."""
    caller = machine(server, "warm", "user")
    found: Samples = {}

    def remembered() -> bool:
        nonlocal found
        converse(server, caller, 2)
        found = scrape(server, monitoring)
        return found["skyauth_remembered_callers", ()] == workers

    wait_until(remembered, "a caller that every worker remembers")
    time.sleep(FLUSHED if workers > 1 else 0)
    return scrape(server, monitoring)


def probe(server: SkyAuth, path: str) -> int:
    reply = ask(server.port, path)
    assert reply.header("Cache-Control") == "no-store"
    return reply.status


# One worker


def test_the_numbers_are_those_of_what_was_asked() -> None:
    with skyauth_server() as server:
        monitoring, pipeline = scraper(server), machine(server, "pipeline", "user")
        before = warm(server, monitoring)
        converse(server, pipeline, 30)
        reader = machine(server, "reader", "viewer")
        converse(server, reader, 2)
        for _ in range(3):
            server.ask()
            server.ask(bearer("sky_bad"))
            server.ask(reader, method="POST")
            server.ask(pipeline, uri="/../x")
        after = scrape(server, monitoring)

        def grew(**labels: str) -> float:
            return decisions(after, **labels) - decisions(before, **labels)

        assert grew(outcome="allowed") == 32
        assert grew(outcome="unauthenticated", reason="no-credential") == 3
        assert grew(outcome="unauthenticated", reason="bad-credential") == 3
        assert grew(outcome="denied", reason="not-permitted") == 3
        assert grew(outcome="denied", reason="unreadable-target") == 3
        assert grew() == 44
        assert grew(outcome="allowed", way="database") == 2, "the first sight of each"
        assert grew(outcome="allowed", way="memory") == 30
        for way in ("memory", "database"):
            label = (("way", way),)
            assert after["skyauth_decision_seconds_count", label] == decisions(after, way=way)
            assert 0 < after["skyauth_decision_seconds_sum", label] < 60
        assert after["skyauth_mark_read_seconds_count", ()] > before["skyauth_mark_read_seconds_count", ()]
        assert after["skyauth_remembered_callers", ()] == 3
        assert after["skyauth_tokens", ()] == 4
        assert after["process_resident_memory_bytes", ()] > 10_000_000


# Several workers


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[SkyAuth, Path]]:
    """A server of two workers, and the directory for its temporary files."""
    with directory() as temporary, skyauth_server(TMPDIR=str(temporary)) as server:
        server.stop()
        server.start(workers=2)
        wait_until(lambda: len(alive(temporary)) == 2, "two workers")
        yield server, temporary


def alive(temporary: Path) -> dict[int, Path]:
    """Return the file that says that a worker lives, by the worker's process id."""
    return {int(path.stem): path for path in temporary.glob("skyauth-metrics-*/*.alive")}


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_a_scrape_tells_of_all_workers_and_a_killed_one_leaves_its_counts(workers: tuple[SkyAuth, Path]) -> None:
    server, temporary = workers
    monitoring, pipeline = scraper(server), machine(server, "pipeline", "user")
    first, second = alive(temporary)
    before = warm(server, monitoring, workers=2)
    for _ in range(40):  # connections: the kernel gives some of them to either worker
        converse(server, pipeline, 5)
    time.sleep(FLUSHED)
    scrapes = [scrape(server, monitoring) for _ in range(6)]
    assert {decisions(each) - decisions(before) for each in scrapes} == {200}, "whichever worker is asked"
    [asked] = {decisions(each, way="database") - decisions(before, way="database") for each in scrapes}
    assert asked in {1, 2}, "one for each worker that the kernel gave a connection to"
    assert {each["skyauth_remembered_callers", ()] for each in scrapes} == {4}, "two callers in two memories"
    assert {each["skyauth_decision_seconds_count", (("way", "memory"),)] for each in scrapes} == {
        before["skyauth_decision_seconds_count", (("way", "memory"),)] + 198
    }
    memory = resident(first) + resident(second)
    assert scrapes[-1]["process_resident_memory_bytes", ()] == pytest.approx(memory, rel=0.1)
    assert scrapes[-1]["skyauth_tokens", ()] == 3, "what is in the database is there once"

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(alive(temporary).keys() - {first}) == 2, "another worker in its place")
    time.sleep(FLUSHED)
    for _ in range(6):
        after = scrape(server, monitoring)
        assert decisions(after) - decisions(before) == 200, "what was counted stays counted"
        assert after["skyauth_remembered_callers", ()] == 2, "what the dead one remembered is gone with it"
    assert first not in alive(temporary)
    third = next(pid for pid in alive(temporary) if pid != second)
    memory = resident(second) + resident(third)
    assert after["process_resident_memory_bytes", ()] == pytest.approx(memory, rel=0.1)


def test_a_new_server_counts_from_nothing_and_an_ended_one_leaves_no_file(workers: tuple[SkyAuth, Path]) -> None:
    server, temporary = workers
    server.console("ensure_role", name="metrics", permissions=["metrics:read"])
    server.console("ensure_account", name="prometheus", role="metrics")
    monitoring = bearer(str(server.console("issue", account="prometheus")))
    server.ask()
    assert len(list(temporary.glob("skyauth-metrics-*"))) == 1
    server.stop()
    assert not list(temporary.iterdir())
    server.start(workers=2)
    wait_until(lambda: len(alive(temporary)) == 2, "two workers")
    assert decisions(scrape(server, monitoring)) == 0


# Outages


def test_a_stopped_server_answers_no_probe() -> None:
    with skyauth_server() as server:
        assert (probe(server, "/healthz"), probe(server, "/readyz")) == (200, 200)
        server.stop()
        assert not listens(server.port)


@pytest.mark.sqlite
def test_a_locked_database_is_alive_and_not_ready_until_it_is_free_again() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        with closing(sqlite3.connect(server.data / "skyauth.sqlite3", isolation_level=None)) as other:
            for statement in ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE"):
                other.execute(statement).fetchall()
            began = time.monotonic()
            assert (probe(server, "/healthz"), probe(server, "/readyz")) == (200, 503)
            assert time.monotonic() - began < 4
        wait_until(lambda: probe(server, "/readyz") == 200, "ready again", 10)


@pytest.mark.sqlite
def test_a_database_that_is_gone_is_not_ready() -> None:
    with skyauth_server() as server:
        assert probe(server, "/readyz") == 200
        for file in server.data.glob("skyauth.sqlite3*"):
            file.unlink()
        wait_until(lambda: probe(server, "/readyz") == 503, "not ready", 10)
        assert probe(server, "/healthz") == 200
        assert "Not ready: The database cannot be used" in server.log


@pytest.mark.postgres
def test_postgresql_that_goes_away_is_not_ready_until_it_is_back_and_alive_throughout() -> None:
    with postgres() as cluster, skyauth_server(DATABASE_URL=cluster.url, DATABASE_TIMEOUT="1") as server:
        assert probe(server, "/readyz") == 200
        cluster.stop()
        wait_until(lambda: probe(server, "/readyz") == 503, "not ready", 10)
        assert [probe(server, "/healthz") for _ in range(5)] == [200] * 5
        cluster.start()
        wait_until(lambda: probe(server, "/readyz") == 200, "ready again", 10)


@pytest.mark.postgres
def test_the_metrics_of_a_lost_database_are_answered_in_time_with_what_the_process_knows() -> None:
    settings = {"DATABASE_TIMEOUT": "2", "METRICS_TOKEN": METRICS_TOKEN}
    with (
        postgres() as cluster,
        database_proxy(cluster.port) as proxy,
        skyauth_server(DATABASE_URL=proxy.url, **settings) as server,
    ):
        monitoring, other = bearer(METRICS_TOKEN), scraper(server)
        before = scrape(server, monitoring)
        assert (before["skyauth_database_lost", ()], before["skyauth_ready", ()]) == (0, 1)
        assert (before["skyauth_database_counted", ()], before["skyauth_tokens", ()]) == (1, 1)

        def answered_in_time() -> Samples:
            started = time.monotonic()
            found = scrape(server, monitoring)
            assert time.monotonic() - started < SCRAPE_TIMEOUT
            return found

        for lose, recover in (
            (proxy.vanish_for_all, proxy.return_for_new),
            (cluster.stop, cluster.start),
        ):
            lose()
            first = answered_in_time()
            assert not {name for name, _ in first} & {"skyauth_tokens", "skyauth_users", "skyauth_service_accounts"}
            assert first["skyauth_database_counted", ()] == 0
            wait_until(lambda: answered_in_time()["skyauth_database_lost", ()] == 1, "the loss is known", 20)
            assert server.ask(bearer("sky_unknown")).status in {401, 503}
            wait_until(lambda: probe(server, "/readyz") == 503, "not ready", 10)
            lost = answered_in_time()
            assert lost["skyauth_ready", ()] == 0
            assert lost["process_resident_memory_bytes", ()] > 10_000_000
            assert decisions(lost) > decisions(before)
            assert ask(server.port, "/metrics", [other]).status == 503, "its permission is in the database"
            recover()
            wait_until(lambda: answered_in_time().get(("skyauth_tokens", ())) == 1, "counted again", 20)
            wait_until(lambda: probe(server, "/readyz") == 200, "ready again", 10)
        after = scrape(server, monitoring)
        assert (after["skyauth_database_lost", ()], after["skyauth_ready", ()]) == (0, 1)
        assert ask(server.port, "/metrics", [other]).status == 200


@pytest.mark.sqlite
def test_the_metrics_of_a_locked_database_are_answered_in_time_without_what_it_counts() -> None:
    with skyauth_server(DATABASE_TIMEOUT="60", METRICS_TOKEN=METRICS_TOKEN) as server:
        assert scrape(server, bearer(METRICS_TOKEN))["skyauth_database_counted", ()] == 1
        with closing(sqlite3.connect(server.data / "skyauth.sqlite3", isolation_level=None)) as other:
            for statement in ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE"):
                other.execute(statement).fetchall()
            for _ in range(3):
                started = time.monotonic()
                assert scrape(server, bearer(METRICS_TOKEN))["skyauth_database_counted", ()] == 0
                assert time.monotonic() - started < SCRAPE_TIMEOUT
        wait_until(lambda: scrape(server, bearer(METRICS_TOKEN))["skyauth_database_counted", ()] == 1, "counted again")


def test_promise_35_the_metrics_token_reads_the_metrics_and_nothing_else() -> None:
    with skyauth_server(METRICS_TOKEN=METRICS_TOKEN) as server:
        token = bearer(METRICS_TOKEN)
        for host in (HOST, "10.20.30.40:8000", "nobody.example"):
            reply = ask(server.port, "/metrics", [("Host", host), token])
            assert (reply.status, reply.header("Cache-Control")) == (200, "no-store")
        assert ask(server.port, "/metrics", [("Authorization", f"bearer {METRICS_TOKEN}")]).status == 200
        openmetrics = ask(server.port, "/metrics", [token, ("Accept", "application/openmetrics-text;version=1.0.0")])
        assert (openmetrics.header("Content-Type") or "").startswith("application/openmetrics-text")
        assert ask(server.port, "/metrics", [token], method="HEAD").body == b""
        refused = ask(server.port, "/metrics", [token], method="POST")
        assert (refused.status, refused.header("Allow")) == (405, "GET, HEAD")
        for credentials in (
            [],
            [bearer(METRICS_TOKEN[:-1])],
            [bearer(METRICS_TOKEN + "x")],
            [token, token],
            [token, bearer("sky_other")],
            [("Authorization", METRICS_TOKEN)],
            [("Authorization", f"Basic {METRICS_TOKEN}")],
            [bearer("")],
        ):
            reply = ask(server.port, "/metrics", credentials)
            assert reply.status == 401, credentials
            assert b"skyauth_" not in reply.body
        for path in ("/metrics/", "//metrics", "/api/v1/users", "/api/v1/whoami", "/admin/"):
            assert ask(server.port, path, [token]).status in {401, 404}, path
        assert server.ask(token).status == 401
        assert METRICS_TOKEN not in server.log


@pytest.mark.postgres
def test_a_trigger_that_is_dropped_is_not_ready() -> None:
    with postgres() as cluster, skyauth_server(DATABASE_URL=cluster.url) as server:
        assert probe(server, "/readyz") == 200
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            found = connection.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'accounts_token'::regclass").fetchall()
            for (name,) in found:
                with suppress(psycopg.Error):  # those of foreign keys are PostgreSQL's own
                    connection.execute(f"DROP TRIGGER {name} ON accounts_token")  # type: ignore[call-overload]
        wait_until(lambda: probe(server, "/readyz") == 503, "not ready", 10)
