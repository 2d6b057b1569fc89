"""list_users, show_user, list_service_accounts, show_service_account, list_roles, list_group_roles, list_routes."""

import json
from datetime import UTC, datetime

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import RoleSource, ServiceAccount, Session, SignIn, User
from rbac import services
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.permissions import EVERYTHING
from rbac.principals import Principal
from tests.commands.run_command import Ended, run
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token

LISTS = ["list_users", "list_service_accounts", "list_roles", "list_group_roles", "list_routes"]


def rows(*words: str) -> list[dict[str, object]]:
    """Return what a list prints as JSON."""
    ended = run(*words, "--json")
    assert (ended.code, ended.err) == (0, "")
    listed: list[dict[str, object]] = json.loads(ended.out)
    return listed


def squeezed(ended: Ended) -> list[str]:
    """Return the lines of a table with single blanks."""
    return [" ".join(line.split()) for line in ended.out.splitlines()]


@pytest.fixture
def users(alice: User, bob: User, vera: User) -> None:
    """Three users, of whom vera is disabled and bob was there."""
    User.objects.filter(pk=vera.pk).update(is_active=False, sign_in=SignIn.SSO)
    User.objects.filter(pk=bob.pk).update(display_name="Bob the Builder", last_seen_at=datetime(2026, 11, 30, 12, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["alice", "bob", "vera"]),
        (["--role", "admin"], ["alice"]),
        (["--state", "active"], ["alice", "bob"]),
        (["--state", "disabled"], ["vera"]),
        (["--sign-in", "sso"], ["vera"]),
        (["--search", "builder"], ["bob"]),
        (["--search", "example.com", "--state", "active", "--role", "user"], ["bob"]),
        (["--search", "nobody"], []),
    ],
)
def test_users_are_listed_by_what_is_asked(users: None, words: list[str], names: list[str]) -> None:
    assert [row["username"] for row in rows("list_users", *words)] == [f"{name}@example.com" for name in names]


def test_the_table_of_users_has_their_last_requests(users: None) -> None:
    assert squeezed(run("list_users")) == [
        "USERNAME ROLE SIGN-IN ACTIVE LAST REQUEST",
        "alice@example.com admin both yes -",
        "bob@example.com user both yes 2026-11-30 12:05",
        "vera@example.com viewer sso no -",
    ]


def test_an_unknown_role_is_an_error_with_the_roles(users: None) -> None:
    for command in ("list_users", "list_service_accounts", "list_group_roles"):
        ended = run(command, "--role", "amdin")
        assert (ended.code, ended.out) == (1, "")
        assert "--role: There is no role named 'amdin'. The roles are: admin, user, viewer." in ended.err


def test_a_user_is_shown_by_name_and_id_with_what_belongs_to_them(pipeline: ServiceAccount, bob: User) -> None:
    make_token(pipeline)
    make_token(pipeline, days=-1)
    Session.objects.create(
        session_key="k" * 64, session_data="", expire_date=timezone.now() + timezone.timedelta(hours=1), user=bob
    )
    shown = json.loads(run("show_user", bob.uid, "--json").out)
    assert (shown["username"], shown["role"], shown["active"]) == ("bob@example.com", "user", True)
    assert shown["permissions"] == sorted(bob.permissions)
    assert (shown["service_accounts"], shown["active_tokens"], shown["sessions"]) == (["pipeline"], 1, 1)
    lines = squeezed(run("show_user", "Bob@example.com"))
    assert "Role user (default)" in lines
    assert "Service accounts pipeline" in lines
    assert "Last request never" in lines


def test_a_disabled_user_is_shown_without_permissions(vera: User) -> None:
    User.objects.filter(pk=vera.pk).update(is_active=False, role_source=RoleSource.GROUP)
    assert json.loads(run("show_user", vera.username, "--json").out)["permissions"] == []
    lines = squeezed(run("show_user", vera.username))
    assert "Role viewer (identity-provider group)" in lines
    assert "Permissions none, because the user is disabled" in lines


@pytest.mark.parametrize("command", ["show_user", "show_service_account"])
def test_showing_an_unknown_name_is_an_error(db: None, command: str) -> None:
    ended = run(command, "mallory")
    assert (ended.code, ended.out) == (1, "")
    assert "There is no" in ended.err


@pytest.fixture
def accounts(pipeline: ServiceAccount) -> None:
    """Bob's account with a token that expires soon, one without owner and token, and a disabled one."""
    make_token(pipeline, days=3)
    make_token(pipeline, days=-1)
    ServiceAccountFactory(name="backup", role=Role.objects.get(name="viewer"))
    ServiceAccountFactory(name="old", is_active=False, description="the former build")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["backup", "old", "pipeline"]),
        (["--owner", "bob@example.com"], ["pipeline"]),
        (["--no-owner"], ["backup", "old"]),
        (["--no-owner", "--state", "active"], ["backup"]),
        (["--state", "disabled"], ["old"]),
        (["--role", "viewer"], ["backup"]),
        (["--search", "former"], ["old"]),
        (["--tokens", "soon"], ["pipeline"]),
        (["--tokens", "none"], ["backup", "old"]),
    ],
)
def test_service_accounts_are_listed_by_what_is_asked(accounts: None, words: list[str], names: list[str]) -> None:
    assert [row["name"] for row in rows("list_service_accounts", *words)] == names


def test_the_table_of_service_accounts_counts_active_tokens(accounts: None, settings: Settings) -> None:
    assert "pipeline user bob@example.com yes 1" in squeezed(run("list_service_accounts"))
    settings.ENABLE_SERVICE_ACCOUNTS = False
    assert "pipeline user bob@example.com yes 0" in squeezed(run("list_service_accounts"))


def test_an_unknown_owner_is_an_error_and_not_an_empty_list(accounts: None) -> None:
    ended = run("list_service_accounts", "--owner", "mallory")
    assert (ended.code, "--owner: There is no user named 'mallory'." in ended.err) == (1, True)


def test_a_service_account_is_shown_within_the_limits_of_its_owner(pipeline: ServiceAccount, bob: User) -> None:
    token = make_token(pipeline)[0]
    bob.role = Role.objects.get(name="viewer")
    bob.save()
    shown = json.loads(run("show_service_account", pipeline.uid, "--json").out)
    assert (shown["role"], shown["effective_role"], shown["accepted"]) == ("user", "viewer", True)
    assert "upstream:write" not in shown["permissions"]
    assert [row["key_id"] for row in shown["tokens"]] == [token.key_id]
    lines = squeezed(run("show_service_account", "Pipeline"))
    assert "Role user, limited by the owner to viewer" in lines
    assert f"Tokens {token.key_id} active" in lines
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert "Requests refused: disabled owner" in squeezed(run("show_service_account", "pipeline"))
    assert json.loads(run("show_service_account", "pipeline", "--json").out)["accepted"] is False


def test_no_list_shows_a_secret(pipeline: ServiceAccount) -> None:
    token, plaintext = make_token(pipeline)
    everything = "".join(
        run(*words, *json_option).out
        for words in (["list_service_accounts"], ["show_service_account", "pipeline"], ["show_user", "bob@example.com"])
        for json_option in ([], ["--json"])
    )
    assert token.key_id in everything
    assert token.digest not in everything
    assert plaintext not in everything
    assert pipeline.owner
    assert pipeline.owner.password not in everything


def test_roles_are_listed_with_who_has_them(pipeline: ServiceAccount, vera: User, system: Principal) -> None:
    services.create_role(actor=system, name="deployer", permissions=["upstream:write"], description="Deploys from CI.")
    GroupRoleFactory(role=Role.objects.get(name="deployer"))
    listed = {row["name"]: row for row in rows("list_roles")}
    assert set(listed["admin"]["permissions"]) == EVERYTHING
    assert listed["user"] | {"permissions": 0, "description": ""} == {
        "name": "user", "builtin": True, "permissions": 0, "description": "", "users": 1, "service_accounts": 1, "group_roles": 0,
    }  # fmt: skip
    assert (listed["deployer"]["group_roles"], listed["deployer"]["builtin"]) == (1, False)
    assert "deployer 0 0 1 Deploys from CI." in squeezed(run("list_roles"))
    assert squeezed(run("list_roles", "--search", "deploy", "--permissions")) == [
        "ROLE PERMISSION",
        "deployer upstream:public",
        "deployer upstream:write",
    ]


def test_groups_are_listed_in_the_order_in_which_they_decide(db: None, settings: Settings) -> None:
    settings.AUTH_GROUPS_HEADER = "X-Auth-Request-Groups"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.AUTH_USER_HEADER_FORMAT = "plain"
    GroupRoleFactory(group="later", priority=20)
    GroupRoleFactory(group="first", priority=10, role=Role.objects.get(name="admin"))
    assert rows("list_group_roles") == [
        {"group": "first", "role": "admin", "priority": 10},
        {"group": "later", "role": "user", "priority": 20},
    ]
    assert squeezed(run("list_group_roles", "--role", "admin")) == ["PRIORITY GROUP ROLE", "10 first admin"]
    assert [row["group"] for row in rows("list_group_roles", "--search", "LATE")] == ["later"]


def test_groups_that_no_setting_reads_are_listed_with_a_warning(db: None, settings: Settings) -> None:
    settings.AUTH_GROUPS_HEADER = ""
    settings.AUTH_JWT_GROUPS_CLAIM = ""
    assert "Warning" not in run("list_group_roles").err
    GroupRoleFactory()
    assert run("list_group_roles").err.startswith("Warning: ")


@pytest.fixture
def routes(db: None, system: Principal) -> None:
    """Three routes, of which the last one never decides."""
    specs = [
        RouteSpec("/jobs/*/logs", ("GET",), "upstream:read", note="logs"),
        RouteSpec("/**", ("*",), "upstream:write", host="api.example.com"),
        RouteSpec("/jobs/**", ("GET", "POST"), "upstream:admin", host="api.example.com"),
    ]
    services.replace_routes(actor=system, specs=specs, source="tests")


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        ([], [1, 2, 3]),
        (["--search", "/jobs/7/logs"], [1, 2, 3]),
        (["--search", "/users"], [2]),
        (["--search", "LOGS"], [1]),
        (["--method", "delete"], [2]),
        (["--host", "other.example.com"], [1]),
        (["--permission", "upstream:admin"], [3]),
    ],
)
def test_routes_are_listed_by_what_is_asked(routes: None, words: list[str], positions: list[int]) -> None:
    listed = json.loads(run("list_routes", *words, "--json").out)
    assert [row["position"] for row in listed] == positions


def test_a_route_that_never_decides_is_listed_with_a_warning(routes: None) -> None:
    ended = run("list_routes")
    assert squeezed(ended)[:2] == ["# METHODS HOST AND PATH PERMISSION NOTE", "1 GET /jobs/*/logs upstream:read logs"]
    assert ended.err == "Warning: #3 never decides a request, because of #2 * api.example.com/** -> upstream:write\n"
    assert json.loads(run("list_routes", "--json").out)[2]["shadowed_by"].startswith("#2 ")


def test_a_table_without_routes_says_what_that_means(db: None) -> None:
    ended = run("list_routes")
    assert (ended.code, ended.out, ended.err) == (0, "", "There are no routes, so every request is denied.\n")
    Route.objects.create(position=1, path="/x", methods=["GET"], permission="upstream:read")
    assert run("list_routes", "--search", "y").err == "No routes match.\n"


def test_a_stored_route_that_cannot_be_compiled_is_listed(db: None) -> None:
    Route.objects.create(position=1, path="/a/**/b", methods=["GET"], permission="upstream:read")
    assert [row["path"] for row in rows("list_routes", "--search", "/a")] == ["/a/**/b"]


@pytest.mark.parametrize("command", LISTS)
def test_an_empty_list_is_an_empty_array(db: None, command: str) -> None:
    option = [] if command == "list_routes" else ["--search", "no such row"]
    assert json.loads(run(command, *option, "--json").out) == []
    ended = run(command, *option)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err


@pytest.mark.parametrize("command", LISTS)
def test_a_table_fits_a_terminal_of_80_columns(
    accounts: None, users: None, read_write: None, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    UserFactory(username="somebody.with.a.long.name@engineering.example.com", role=Role.objects.get(name="viewer"))
    GroupRoleFactory(group="platform engineering and site reliability")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("django.core.management.base.OutputWrapper.isatty", lambda self: True)
    lines = run(command, "--no-color").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("───" in line for line in lines), "It is a table, and no list of records."
