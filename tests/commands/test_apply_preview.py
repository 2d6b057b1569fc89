"""apply --preview: who would lose or gain what, and which recent requests would have another result."""

import json
from pathlib import Path

import pytest
from django.utils import timezone

from accounts.models import GroupRole, ServiceAccount, User
from audit.models import Entry
from rbac.models import RecentRequest, Role, Route
from rbac.principals import Kind
from tests.commands.run_command import Ended, run
from tests.commands.test_apply import state
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory


@pytest.fixture
def preview(tmp_path: Path):
    """Preview a text."""

    def preview(text: str, *words: str) -> Ended:
        file = tmp_path / "skyauth.yaml"
        file.write_text(text, encoding="utf-8")
        return run("apply", str(file), "--preview", *words)

    return preview


def make_request(caller: User | ServiceAccount, method: str, path: str, *, allowed: bool = True) -> None:
    """Store a recent request."""
    kind, name = (Kind.USER, caller.username) if isinstance(caller, User) else (Kind.SERVICE_ACCOUNT, caller.name)
    RecentRequest.objects.create(
        key=f"{name}{method}{path}", caller_kind=kind, caller_uid=caller.uid, caller=name,
        method=method, host="", path=path, allowed=allowed, at=timezone.now(),
    )  # fmt: skip


def squeezed(ended: Ended) -> list[str]:
    return [" ".join(line.split()) for line in ended.out.splitlines()]


READ_ONLY = "roles: [{name: user, permissions: [upstream:read, service-accounts:own]}]"


@pytest.fixture
def traffic(read_write: None, pipeline: ServiceAccount, bob: User, alice: User) -> None:
    """A request of each kind, by bob, by bob's account and by alice."""
    for caller in (bob, pipeline, alice):
        make_request(caller, "GET", "/jobs")
        make_request(caller, "POST", "/jobs")


def test_users_accounts_and_groups_that_lose_permissions_are_shown_with_their_requests(traffic: None, preview) -> None:
    GroupRoleFactory(group="developers")
    before = state()
    ended = preview(READ_ONLY)
    assert ended.code == 3
    lines = squeezed(ended)
    lost = "password:own, roles:read, upstream:write, users:read"
    assert f"developers group {lost} -" in lines
    assert f"bob@example.com user {lost} -" in lines
    assert f"pipeline service-account {lost} -" in lines
    assert "POST /jobs bob@example.com newly denied upstream:write" in lines
    assert "POST /jobs pipeline newly denied upstream:write" in lines
    assert not [line for line in lines if "alice" in line or line.startswith("GET")]
    assert "Users, service accounts and groups whose permissions would change: 3." in ended.err
    assert "Of 6 recent requests, 2 would be newly denied and 0 newly allowed." in ended.err
    assert "1 difference. Nothing was changed (--preview)." in ended.err
    assert state() == before
    assert Role.objects.get(name="user").holds != Role.objects.get(name="viewer").holds


def test_json_has_callers_and_requests(traffic: None, preview) -> None:
    ended = preview(READ_ONLY, "--json")
    answer = json.loads(ended.out)
    assert (ended.code, answer["applied"], len(answer["changes"])) == (3, False, 1)
    callers = {(row["kind"], row["name"]): row for row in answer["preview"]["callers"]}
    assert set(callers) == {("user", "bob@example.com"), ("service-account", "pipeline")}
    assert "upstream:write" in callers["user", "bob@example.com"]["loses"]
    assert callers["user", "bob@example.com"]["gains"] == []
    assert answer["preview"]["requests_tried"] == 6
    assert {(row["caller"], row["method"], row["path"], row["allowed"]) for row in answer["preview"]["requests"]} == {
        ("bob@example.com", "POST", "/jobs", False),
        ("pipeline", "POST", "/jobs", False),
    }


def test_routes_change_requests_and_nobody_s_permissions(traffic: None, preview) -> None:
    answer = json.loads(preview("routes: [{path: /**, methods: [POST], permission: upstream:read}]", "--json").out)["preview"]
    assert answer["callers"] == []
    assert {(row["caller"], row["method"], row["allowed"]) for row in answer["requests"]} == {
        (name, "GET", False) for name in ("alice@example.com", "bob@example.com", "pipeline")
    }
    ended = preview("routes: {pack: read-write}")
    assert ended.code == 0
    assert "No user, service account or group would lose or gain permissions." in ended.err


def test_an_account_that_is_disabled_or_deleted_loses_everything(traffic: None, preview) -> None:
    for text, words in (("service_accounts: [{name: pipeline, active: false}]", []), ("service_accounts: []", ["--prune"])):
        answer = json.loads(preview(text, "--json", *words).out)["preview"]
        assert [(row["name"], row["gains"]) for row in answer["callers"]] == [("pipeline", [])]
        assert "upstream:public" in answer["callers"][0]["loses"]
        assert {(row["method"], row["allowed"]) for row in answer["requests"]} == {("GET", False), ("POST", False)}
    assert ServiceAccount.objects.get().is_active


def test_an_account_that_is_created_or_enabled_gains(traffic: None, preview) -> None:
    ServiceAccount.objects.update(is_active=False)
    answer = json.loads(
        preview("service_accounts: [{name: pipeline, active: true}, {name: nightly, role: viewer}]", "--json").out
    )["preview"]
    assert [(row["name"], row["loses"]) for row in answer["callers"]] == [("nightly", []), ("pipeline", [])]
    assert {(row["caller"], row["method"], row["allowed"]) for row in answer["requests"]} == {
        ("pipeline", "GET", True),
        ("pipeline", "POST", True),
    }
    assert not ServiceAccount.objects.filter(name="nightly").exists()


def test_an_account_gains_no_more_than_its_owner_has(traffic: None, preview) -> None:
    answer = json.loads(preview("roles: [{name: user, permissions: [upstream:admin]}]", "--json").out)["preview"]
    assert all(row["gains"] == ["upstream:admin"] for row in answer["callers"])
    viewer = UserFactory(role=Role.objects.get(name="viewer"))
    ServiceAccount.objects.update(owner=viewer)
    answer = json.loads(preview("roles: [{name: user, permissions: [upstream:admin, upstream:read]}]", "--json").out)["preview"]
    assert {row["name"]: row["gains"] for row in answer["callers"]}["pipeline"] == []


def test_a_group_that_gives_another_role_or_none_is_shown(db: None, preview) -> None:
    GroupRoleFactory(group="ops", role=Role.objects.get(name="viewer"))
    GroupRoleFactory(group="gone", role=Role.objects.get(name="viewer"))
    answer = json.loads(preview("group_roles: [{group: ops, role: admin}]", "--prune", "--json").out)["preview"]
    callers = {row["name"]: row for row in answer["callers"]}
    assert callers["gone"]["gains"] == callers["ops"]["loses"] == []
    assert "users:write" in callers["ops"]["gains"]
    assert "upstream:read" in callers["gone"]["loses"]
    assert GroupRole.objects.count() == 2


def test_a_preview_has_the_errors_of_apply(traffic: None, preview) -> None:
    ended = preview("service_accounts: [{name: pipeline, role: admin}]")
    assert (ended.code, ended.out) == (1, "")
    assert "line 1: service account pipeline: The owner bob@example.com has fewer permissions" in ended.err
    assert not Entry.objects.exclude(event="routes.replaced").exists()


def test_stored_routes_that_cannot_be_read_are_said_and_who_changes_is_still_shown(traffic: None, preview) -> None:
    Route.objects.update(path="/a/**/b")
    ended = preview(READ_ONLY)
    assert ended.code == 3
    assert "Recent requests cannot be compared" in ended.err
    assert "bob@example.com user" in "\n".join(squeezed(ended))
    assert json.loads(preview(READ_ONLY, "--json").out)["preview"]["requests_tried"] is None


def test_long_tables_are_cut_off_and_json_is_not(traffic: None, preview) -> None:
    for number in range(60):
        ServiceAccountFactory(name=f"build-{number:02}")
    ended = preview(READ_ONLY)
    assert sum(" service-account " in line for line in squeezed(ended)) == 50
    assert "The tables show the first 50 rows. --json has all." in ended.err
    assert "permissions would change: 62." in ended.err
    assert len(json.loads(preview(READ_ONLY, "--json").out)["preview"]["callers"]) == 62


def test_a_preview_fits_a_terminal_of_80_columns(traffic: None, preview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    lines = preview(READ_ONLY, "--no-color").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("───" in line for line in lines) == 3
