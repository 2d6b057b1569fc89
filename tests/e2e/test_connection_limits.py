"""How many connections a worker opens to PostgreSQL, and what `doctor` says if there are too few for all workers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from accounts import token_format
from tests.http_client import HOST, ask, bearer
from tests.servers import ROOT, Postgres, SkyAuth, postgres, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.postgres, pytest.mark.xdist_group("connection-limits")]

SIZE = 3  # DATABASE_POOL_SIZE
WORKERS = 2
PER_WORKER = SIZE + 2


@dataclass
class Lab:
    """A server of two workers on a PostgreSQL of its own, as an ordinary role and not as a superuser."""

    server: SkyAuth
    cluster: Postgres

    def as_superuser(self, statement: str) -> list[Any]:
        with closing(psycopg.connect(self.cluster.url, autocommit=True)) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def connections(self) -> dict[str, int]:
        """Return the number of connections of each process that serves."""
        rows = self.as_superuser(
            "SELECT application_name, count(*) FROM pg_stat_activity"
            " WHERE datname = 'sky' AND application_name LIKE 'skyauth server %' GROUP BY 1"
        )
        return dict(rows)

    def doctor(self, **settings: str) -> list[dict[str, str]]:
        """Return what `doctor` finds about connections."""
        command = [sys.executable, "manage.py", "doctor", "--json"]
        environment = {**self.server.environment, **settings}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        found = json.loads(ended.stdout)["findings"]
        return [each for each in found if each["code"] == "database.connections"]

    def limit(self, what: str, number: int) -> None:
        self.as_superuser(f"ALTER {what} sky CONNECTION LIMIT {number}")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        with closing(psycopg.connect(cluster.url, autocommit=True)) as connection:
            connection.execute("CREATE ROLE sky LOGIN")
            connection.execute("CREATE DATABASE sky OWNER sky")
        url = f"postgres://sky@{HOST}:{cluster.port}/sky"
        server = stack.enter_context(skyauth_server(DATABASE_URL=url, DATABASE_POOL_SIZE=str(SIZE)))
        server.stop()
        server.console.close()  # its connections are counted, too
        server.start(workers=WORKERS)
        yield Lab(server, cluster)


def test_each_worker_has_a_connection_before_the_first_request(lab: Lab) -> None:
    wait_until(lambda: len(lab.connections()) == WORKERS, "a connection of each worker", 20)


def test_a_worker_opens_no_more_connections_than_the_setting_allows(lab: Lab) -> None:
    seen: dict[str, int] = {}

    def unknown_token(_: int) -> int:
        return int(lab.server.ask(bearer(token_format.mint().plaintext)).status)

    with ThreadPoolExecutor(24) as callers:
        for _ in range(4):
            answers = [callers.submit(unknown_token, number) for number in range(80)]
            answers += [callers.submit(lambda: ask(lab.server.port, "/sign-in").status) for _ in range(20)]
            for name, number in lab.connections().items():
                seen[name] = max(seen.get(name, 0), number)
            assert {answer.result() for answer in answers} <= {200, 401}
    assert len(seen) == WORKERS
    assert SIZE <= max(seen.values()) <= PER_WORKER, seen


def test_doctor_compares_the_workers_that_it_sees_with_the_limit(lab: Lab) -> None:
    wait_until(lambda: len(lab.connections()) == WORKERS, "all workers")
    needed = WORKERS * PER_WORKER
    assert lab.doctor() == []
    for what, source in (("ROLE", "CONNECTION LIMIT of the role"), ("DATABASE", "CONNECTION LIMIT of the database")):
        lab.limit(what, needed)
        assert lab.doctor() == []
        lab.limit(what, needed - 1)
        [found] = lab.doctor()
        assert found["severity"] == "warning"
        assert found["what"] == (
            f"{WORKERS} workers can open {needed} connections, and other programs use 0, "
            f"but PostgreSQL accepts {needed - 1} ({source})."
        )
        assert found["todo"].startswith(f"Set DATABASE_POOL_SIZE={SIZE - 1} or less, or raise the limit by 1 or more.")
        lab.limit(what, -1)


def test_doctor_subtracts_reserved_connections_and_those_of_other_programs(lab: Lab) -> None:
    with closing(psycopg.connect(lab.cluster.url)), closing(psycopg.connect(lab.cluster.url)):
        [found] = lab.doctor(DATABASE_POOL_SIZE="96")
    assert "2 workers can open 196 connections, and other programs use 2, but PostgreSQL accepts 197 " in found["what"]
    assert "(max_connections is 200, and 3 are reserved)" in found["what"]
    assert lab.doctor(DATABASE_POOL_SIZE="96") == []


def test_without_a_server_one_worker_is_compared(lab: Lab) -> None:
    lab.server.stop()
    try:
        wait_until(lambda: not lab.connections(), "no worker is left")
        [found] = lab.doctor(DATABASE_POOL_SIZE="500")
        assert found["what"].startswith("1 worker can open 502 connections, and other programs use 0, but")
        assert lab.doctor() == []
    finally:
        lab.server.start(workers=WORKERS)


def test_a_pool_of_one_connection_serves_pages_and_decisions(lab: Lab) -> None:
    with skyauth_server(DATABASE_POOL_SIZE="1") as server, ThreadPoolExecutor(8) as callers:
        paths = ["/sign-in", "/readyz", "/api/v1/whoami"] * 8
        assert set(callers.map(lambda path: ask(server.port, path).status, paths)) == {200, 401}
        assert server.ask(bearer(token_format.mint().plaintext)).status == 401
