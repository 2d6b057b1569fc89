"""The role is told before anybody is let through; who cannot be told of waits, and nobody else does.

In the server's place stands one that says what the test wants: it hangs, lies and dies. The real one is in tests/e2e/skypilot.
"""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.utils import timezone

from accounts import selectors
from accounts.identifiers import user_uid
from accounts.models import ServiceAccount, SyncedRole, User
from accounts.services import users
from integrations.skypilot import role_sync
from integrations.skypilot.client import UpstreamUnavailable
from rbac.principals import Kind, Method, Principal, anonymous, shared
from rbac.principals import system as system_principal
from tests.factories import principal
from tests.http_client import HOST
from tests.races import at_once

SYSTEM = system_principal("tests")


class Server(ThreadingHTTPServer):
    """Does with roles what the real server does; `answers` can be put in the place of what it would say to a path."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.roles: dict[str, str] = {}
        self.asked: list[str] = []
        self.delay = 0.0
        self.answers: dict[str, tuple[int, bytes]] = {}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.headers["X-Auth-Request-Email"]
        self.server.asked.append(f"GET {self.path} {name}")
        role = self.server.roles.setdefault(name, "admin")  # as it does unless told otherwise
        self._answer({"id": user_uid(name), "name": name, "role": role})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(f"POST {self.path} {body['role']} {'X-Auth-Request-Email' in self.headers}")
        time.sleep(self.server.delay)
        [name] = [name for name in self.server.roles if user_uid(name) == body["user_id"]]
        self.server.roles[name] = body["role"]
        self._answer(None)

    def _answer(self, value: Any) -> None:
        status, content = self.server.answers.get(self.path, (200, json.dumps(value).encode()))
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings.SKYPILOT_URL = running.address
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _not_away() -> None:
    role_sync.attempts.__init__()


def machine(account: ServiceAccount, token: str) -> Principal:
    record = selectors.token_by_key(token.split("_")[1])
    assert record is not None
    return Principal(
        Kind.SERVICE_ACCOUNT, account.uid, account.name, role=record.role, permissions=record.permissions,
        method=Method.BEARER, pk=account.pk, token_key_id=token.split("_")[1],
    )  # fmt: skip


def test_the_first_time_the_server_hears_the_name_and_then_the_role_and_that_is_all(vera: User, server: Server) -> None:
    role_sync.sync(principal(vera))
    assert server.roles == {"vera@example.com": "viewer"}
    assert server.asked == ["GET /users/role vera@example.com", "POST /users/update viewer False"]
    role_sync.sync(principal(vera))
    assert len(server.asked) == 2, "it was told"
    row = SyncedRole.objects.get()
    assert (row.role, row.lease, row.lease_since) == ("viewer", "", None)
    assert str(row) == f"vera@example.com at {server.address}: viewer"


def test_a_role_that_the_server_knows_already_is_not_told_again(alice: User, server: Server) -> None:
    role_sync.sync(principal(alice))
    assert server.asked == ["GET /users/role alice@example.com"]


def test_a_machine_is_told_of_with_what_its_owner_leaves_it(
    bob: User, pipeline: ServiceAccount, pipeline_token: str, server: Server
) -> None:
    name = f"pipeline@{pipeline.uid}"
    role_sync.sync(machine(pipeline, pipeline_token))
    assert server.roles == {name: "user"}
    users.set_role(actor=SYSTEM, user=bob, role="viewer")
    role_sync.sync(machine(pipeline, pipeline_token))
    assert server.roles == {name: "viewer"}


def test_a_new_role_is_told_before_the_next_request(bob: User, server: Server) -> None:
    role_sync.sync(principal(bob))
    users.set_role(actor=SYSTEM, user=bob, role="viewer")
    bob.refresh_from_db()
    assert not role_sync.is_synced(principal(bob))
    role_sync.sync(principal(bob))
    assert server.roles == {"bob@example.com": "viewer"}


def test_an_older_request_does_not_bring_an_older_role_back(bob: User, server: Server) -> None:
    before = principal(bob)
    users.set_role(actor=SYSTEM, user=bob, role="viewer")
    bob.refresh_from_db()
    role_sync.sync(principal(bob))
    role_sync.sync(before)
    assert server.roles == {"bob@example.com": "viewer"}
    assert role_sync.is_synced(principal(bob))


def test_another_server_is_told_anew(bob: User, server: Server, settings: Any) -> None:
    SyncedRole.objects.create(server="http://another:46580", name="bob@example.com", role="user")
    role_sync.sync(principal(bob))
    assert server.roles == {"bob@example.com": "user"}


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/users/role", 500, b"{}"),
        ("/users/role", 307, b"{}"),
        ("/users/role", 200, b"<html>"),
        ("/users/role", 200, b"[]"),
        ("/users/role", 200, b'{"id": "", "name": "", "role": "admin"}'),  # it does not believe the header
        ("/users/role", 200, b'{"id": "81dc9bdb", "name": "mallory@example.com", "role": "viewer"}'),
        ("/users/role", 200, b'{"id": null, "name": "vera@example.com", "role": "viewer"}'),
        ("/users/role", 200, b'{"id": "81dc9bdb", "name": "vera@example.com", "role": ["viewer"]}'),
        ("/users/update", 400, b'{"detail": "User does not exist"}'),
        ("/users/update", 401, b'"Authentication required"'),
    ],
)
def test_a_bad_answer_ends_without_certainty_and_the_next_try_begins_anew(
    vera: User, server: Server, path: str, status: int, body: bytes
) -> None:
    server.answers[path] = (status, body)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert not role_sync.is_synced(principal(vera))
    row = SyncedRole.objects.get()
    assert (row.role, row.lease) == ("", "")
    server.answers.clear()
    role_sync.attempts.away_until = 0.0
    role_sync.sync(principal(vera))
    assert server.roles == {"vera@example.com": "viewer"}


def test_a_server_that_is_away_is_not_asked_by_everybody(vera: User, bob: User, server: Server, settings: Any) -> None:
    role_sync.sync(principal(bob))
    settings.SKYPILOT_URL = f"{server.address}/nowhere"
    server.answers["/nowhere/users/role"] = (404, b"{}")
    asked = len(server.asked)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            role_sync.sync(principal(vera))
    assert len(server.asked) == asked + 1
    settings.SKYPILOT_URL = server.address
    role_sync.sync(principal(bob))  # needs nothing of it


def test_only_so_many_are_told_at_once(vera: User, server: Server) -> None:
    taken = [role_sync.attempts.slots.acquire(blocking=False) for _ in range(role_sync._AT_ONCE)]
    assert all(taken)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert server.asked == []
    role_sync.attempts.slots.release()
    role_sync.attempts.away_until = 0.0
    role_sync.sync(principal(vera))


def test_who_ended_in_the_middle_keeps_others_out_for_a_while_only(
    vera: User, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_sync, "_PATIENCE_SECONDS", 0.1)
    now = timezone.now()
    row = SyncedRole.objects.create(server=server.address, name="vera@example.com", lease="somebody", lease_since=now)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert server.asked == []
    SyncedRole.objects.filter(pk=row.pk).update(lease_since=now - role_sync._HELD - timedelta(seconds=1))
    role_sync.attempts.away_until = 0.0
    role_sync.sync(principal(vera))
    assert server.roles == {"vera@example.com": "viewer"}


def test_who_lost_the_turn_meanwhile_is_not_let_through(vera: User, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    say = role_sync._say

    def slowly(name: str, role: str) -> None:
        say(name, role)
        SyncedRole.objects.update(lease="somebody else")

    monkeypatch.setattr(role_sync, "_say", slowly)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert SyncedRole.objects.get().lease == "somebody else"


def test_who_is_gone_is_not_told_of(vera: User, server: Server) -> None:
    gone = principal(vera)
    vera.delete()
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(gone)
    assert server.asked == []


def test_who_would_be_somebody_else_to_the_server_is_not_let_through(bob: User, vera: User, server: Server) -> None:
    """The server goes by 32 bits of the name's digest: of ten thousand people, two are the same in one case of a hundred."""
    User.objects.filter(pk=vera.pk).update(uid=user_uid(vera.username, 1))
    User.objects.filter(pk=bob.pk).update(uid=user_uid(vera.username))  # as if he had been the first of the two
    with pytest.raises(UpstreamUnavailable, match="somebody else"):
        role_sync.sync(principal(vera))
    assert server.asked == []
    assert not role_sync.is_synced(principal(vera))


def test_nobody_in_particular_and_no_server_need_no_telling(bob: User, settings: Any) -> None:
    settings.SKYPILOT_URL = ""
    assert not role_sync.needed(principal(bob))
    settings.SKYPILOT_URL = "http://127.0.0.1:46580"
    assert role_sync.needed(principal(bob))
    assert not role_sync.needed(anonymous("192.0.2.7"))
    assert not role_sync.needed(shared("team", "192.0.2.7"))


@pytest.mark.usefixtures("separate_connections")
def test_parallel_first_requests_tell_once(server: Server) -> None:
    user = users.create_user(actor=SYSTEM, username="vera@example.com", role="viewer")
    server.delay = 0.1
    assert at_once(*[lambda: role_sync.sync(principal(user))] * 4) == [None] * 4
    assert server.asked == ["GET /users/role vera@example.com", "POST /users/update viewer False"]


@pytest.mark.usefixtures("separate_connections")
def test_of_requests_with_different_roles_the_role_that_counts_wins(server: Server) -> None:
    """Three come with the role from before a change and one with the new one, while the server takes its time."""
    user = users.create_user(actor=SYSTEM, username="bob@example.com", role="user")
    before = principal(user)
    users.set_role(actor=SYSTEM, user=user, role="viewer")
    after = principal(users.find_user("bob@example.com"))
    server.delay = 0.05
    assert at_once(*[lambda: role_sync.sync(before)] * 3, lambda: role_sync.sync(after)) == [None] * 4
    assert server.roles == {"bob@example.com": "viewer"}
    assert {line for line in server.asked if line.startswith("POST")} == {"POST /users/update viewer False"}
    assert SyncedRole.objects.get().role == "viewer"
