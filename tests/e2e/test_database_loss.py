"""PostgreSQL is lost in the ways in which hosts and networks fail. Answers are 503 in time, and all is well soon after."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

import psycopg
import pytest

from accounts import token_format
from tests.database_proxy import DatabaseProxy, database_proxy
from tests.e2e.test_faults import children
from tests.e2e.test_outage import machine, unavailable
from tests.examples import examples
from tests.http_client import HOST, ask, bearer
from tests.requirements import need_program
from tests.servers import POSTGRESQL, Postgres, SkyAuth, directory, free_port, postgres, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.postgres, pytest.mark.xdist_group("database-loss")]

TIMEOUT = 2  # DATABASE_TIMEOUT
FAST = 1.0  # seconds that a 503 takes while the database is known to be lost
RECOVERY = TIMEOUT + 2.0


@dataclass
class Lab:
    """A SkyAuth whose way to PostgreSQL can be broken, with a caller that it knows."""

    cluster: Postgres
    proxy: DatabaseProxy
    server: SkyAuth
    token: str
    began: int = field(default=0)  # where the log of the current test begins

    def ask(self) -> tuple[int, float]:
        """Return the status of an answer, and how long it took. An answer is 200, or the 503 of trouble that is ours."""
        started = time.monotonic()
        reply = self.server.ask(bearer(self.token))
        assert reply.status == 200 or unavailable(reply), reply
        return reply.status, time.monotonic() - started

    def refused_fast(self, seconds: float) -> None:
        """Expect 503 for so many seconds, each of them fast but for the first."""
        first, _ = self.ask()
        assert first == 503
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status, took = self.ask()
            assert status == 503
            assert self.ask_database() == 503
            assert took < FAST, f"it took {took:.1f} seconds"
            assert [self.probe("/healthz"), self.probe("/readyz")] == [200, 503]
            time.sleep(0.05)

    def back_within(self, seconds: float = RECOVERY) -> None:
        """Expect that callers are let through again within so many seconds, and that it stays so."""
        started = time.monotonic()
        wait_until(lambda: self.ask()[0] == 200 and self.ask_database() == 401, "let through again", 90)
        took = time.monotonic() - started
        assert took < seconds, f"it took {took:.1f} seconds"
        assert [self.ask()[0] for _ in range(20)] == [200] * 20
        assert set(self.busy()) == {401}
        wait_until(lambda: self.probe("/readyz") == 200, "ready again", seconds)

    def ask_database(self) -> int:
        """Return the status of the answer to a token that nobody has seen before."""
        return int(self.server.ask(bearer(token_format.mint().plaintext)).status)

    def probe(self, path: str) -> int:
        """Return the status of a probe."""
        return ask(self.server.port, path).status

    def busy(self) -> list[int]:
        """Return the answers to unknown tokens, 8 at a time. Each uses the database, so the pool has several connections."""
        with ThreadPoolExecutor(8) as callers:
            return list(callers.map(lambda _: self.ask_database(), range(80)))

    @property
    def log(self) -> str:
        """What was logged since the test began."""
        return self.server.log[self.began :]

    def was_one_outage(self) -> None:
        """Expect that one loss was logged, and its end, and nothing else at length."""
        assert (self.log.count("The database is lost: "), self.log.count("The database is found again.")) == (1, 1), self.log
        assert "Traceback" not in self.log
        assert len(self.log.splitlines()) < 20, self.log


@pytest.fixture(scope="module")
def running() -> Iterator[Lab]:
    """SkyAuth behind a proxy, with a PostgreSQL of its own."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        proxy = stack.enter_context(database_proxy(cluster.port))
        server = stack.enter_context(skyauth_server(DATABASE_URL=proxy.url, DATABASE_TIMEOUT=str(TIMEOUT)))
        yield Lab(cluster, proxy, server, machine(server))


@pytest.fixture
def lab(running: Lab) -> Lab:
    """The same for each test, when all is well."""
    wait_until(lambda: running.ask()[0] == 200 and set(running.busy()) == {401}, "all is well", 90)
    running.began = len(running.server.log)
    return running


def test_promise_53_a_host_that_is_gone_without_a_reset_and_whose_address_moved(lab: Lab) -> None:
    lab.proxy.vanish()  # new connections lead to the new host
    lab.back_within()


def test_promise_53_a_host_that_is_gone_for_everybody(lab: Lab) -> None:
    lab.proxy.vanish_for_all()
    lab.refused_fast(10)
    lab.proxy.return_for_new()
    lab.back_within()
    lab.was_one_outage()


def test_promise_53_a_peer_that_goes_on_acknowledging_and_never_answers(lab: Lab) -> None:
    lab.proxy.accepts_silently = True
    lab.proxy.silence()
    lab.refused_fast(10)
    lab.proxy.return_for_new()
    lab.back_within()
    lab.was_one_outage()


def test_promise_53_one_silent_connection_of_several_is_not_an_outage(lab: Lab) -> None:
    silent = lab.proxy.silence_last()
    seen = [*lab.busy(), *lab.busy()]
    assert silent.swallowed > 0, "it was used"
    assert set(seen) <= {401, 503}
    assert seen.count(503) <= 1, "only the request that used it"
    lab.back_within()
    assert "The database is lost" not in lab.log


@pytest.mark.long
def test_promise_53_connections_refused(lab: Lab) -> None:
    lab.proxy.refuse()
    lab.refused_fast(examples(12, long=70))
    lab.proxy.listen_again()
    lab.back_within()
    lab.was_one_outage()
    assert "Connection refused" in lab.log


def test_promise_53_a_postgresql_that_is_stopped_by_a_signal_and_continues(lab: Lab) -> None:
    parent = lab.cluster.programs[-1].process.pid
    pids = [parent, *children(parent)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        lab.refused_fast(8)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    lab.back_within()


def test_promise_53_a_restart_of_postgresql(lab: Lab) -> None:
    lab.cluster.stop()
    lab.refused_fast(2)
    lab.cluster.start()
    lab.back_within()
    assert "57P01" in lab.log, "the reason that PostgreSQL gave"


def test_promise_53_a_postgresql_that_accepts_no_more_connections(lab: Lab) -> None:
    with ExitStack() as stack:
        url = lab.cluster.url
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(closing(psycopg.connect(url)))
        with ThreadPoolExecutor(24) as callers:
            minted = [[bearer(token_format.mint().plaintext)] for _ in range(100)]
            seen = [reply.status for reply in callers.map(lambda headers: ask(lab.server.port, "/metrics", headers), minted)]
        assert set(seen) <= {401, 503}
        assert seen.count(401) > 80, "most requests wait for a connection that another one returns"
        assert lab.log.count("PostgreSQL accepts no new connection: ") == 1, lab.log
        assert [lab.ask()[0] for _ in range(20)] == [200] * 20, "the connections that are there work"
        assert "The database is lost" not in lab.log
        assert lab.probe("/readyz") == 200
    lab.back_within()


def test_promise_53_after_a_failover_no_connection_to_the_former_primary_is_used_for_long(lab: Lab) -> None:
    """The former primary is not fenced: it goes on answering. The reader of the policy revision has a test of its own."""
    with directory() as data:
        if lab.cluster.user is not None:
            data.chmod(0o777)
        program = need_program("pg_basebackup", hint=POSTGRESQL)
        command = [program, "-D", str(data / "cluster"), "-h", HOST, "-p", str(lab.cluster.port), "-U", "postgres", "--no-sync"]
        subprocess.run([*command, "--checkpoint=fast"], check=True, user=lab.cluster.user, cwd="/")
        promoted = Postgres(free_port(), data, lab.cluster.user)
        promoted.start()
        try:
            lab.proxy.target = promoted.port
            wait_until(lambda: set(lab.busy()) == {401} and used(lab.cluster) == 0, "the former primary is not used", 45)
            assert used(promoted) > 0
        finally:
            lab.proxy.target = lab.cluster.port
            lab.proxy.silence()
            promoted.stop()


def used(cluster: Postgres) -> int:
    """Return how many connections of the pool were used within the last two seconds."""
    with psycopg.connect(cluster.url) as operator:
        row = operator.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND state_change > clock_timestamp() - interval '2 seconds' AND query NOT LIKE 'SELECT mark%'"
        ).fetchone()
        assert row is not None
        return int(row[0])
