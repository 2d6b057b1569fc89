"""A change that the SkyPilot server can refuse is made there first, in every interface, and its sentence reaches the caller."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client
from django.urls import reverse

from accounts.models import ServiceAccount, SyncedRole, Token, User
from accounts.services import offboarding, users
from audit.models import Entry
from authn import sso
from core.errors import Conflict, Forbidden, Unavailable
from integrations.skypilot import role_sync
from rbac.models import Role
from rbac.principals import Principal
from tests import skypilot_client
from tests.adminsite.browsing import fill
from tests.api import api_client
from tests.commands.run_command import run
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token, principal
from tests.fake_skypilot import Server, server
from tests.verify_client import judge, proxied

__all__ = ["server"]

DORA = "dora@example.com"
SENTENCE = "1 active cluster(s): training"


@pytest.fixture(autouse=True)
def _no_attempts() -> None:
    role_sync.attempts.__init__()


@pytest.fixture
def dora(server: Server, db: None) -> User:
    """An admin who owns a cluster in a private workspace."""
    server.roles[DORA] = "admin"
    server.owners.add(DORA)
    return UserFactory(username=DORA, role=Role.objects.get(name="admin"))


@pytest.fixture
def robot(server: Server, db: None) -> ServiceAccount:
    """A service account with the role admin that owns a cluster, too, and has one token."""
    account = ServiceAccountFactory(name="robot", role=Role.objects.get(name="admin"))
    server.roles[account.upstream_name] = "admin"
    server.owners.add(account.upstream_name)
    make_token(account)
    return account


def dashboard(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def _form(user: User, page: str, **typed: Any) -> Any:
    return fill(dashboard(user), page, "user_form" if "/user/" in page else "serviceaccount_form", **typed)


def _confirmed(actor: User, user: User) -> Any:
    """Ask the dashboard to make a user a viewer, and confirm what its page names."""
    client, change = dashboard(actor), {"uid": user.uid, "role": "viewer"}
    seen = client.post("/skyauth/users/role", change).context["change"].fingerprint
    return client.post("/skyauth/users/role", {**change, "seen": seen}, follow=True)


def _viewer() -> str:
    return str(Role.objects.get(name="viewer").pk)


def _page(row: User | ServiceAccount, name: str) -> str:
    return reverse(f"admin:accounts_{row._meta.model_name}_{name}", args=[row.pk])


def _csv(alice: User, dora: User) -> Any:
    return api_client.session(alice).csv("/users/import?update=true", f"username,role\n{dora.username},viewer\n")


Interface = Callable[[User, User, ServiceAccount], Any]
DEMOTIONS: dict[str, Interface] = {
    "REST API": lambda alice, dora, robot: api_client.session(alice).patch(f"/users/{dora.uid}", {"role": "viewer"}),
    "REST API, bulk": lambda alice, dora, robot: api_client.session(alice).post(
        "/users/bulk-role", {"uids": [dora.uid], "role": "viewer"}
    ),
    "REST API, import": lambda alice, dora, robot: _csv(alice, dora),
    "REST API, account": lambda alice, dora, robot: api_client.session(alice).patch(
        f"/service-accounts/{robot.uid}", {"role": "viewer"}
    ),
    "dashboard": lambda alice, dora, robot: _confirmed(alice, dora),
    "dashboard, account": lambda alice, dora, robot: dashboard(alice).post(
        f"/skyauth/service-accounts/{robot.uid}/change", {"role": "viewer", "description": "", "owner": ""}, follow=True
    ),
    "Django admin": lambda alice, dora, robot: _form(alice, _page(dora, "change"), role=_viewer()),
    "Django admin, account": lambda alice, dora, robot: _form(alice, _page(robot, "change"), role=_viewer()),
    "Django admin, step": lambda alice, dora, robot: dashboard(alice).post(
        f"/admin/accounts/user/set-role/?rows={dora.pk}", {"rows": str(dora.pk), "role": _viewer()}
    ),
    "SkyPilot API": lambda alice, dora, robot: skypilot_client.session(alice).post(
        "/users/update", {"user_id": dora.uid, "role": "viewer"}
    ),
    "SkyPilot API, batch": lambda alice, dora, robot: skypilot_client.session(alice).post(
        "/users/batch_update", {"user_ids": [dora.uid], "role": "viewer"}
    ),
    "SkyPilot API, account": lambda alice, dora, robot: skypilot_client.session(alice).post(
        "/users/service-account-tokens/update-role", {"token_id": Token.objects.get(account=robot).key_id, "role": "viewer"}
    ),
    "command": lambda alice, dora, robot: run("set_role", dora.username, "viewer"),
    "command, account": lambda alice, dora, robot: run("set_role", robot.name, "viewer"),
}
DELETIONS: dict[str, Interface] = {
    "REST API": lambda alice, dora, robot: api_client.session(alice).delete(f"/users/{dora.uid}"),
    "REST API, account": lambda alice, dora, robot: api_client.session(alice).delete(f"/service-accounts/{robot.uid}"),
    "dashboard": lambda alice, dora, robot: dashboard(alice).post(
        f"/skyauth/users/{dora.uid}/delete", {"fate": "stay"}, follow=True
    ),
    "dashboard, account": lambda alice, dora, robot: dashboard(alice).post(
        f"/skyauth/service-accounts/{robot.uid}/delete", follow=True
    ),
    "Django admin": lambda alice, dora, robot: dashboard(alice).post(_page(dora, "delete"), {"post": "yes"}, follow=True),
    "Django admin, account": lambda alice, dora, robot: dashboard(alice).post(
        _page(robot, "delete"), {"post": "yes"}, follow=True
    ),
    "Django admin, action": lambda alice, dora, robot: dashboard(alice).post(
        "/admin/accounts/user/", {"action": "delete_selected", "_selected_action": [dora.pk], "post": "yes"}, follow=True
    ),
    "SkyPilot API": lambda alice, dora, robot: skypilot_client.session(alice).post("/users/delete", {"user_id": dora.uid}),
    "SkyPilot API, account": lambda alice, dora, robot: skypilot_client.session(alice).post(
        "/users/delete", {"user_id": robot.uid}
    ),
    "SkyPilot API, token": lambda alice, dora, robot: skypilot_client.session(alice).post(
        "/users/service-account-tokens/delete", {"token_id": Token.objects.get(account=robot).key_id}
    ),
}
ONE_AT_A_TIME = {"REST API", "REST API, account", "SkyPilot API", "SkyPilot API, account", "SkyPilot API, token"}


def _state() -> list[Any]:
    """Return all that a refused change must leave as it was."""
    rows = [*User.objects.order_by("pk").values_list("pk", "role__name")]
    return [*rows, *ServiceAccount.objects.values_list("uid", "role__name"), *Token.objects.values_list("key_id", "revoked_at")]


def _text(response: Any) -> str:
    return response.err + response.out if hasattr(response, "err") else response.content.decode()


@pytest.mark.parametrize(
    ("interface", "call"),
    [*DEMOTIONS.items(), *DELETIONS.items()],
    ids=[*[f"demote: {name}" for name in DEMOTIONS], *[f"delete: {name}" for name in DELETIONS]],
)
def test_what_the_server_refuses_is_refused_here_with_its_sentence(
    interface: str, call: Interface, alice: User, dora: User, robot: ServiceAccount, server: Server
) -> None:
    before = _state()
    response = call(alice, dora, robot)
    assert SENTENCE in _text(response)
    assert _state() == before
    if interface in ONE_AT_A_TIME:
        assert response.status_code == 409
    assert server.roles[DORA] == server.roles[robot.upstream_name] == "admin"
    server.owners.clear()
    assert SENTENCE not in _text(call(alice, dora, robot))
    assert _state() != before


def test_a_deleted_user_is_deleted_at_the_server_too_and_an_unknown_one_needs_no_answer(
    alice: User, bob: User, system: Principal, server: Server
) -> None:
    server.roles["bob@example.com"] = "user"
    SyncedRole.objects.create(server=server.address, name="bob@example.com", role="user")
    offboarding.delete_user(actor=system, user=bob)
    assert server.roles == {}
    assert not SyncedRole.objects.exists(), "a new user of this name needs a confirmation of their own"
    offboarding.delete_user(actor=system, user=UserFactory(username="new@example.com"))


def test_an_owner_who_is_demoted_takes_the_role_admin_from_their_service_accounts(
    alice: User, dora: User, robot: ServiceAccount, system: Principal, server: Server
) -> None:
    ServiceAccount.objects.update(owner=dora)
    server.owners.remove(DORA)
    with pytest.raises(Conflict, match="robot@sa-"):
        users.set_role(actor=system, user=dora, role="user")
    dora.refresh_from_db()
    assert dora.role.name == "admin"
    server.owners.clear()
    users.set_role(actor=system, user=dora, role="user")
    assert server.roles == {DORA: "user", robot.upstream_name: "user"}


@pytest.mark.parametrize("answer", [(500, b"{}"), (404, b"{}"), (429, b"{}"), (200, b"")], ids=lambda answer: str(answer[0]))
def test_while_the_server_does_not_answer_roles_are_lowered_and_nobody_is_deleted(
    answer: tuple[int, bytes], alice: User, dora: User, system: Principal, server: Server, settings: Any
) -> None:
    server.answers = {"/users/update": answer, "/users/delete": answer}
    if answer[0] == 200:
        settings.SKYPILOT_URL = "http://127.0.0.1:9"  # nobody listens there
    with pytest.raises(Unavailable, match="disable instead of deleting"):
        offboarding.delete_user(actor=system, user=dora)
    assert users.set_role(actor=system, user=dora, role="user").role.name == "user"
    response = api_client.session(alice).delete(f"/users/{dora.uid}")
    api_client.problem(response, 503, "unavailable")
    offboarding.disable_user(actor=system, user=dora)


def test_the_role_that_counts_is_sent_again_when_a_change_fails_after_the_server_made_it(
    alice: User, dora: User, server: Server
) -> None:
    """Of two users whose roles are changed in one transaction, the server demotes one and refuses to demote the other."""
    cleo = UserFactory(username="cleo@example.com", role=Role.objects.get(name="admin"))
    server.roles[cleo.username] = "admin"
    SyncedRole.objects.create(server=server.address, name=cleo.username, role="admin")
    rows = {"rows": f"{cleo.pk},{dora.pk}", "role": _viewer()}
    response = dashboard(alice).post("/admin/accounts/user/set-role/", rows)
    assert SENTENCE in _text(response)
    cleo.refresh_from_db()
    assert (cleo.role.name, server.roles[cleo.username]) == ("admin", "viewer")
    assert not role_sync.is_synced(principal(cleo))
    role_sync.sync(principal(cleo))
    assert server.roles[cleo.username] == "admin"


def test_a_preview_asks_the_server_nothing(
    alice: User, dora: User, robot: ServiceAccount, server: Server, tmp_path: Path
) -> None:
    rows = api_client.session(alice).csv("/users/import?update=true&dry_run=true", f"username,role\n{DORA},viewer\n")
    assert rows.status_code == 200, rows.content
    file = tmp_path / "skyauth.yaml"
    file.write_text("service_accounts:\n  - name: robot\n    role: viewer\n")
    assert run("apply", str(file), "--dry-run").code == 3
    assert server.requests == []
    applied = run("apply", str(file))
    assert (applied.code, SENTENCE in applied.err) == (1, True)


def test_a_group_that_is_lost_takes_the_role_and_the_server_s_refusal_reaches_the_user(
    alice: User, dora: User, server: Server, read_write: None, settings: Any
) -> None:
    settings.RBAC_DEFAULT_ROLE = "viewer"
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    GroupRoleFactory(group="admins", role=Role.objects.get(name="admin"))
    sso.sign_in(DORA, ("admins",))
    sso.sign_in(DORA, ("others",))
    dora.refresh_from_db()
    assert dora.role.name == "viewer"
    assert server.requests == []
    answer = judge([], proxied(subject=DORA))
    assert (answer.status, answer.reason) == (403, "role-refused")
    assert SENTENCE in json.loads(answer.body)["detail"]
    assert Entry.objects.get(event="request.denied").target.startswith("GET ")


def test_a_role_that_is_not_admin_or_stays_so_asks_the_server_nothing(
    alice: User, bob: User, dora: User, system: Principal, server: Server
) -> None:
    users.set_role(actor=system, user=bob, role="viewer")
    users.set_role(actor=system, user=bob, role="admin")
    users.set_role(actor=system, user=dora, role="admin")
    users.set_active(actor=system, user=dora, active=False)
    assert server.requests == []


@pytest.mark.usefixtures("separate_connections")
@pytest.mark.parametrize("change", ["set_role", "delete"])
def test_no_lock_is_held_while_the_server_is_asked(server: Server, change: str, system: Principal) -> None:
    admin, dora = (users.create_user(actor=system, username=name, role="admin", sign_in="sso") for name in ("a@b.example", DORA))
    server.roles[DORA] = "admin"
    changed: list[str] = []

    def change_another() -> None:
        try:
            changed.append(users.update_profile(actor=system, user=admin, display_name="Meanwhile").display_name)
        finally:
            connections.close_all()

    server.meanwhile = change_another
    if change == "delete":
        offboarding.delete_user(actor=system, user=dora)
    else:
        users.set_role(actor=system, user=dora, role="viewer")
    assert changed == ["Meanwhile"]


LOSSES: dict[str, Callable[[User], object]] = {
    "demoted": lambda boss: User.objects.filter(pk=boss.pk).update(role=Role.objects.get(name="viewer")),
    "disabled": lambda boss: User.objects.filter(pk=boss.pk).update(is_active=False),
    "deleted": lambda boss: User.objects.filter(pk=boss.pk).delete(),
}


@pytest.mark.usefixtures("separate_connections")
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("change", ["set_role", "delete"])
def test_promise_44_an_actor_who_loses_the_permission_while_the_server_is_asked_changes_nothing(
    server: Server, change: str, lose: Callable[[User], object], system: Principal
) -> None:
    boss, dora, _ = (
        users.create_user(actor=system, username=name, role="admin", sign_in="sso")
        for name in ("a@b.example", DORA, "c@b.example")
    )
    server.roles[DORA] = "admin"

    def lose_it() -> None:
        try:
            lose(boss)
        finally:
            connections.close_all()

    server.meanwhile = lose_it
    make: dict[str, Callable[[], object]] = {
        "set_role": lambda: users.set_role(actor=principal(boss), user=dora, role="viewer"),
        "delete": lambda: offboarding.delete_user(actor=principal(boss), user=dora),
    }
    with pytest.raises(Forbidden, match="while the SkyPilot API server was asked"):
        make[change]()
    assert User.objects.get(username=DORA).role.name == "admin"


@pytest.mark.usefixtures("separate_connections")
def test_a_caller_in_a_transaction_that_cannot_be_left_is_an_error(server: Server, system: Principal) -> None:
    for name in ("a@b.example", DORA):
        users.create_user(actor=system, username=name, role="admin", sign_in="sso")
    dora = users.find_user(DORA)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        users.set_role(actor=system, user=dora, role="user")
    assert server.requests == []
