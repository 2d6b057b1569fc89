"""The stage: what `make run` starts, in front of an upstream that keeps what reaches it."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import bcrypt
import pytest

from tests.http_client import Headers, Reply, ask, bearer
from tests.servers import Console, Launch, database, directory, environment, launched
from tests.upstream import Arrived, Upstream, upstream

SHARED_PASSWORD = "team spirit"


@dataclass(frozen=True)
class Stage:
    """A gateway to send requests to, the upstream behind it, and the console to SkyAuth's data."""

    run: Launch
    upstream: Upstream
    console: Console

    def ask(self, *headers: tuple[str, str | bytes], target: str | bytes = "/v1/things", method: str = "GET") -> Reply:
        """Send a request through the gateway."""
        return ask(self.run.gateway, target, headers, method=method)

    def told(self, *headers: tuple[str, str | bytes], target: str | bytes = "/v1/things", method: str = "GET") -> Arrived:
        """Send a request that is let through, and return what reached the upstream."""
        before = len(self.upstream.arrived)
        reply = self.ask(*headers, target=target, method=method)
        assert reply.status == 200, (reply, self.run.output)
        assert len(self.upstream.arrived) == before + 1
        return self.upstream.arrived[-1]

    def refused(self, *headers: tuple[str, str | bytes], target: str | bytes = "/v1/things", method: str = "GET") -> Reply:
        """Send a request that is not let through, and return the answer."""
        before = len(self.upstream.arrived)
        reply = self.ask(*headers, target=target, method=method)
        assert len(self.upstream.arrived) == before, "the request reached the upstream"
        return reply

    def machine(self, name: str, role: str, owner: str | None = None) -> str:
        """Create a service account and return a token of it."""
        self.console("create_account", name=name, role=role, owner=owner)
        return str(self.console("issue", account=name))


def identity(arrived: Arrived) -> dict[str, list[str]]:
    """Return what the upstream was told of the caller, every value of each header."""
    names = ("Email", "User", "Groups", "Role", "Method")
    return {name.lower(): arrived.all(f"X-Auth-Request-{name}") for name in names}


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Everything that `make run` starts, for all tests of the session."""
    line = "team:" + bcrypt.hashpw(SHARED_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    with (
        directory() as data,
        database() as where,
        upstream() as behind,
        launched(data, UPSTREAM=behind.address, AUTH_STRING=line, **where) as run,
        closing(Console(environment(**run.environment))) as console,
    ):
        yield Stage(run, behind, console)


@pytest.fixture(scope="session")
def pipeline(stage: Stage) -> str:
    """A token of the service account `pipeline`, bob's, with the role user."""
    stage.console("create_user", name="bob@example.com", role="user", password="correct horse battery staple")
    return stage.machine("pipeline", "user", owner="bob@example.com")


@pytest.fixture(scope="session")
def reader(stage: Stage) -> str:
    """A token of a service account with the role viewer."""
    return stage.machine("reader", "viewer")


__all__ = ["Headers", "Stage", "bearer", "identity"]
