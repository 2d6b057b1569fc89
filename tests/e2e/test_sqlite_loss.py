"""SQLite fails as files and disks do: forward-auth requests and probes are answered in time, and the event loop never waits."""

import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from accounts import token_format
from tests.e2e.test_faults import locked_for_readers
from tests.e2e.test_outage import machine
from tests.http_client import ask, bearer
from tests.servers import SkyAuth, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.sqlite, pytest.mark.xdist_group("sqlite-loss")]

PATIENCE = 11.0  # seconds: the policy revision is read in at most 1, and a thread decides in at most 8
READY = 3.0  # and a probe of /readyz after 2


@contextmanager
def readers_locked(server: SkyAuth) -> Iterator[None]:
    with locked_for_readers(server.data / "skyauth.sqlite3"):
        yield


@contextmanager
def moved_away(server: SkyAuth) -> Iterator[None]:
    files = list(server.data.glob("skyauth.sqlite3*"))
    for file in files:
        file.rename(file.with_name(f"away-{file.name}"))
    try:
        yield
    finally:
        for file in server.data.glob("skyauth.sqlite3*"):
            file.unlink()
        for file in files:
            file.with_name(f"away-{file.name}").rename(file)


@contextmanager
def full_disk(server: SkyAuth) -> Iterator[None]:
    pid = server.programs[-1].process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))  # no write to any file succeeds
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@dataclass
class Seen:
    """Statuses during a failure."""

    verify: set[int]
    ready: set[int]


def observe(server: SkyAuth, known: tuple[str, bytes]) -> Seen:
    """Ask at the same time as known and unknown callers, and as probes. Fail if an answer takes too long."""

    def verify(credential: tuple[str, bytes]) -> int:
        began = time.monotonic()
        status = int(server.ask(credential).status)
        assert time.monotonic() - began < PATIENCE
        return status

    def ready(_: int) -> int:
        began = time.monotonic()
        status = ask(server.port, "/readyz").status
        assert time.monotonic() - began < READY
        return status

    time.sleep(0.6)  # until then, the result of the last probe is used
    with ThreadPoolExecutor(8) as callers:
        asked = [callers.submit(verify, each) for each in (known, bearer(token_format.mint().plaintext), bearer("sky_x"))]
        probes = [callers.submit(ready, number) for number in range(3)]
        for _ in range(10):
            began = time.monotonic()
            assert ask(server.port, "/healthz").status == 200
            assert time.monotonic() - began < 1, "the event loop does not wait for SQLite"
            time.sleep(0.1)
        return Seen({each.result(30) for each in asked}, {each.result(30) for each in probes})


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    with skyauth_server(DATABASE_TIMEOUT="1") as running:
        yield running


@pytest.fixture(scope="module")
def token(server: SkyAuth) -> str:
    return machine(server)


@pytest.mark.parametrize(
    ("failure", "ready", "verify"),
    [
        (readers_locked, {503}, {200, 401, 503}),
        (moved_away, {503}, {200, 401, 503}),
        (full_disk, {200}, {200, 401}),
    ],
)
def test_promise_53_answers_and_probes_are_in_time_whatever_happens_to_the_file(
    server: SkyAuth, token: str, failure, ready: set[int], verify: set[int]
) -> None:
    known = bearer(token)
    wait_until(lambda: server.ask(known).status == 200 and ask(server.port, "/readyz").status == 200, "all is well")
    with failure(server):
        seen = observe(server, known)
        assert seen.ready == ready
        assert seen.verify <= verify
    wait_until(lambda: server.ask(known).status == 200 and ask(server.port, "/readyz").status == 200, "all is well again")
    assert server.ask(bearer(token_format.mint().plaintext)).status == 401
    assert "Traceback" not in server.log
