"""Zero delay: what stops a caller stops the next request on every replica, under load, on SQLite and on PostgreSQL.

Two servers share one database. Threads ask both without a pause, over connections that stay open, so that nearly all answers
come from memory; meanwhile changes are made. No request that was sent after a change was committed may be answered as before.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import pytest

from tests.examples import examples
from tests.http_client import HOST, answers, bearer, question
from tests.servers import SkyAuth, replica, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("freshness")]

LOADERS = 3  # for each server


@dataclass
class Conversation:
    """Asks one server about one caller, over one connection."""

    server: SkyAuth
    credential: tuple[str, bytes]
    method: str = "GET"
    connection: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.connection = socket.create_connection((HOST, self.server.port), timeout=20)
        self.raw = question(self.credential).replace(b"Method: GET", f"Method: {self.method}".encode())

    def ask(self) -> int:
        """Return the status of the next answer."""
        self.connection.sendall(self.raw)
        return answers(self.connection, ["GET"])[0].status

    def close(self) -> None:
        self.connection.close()


@dataclass
class Load:
    """What loaders were answered: when the question was sent, when the answer came, and its status."""

    seen: list[tuple[float, float, int]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, server: SkyAuth, credential: tuple[str, bytes], method: str = "GET") -> None:
        """Ask without a pause until it is done."""
        with closing(Conversation(server, credential, method)) as conversation:
            while not self.done.is_set():
                sent = time.monotonic()
                status = conversation.ask()
                self.seen.append((sent, time.monotonic(), status))

    @property
    def statuses(self) -> set[int]:
        return {status for _, _, status in self.seen}


@contextmanager
def loaded(servers: tuple[SkyAuth, ...], credential: tuple[str, bytes], method: str = "GET", *, each: int) -> Iterator[Load]:
    """Have threads ask the servers about one caller while the block runs; what they were answered is complete afterwards."""
    load = Load()
    with ThreadPoolExecutor(each * len(servers)) as pool:
        running = [pool.submit(load.run, server, credential, method) for server in servers for _ in range(each)]
        try:
            yield load
        finally:
            load.done.set()
        for loader in running:
            loader.result(30)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[SkyAuth, SkyAuth]]:
    """Two servers on one database."""
    with skyauth_server(AUTH_USER_HEADER_FORMAT="plaintext") as one, replica(one) as two:
        one.console("create_user", name="bob@example.com", role="user", password="correct horse battery staple")
        yield one, two


def changes(server: SkyAuth) -> dict[str, tuple[str, Callable[[], object], Callable[[], object]]]:
    """Return what may be changed to and fro while a token is used: method asked, what stops it, what lets it go on."""
    console = server.console
    return {
        "owner disabled": (
            "GET",
            lambda: console("set_active", name="bob@example.com", active=False),
            lambda: console("set_active", name="bob@example.com", active=True),
        ),
        "account disabled": (
            "GET",
            lambda: console("update_account", name="pipeline", active=False),
            lambda: console("update_account", name="pipeline", active=True),
        ),
        "owner demoted": (
            "POST",
            lambda: console("set_role", name="bob@example.com", role="viewer"),
            lambda: console("set_role", name="bob@example.com", role="user"),
        ),
        "account demoted": (
            "POST",
            lambda: console("update_account", name="pipeline", role="viewer"),
            lambda: console("update_account", name="pipeline", role="user"),
        ),
        "role changed": (
            "POST",
            lambda: console("set_permissions", name="user", permissions=["upstream:read"]),
            lambda: console("set_permissions", name="user", permissions=["upstream:read", "upstream:write"]),
        ),
        "routes changed": ("POST", lambda: console("no_routes"), lambda: console("load_pack", name="read-write")),
    }


CHANGES = ["owner disabled", "account disabled", "owner demoted", "account demoted", "role changed", "routes changed"]
TIMES = examples(25, long=100)  # there and back


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_promise_14_and_15_no_answer_is_older_than_its_question(pair: tuple[SkyAuth, SkyAuth], name: str) -> None:
    one, _ = pair
    _account(one)
    method, stop, go_on = changes(one)[name]
    credential = bearer(str(one.console("issue", account="pipeline")))
    stopped: list[tuple[float, float]] = []  # from the commit of the stop to the begin of what lets it go on
    with ExitStack() as stack:
        watchers = [stack.enter_context(closing(Conversation(server, credential, method))) for server in pair]
        load = stack.enter_context(loaded(pair, credential, method, each=LOADERS))
        for _ in range(TIMES):
            assert [watcher.ask() for watcher in watchers] == [200, 200]
            stop()
            committed = time.monotonic()
            assert all(watcher.ask() in {401, 403} for watcher in watchers), "the very next request, on both replicas"
            time.sleep(0.02)
            stopped.append((committed, time.monotonic()))
            go_on()
            assert [watcher.ask() for watcher in watchers] == [200, 200]
    assert len(load.seen) > 500, "there was load"
    stale = [
        sent
        for sent, answered, status in load.seen
        if status == 200 and any(begin <= sent and answered < end for begin, end in stopped)
    ]
    assert stale == []
    assert load.statuses <= {200, 401, 403}, "nobody was told of trouble"


@pytest.mark.long
def test_promise_14_a_revoked_token_is_refused_at_once_on_every_replica_while_others_go_on(pair: tuple[SkyAuth, SkyAuth]) -> None:
    one, _ = pair
    _account(one)
    with loaded(pair, bearer(str(one.console("issue", account="pipeline"))), each=1) as load:
        for _ in range(TIMES):
            token = str(one.console("issue", account="pipeline"))
            with ExitStack() as stack:
                watchers = [stack.enter_context(closing(Conversation(server, bearer(token)))) for server in pair]
                assert [watcher.ask() for watcher in watchers * 2] == [200] * 4
                one.console("revoke", token=token)
                assert [watcher.ask() for watcher in watchers] == [401, 401]
    assert load.statuses == {200}


def _account(server: SkyAuth) -> None:
    """Make bob's account `pipeline`, once."""
    server.console("ensure_account", name="pipeline", role="user", owner="bob@example.com")
