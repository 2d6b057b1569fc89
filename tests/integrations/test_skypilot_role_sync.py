"""The role is sent before a request is allowed; a server that fails delays only the callers who need it.

A fake server responds as the test says: it hangs, fails, and returns wrong values. The real one is in tests/e2e/skypilot.
"""

from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from django.utils import timezone

from accounts import selectors
from accounts.identifiers import user_uid
from accounts.models import ServiceAccount, SyncedRole, User
from accounts.services import users
from integrations.skypilot import role_sync
from integrations.skypilot.client import UpstreamUnavailable
from rbac.models import Role
from rbac.principals import Kind, Method, Principal, account_identity, anonymous, shared
from rbac.principals import system as system_principal
from tests.factories import ServiceAccountFactory, UserFactory, principal
from tests.fake_skypilot import Server, server
from tests.races import at_once

__all__ = ["server"]

SYSTEM = system_principal("tests")


@pytest.fixture(autouse=True)
def _no_attempts() -> None:
    role_sync.attempts.__init__()


def account_principal(account: ServiceAccount, token: str) -> Principal:
    record = selectors.token_by_key(token.split("_")[1])
    assert record is not None
    return Principal(
        Kind.SERVICE_ACCOUNT, account.uid, account.name, role=record.role, permissions=record.permissions,
        method=Method.BEARER, pk=account.pk, token_key_id=token.split("_")[1],
    )  # fmt: skip


def test_the_first_sync_sends_the_name_and_then_the_role_and_the_next_one_nothing(vera: User, server: Server) -> None:
    role_sync.sync(principal(vera))
    assert server.roles == {"vera@example.com": "viewer"}
    assert server.requests == ["GET /users/role vera@example.com", "POST /users/update viewer False"]
    role_sync.sync(principal(vera))
    assert len(server.requests) == 2, "the role was confirmed"
    row = SyncedRole.objects.get()
    assert (row.role, row.lease, row.lease_since) == ("viewer", "", None)
    assert str(row) == f"vera@example.com at {server.address}: viewer"


def test_a_role_that_the_server_already_has_is_not_sent(alice: User, server: Server) -> None:
    role_sync.sync(principal(alice))
    assert server.requests == ["GET /users/role alice@example.com"]


def test_the_role_of_a_service_account_is_limited_by_its_owner(
    bob: User, pipeline: ServiceAccount, pipeline_token: str, server: Server
) -> None:
    name = f"pipeline@{pipeline.uid}"
    role_sync.sync(account_principal(pipeline, pipeline_token))
    assert server.roles == {name: "user"}
    users.set_role(actor=SYSTEM, user=bob, role="viewer")
    role_sync.sync(account_principal(pipeline, pipeline_token))
    assert server.roles == {name: "viewer"}


def test_a_new_role_is_sent_before_the_next_request(bob: User, server: Server) -> None:
    role_sync.sync(principal(bob))
    users.set_role(actor=SYSTEM, user=bob, role="viewer")
    bob.refresh_from_db()
    assert not role_sync.is_synced(principal(bob))
    role_sync.sync(principal(bob))
    assert server.roles == {"bob@example.com": "viewer"}


def test_an_older_request_does_not_restore_an_older_role(bob: User, server: Server) -> None:
    before = principal(bob)
    users.set_role(actor=SYSTEM, user=bob, role="viewer")
    bob.refresh_from_db()
    role_sync.sync(principal(bob))
    role_sync.sync(before)
    assert server.roles == {"bob@example.com": "viewer"}
    assert role_sync.is_synced(principal(bob))


def test_another_server_gets_the_role_again(bob: User, server: Server, settings: Any) -> None:
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
        ("/users/role", 200, b'{"id": "", "name": "", "role": "admin"}'),  # it does not trust the header
        ("/users/role", 200, b'{"id": "81dc9bdb", "name": "mallory@example.com", "role": "viewer"}'),
        ("/users/role", 200, b'{"id": null, "name": "vera@example.com", "role": "viewer"}'),
        ("/users/role", 200, b'{"id": "81dc9bdb", "name": "vera@example.com", "role": ["viewer"]}'),
        ("/users/update", 500, b'{"detail": "Internal Server Error"}'),
        ("/users/update", 429, b'{"detail": "Too many requests"}'),
        ("/users/update", 401, b'"Authentication required"'),
    ],
)
def test_after_a_bad_response_the_role_is_unconfirmed_and_the_next_sync_sends_it_again(
    vera: User, server: Server, path: str, status: int, body: bytes
) -> None:
    server.answers[path] = (status, body)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert not role_sync.is_synced(principal(vera))
    row = SyncedRole.objects.get()
    assert (row.role, row.lease) == ("", "")
    server.answers.clear()
    role_sync.attempts.unavailable_until = 0.0
    role_sync.sync(principal(vera))
    assert server.roles == {"vera@example.com": "viewer"}


@pytest.mark.parametrize(("path", "status"), [("/users/update", 400), ("/users/role", 403), ("/users/update", 422)])
def test_a_refused_role_is_no_outage_and_harms_only_its_own_caller(
    vera: User, bob: User, server: Server, path: str, status: int
) -> None:
    server.answers[path] = (status, b'{"detail": "Cannot demote user:\\n  - workspace"}')
    for _ in range(3):
        with pytest.raises(role_sync.RoleRefused, match="Cannot demote user: - workspace"):
            role_sync.sync(principal(vera))
    assert [line.split()[1] for line in server.requests].count(path) == 1, "who repeats a request asks the server no more"
    assert SyncedRole.objects.get().role == ""
    server.answers.clear()
    role_sync.sync(principal(bob))
    assert server.roles["bob@example.com"] == "user"
    role_sync.attempts.refused.clear()
    role_sync.sync(principal(vera))
    assert server.roles["vera@example.com"] == "viewer"


def test_an_unavailable_server_gets_one_request_a_second(vera: User, bob: User, server: Server, settings: Any) -> None:
    role_sync.sync(principal(bob))
    settings.SKYPILOT_URL = f"{server.address}/nowhere"
    server.answers["/nowhere/users/role"] = (404, b"{}")
    count = len(server.requests)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            role_sync.sync(principal(vera))
    assert len(server.requests) == count + 1
    settings.SKYPILOT_URL = server.address
    role_sync.sync(principal(bob))  # needs nothing of it


def test_the_number_of_concurrent_syncs_is_limited(vera: User, server: Server) -> None:
    taken = [role_sync.attempts.slots.acquire(blocking=False) for _ in range(role_sync._MAX_RUNNING)]
    assert all(taken)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert server.requests == []
    role_sync.attempts.slots.release()
    role_sync.attempts.unavailable_until = 0.0
    role_sync.sync(principal(vera))


def test_an_abandoned_lease_expires(vera: User, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_sync, "_LEASE_WAIT_SECONDS", 0.1)
    now = timezone.now()
    row = SyncedRole.objects.create(server=server.address, name="vera@example.com", lease="another process", lease_since=now)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert server.requests == []
    SyncedRole.objects.filter(pk=row.pk).update(lease_since=now - role_sync._LEASE_LIFETIME - timedelta(seconds=1))
    role_sync.attempts.unavailable_until = 0.0
    role_sync.sync(principal(vera))
    assert server.roles == {"vera@example.com": "viewer"}


def test_a_sync_that_lost_its_lease_fails(vera: User, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    send_role = role_sync._send_role

    def lose_lease(name: str, role: str) -> None:
        send_role(name, role)
        SyncedRole.objects.update(lease="another process")

    monkeypatch.setattr(role_sync, "_send_role", lose_lease)
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(principal(vera))
    assert SyncedRole.objects.get().lease == "another process"


def test_the_role_of_a_deleted_user_is_not_sent(vera: User, server: Server) -> None:
    deleted = principal(vera)
    vera.delete()
    with pytest.raises(UpstreamUnavailable):
        role_sync.sync(deleted)
    assert server.requests == []


def test_a_name_with_the_id_of_another_user_at_the_server_is_refused(bob: User, vera: User, server: Server) -> None:
    """The server makes ids of 32 bits: of ten thousand users, two have the same id with a probability of one percent."""
    User.objects.filter(pk=vera.pk).update(uid=user_uid(vera.username, 1))
    User.objects.filter(pk=bob.pk).update(uid=user_uid(vera.username))  # as if bob had been created first
    with pytest.raises(UpstreamUnavailable, match="same id"):
        role_sync.sync(principal(vera))
    assert server.requests == []
    assert not role_sync.is_synced(principal(vera))


def test_promise_7_a_user_with_the_id_of_a_service_account_at_the_server_is_refused(bob: User, server: Server) -> None:
    """A person who chooses user names can find one with a given id. The server would give both the role that it received last."""
    account = ServiceAccountFactory(role=Role.objects.get(name="admin"))
    names = (f"mallory+{number}@example.com" for number in range(1, 1_000_000))
    found = {user_uid(name): name for name in islice(names, 120_000)}
    digits = (f"sa-{number:016x}" for number in range(1, 1_000_000))
    account.uid = next(uid for uid in digits if user_uid(account_identity(account.name, uid)) in found)
    account.save()
    mallory = UserFactory(username=found[user_uid(account.upstream_name)])
    with pytest.raises(UpstreamUnavailable, match="same id"):
        role_sync.sync(principal(mallory))
    assert server.requests == []
    assert role_sync.shares_id(mallory.username)
    ServiceAccount.objects.filter(pk=account.pk).update(upstream_uid="")
    assert role_sync.shares_id(mallory.username), "an account that an older version created"
    assert not role_sync.shares_id(account.upstream_name), "the account was there before"
    User.objects.filter(pk=mallory.pk).update(created_at=account.created_at - timedelta(days=1))
    assert role_sync.shares_id(account.upstream_name)
    assert not role_sync.shares_id(bob.username)


def test_callers_without_an_identity_need_no_sync_and_neither_does_no_server(bob: User, settings: Any) -> None:
    settings.SKYPILOT_URL = ""
    assert not role_sync.needs_sync(principal(bob))
    settings.SKYPILOT_URL = "http://127.0.0.1:46580"
    assert role_sync.needs_sync(principal(bob))
    assert not role_sync.needs_sync(anonymous("192.0.2.7"))
    assert not role_sync.needs_sync(shared("team", "192.0.2.7"))


@pytest.mark.usefixtures("separate_connections")
def test_concurrent_first_requests_send_the_role_once(server: Server) -> None:
    user = users.create_user(actor=SYSTEM, username="vera@example.com", role="viewer")
    server.delay = 0.1
    assert at_once(*[lambda: role_sync.sync(principal(user))] * 4) == [None] * 4
    assert server.requests == ["GET /users/role vera@example.com", "POST /users/update viewer False"]


@pytest.mark.usefixtures("separate_connections")
def test_of_concurrent_requests_with_different_roles_the_current_role_wins(server: Server) -> None:
    """Three requests have the role from before a change and one has the new role, while the server is slow."""
    user = users.create_user(actor=SYSTEM, username="bob@example.com", role="user")
    before = principal(user)
    users.set_role(actor=SYSTEM, user=user, role="viewer")
    after = principal(users.find_user("bob@example.com"))
    server.delay = 0.05
    assert at_once(*[lambda: role_sync.sync(before)] * 3, lambda: role_sync.sync(after)) == [None] * 4
    assert server.roles == {"bob@example.com": "viewer"}
    assert {line for line in server.requests if line.startswith("POST")} == {"POST /users/update viewer False"}
    assert SyncedRole.objects.get().role == "viewer"
