"""A caller cannot grant more than their own permissions in any way (promise 30)."""

from typing import Any

import pytest
from django.db import connection

from accounts.models import GroupRole, User
from rbac.models import Role
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import PASSWORD, GroupRoleFactory, ServiceAccountFactory, UserFactory

GOOD = "another good passphrase"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users", {"username": "new@example.com", "role": "admin"}),
        ("PATCH", "/users/{bob}", {"role": "admin"}),
        ("PATCH", "/users/{me}", {"role": "admin"}),
        ("PATCH", "/users/{alice}", {"role": "user"}),
        ("PATCH", "/users/{alice}", {"active": False}),
        ("PATCH", "/users/{alice}", {"password": GOOD}),
        ("PATCH", "/users/{alice}", {"email": "mallory@example.com"}),
        ("PATCH", "/users/{alice}", {"sign_in": "both"}),
        ("DELETE", "/users/{alice}", None),
        ("POST", "/users/bulk-role", {"uids": ["{bob}"], "role": "admin"}),
        ("POST", "/service-accounts", {"name": "new", "role": "admin"}),
        ("POST", "/roles", {"name": "new", "permissions": ["upstream:read"]}),
    ],
)
def test_a_user_manager_creates_no_admin_and_changes_no_admin(
    as_helpdesk: Api, alice: User, bob: User, method: str, path: str, body: Any
) -> None:
    me = User.objects.get(username="helen@example.com")
    UserFactory(username="root@example.com", role=alice.role)  # so that alice is not the last admin, who is protected anyway
    names = {"{alice}": alice.uid, "{bob}": bob.uid, "{me}": me.uid}
    before = list(User.objects.order_by("pk").values("username", "role", "is_active", "password", "email", "sign_in"))
    for name, uid in names.items():
        path = path.replace(name, uid)
    if body and "uids" in body:
        body = {**body, "uids": [bob.uid]}
    api_client.problem(as_helpdesk.request(method, path, body), 403, "forbidden")
    assert list(User.objects.order_by("pk").values("username", "role", "is_active", "password", "email", "sign_in")) == before


def test_a_bulk_change_by_a_user_manager_leaves_admins_unchanged(as_helpdesk: Api, alice: User, bob: User) -> None:
    UserFactory(role=alice.role)
    result = as_helpdesk.post("/users/bulk-role", {"uids": [alice.uid, bob.uid], "role": "viewer"}).json()
    assert result["succeeded"] == [bob.uid]
    assert "because you lack" in result["failed"][0]["error"]


def test_an_import_with_an_admin_is_refused_by_line(as_helpdesk: Api) -> None:
    result = api_client.problem(as_helpdesk.csv("/users/import", "username,role\na@example.com,user\nb@example.com,admin\n"), 400)
    assert [failure["line"] for failure in result["failures"]] == [3]
    assert not User.objects.filter(username="a@example.com").exists()


@pytest.mark.parametrize("default", ["admin", "first-admin"])
def test_promise_49_without_a_role_the_api_creates_a_user(as_helpdesk: Api, settings: Any, default: str) -> None:
    settings.RBAC_DEFAULT_ROLE = default
    assert as_helpdesk.post("/users", {"username": "new@example.com"}).json()["role"] == "user"
    result = as_helpdesk.csv("/users/import", "username\nother@example.com\n").json()
    assert result["created"] == ["other@example.com"]
    assert User.objects.get(username="other@example.com").role.name == "user"
    assert not User.objects.filter(role__name="admin").exists()


def test_a_role_within_the_callers_permissions_can_be_granted(as_helpdesk: Api, vera: User) -> None:
    assert as_helpdesk.patch(f"/users/{vera.uid}", {"role": "user", "password": GOOD}).json()["role"] == "user"


@pytest.fixture
def as_roleskeeper(db: None) -> Api:
    """A user who can only write roles and read."""
    role = Role.objects.create(name="roles-keeper", permissions=["roles:read", "roles:write", "upstream:read"])
    return api_client.session(UserFactory(username="mallory@example.com", role=role))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/roles", {"name": "new", "permissions": ["users:write"]}),
        ("PATCH", "/roles/roles-keeper", {"permissions": ["roles:read", "roles:write", "users:write"]}),
        ("PATCH", "/roles/user", {"description": "Mine."}),
        ("DELETE", "/roles/strong", None),
        ("POST", "/group-roles", {"group": "mine", "role": "admin"}),
        ("PATCH", "/group-roles/{group}", {"role": "admin"}),
        ("PATCH", "/group-roles/{strong}", {"role": "roles-keeper"}),
        ("DELETE", "/group-roles/{strong}", None),
    ],
)
def test_a_role_editor_grants_no_permission_that_they_do_not_have(as_roleskeeper: Api, method: str, path: str, body: Any) -> None:
    strong = Role.objects.create(name="strong", permissions=["users:write"])
    groups = {
        "group": GroupRoleFactory(role=Role.objects.get(name="roles-keeper")).pk,
        "strong": GroupRoleFactory(role=strong).pk,
    }
    before = list(Role.objects.values()), list(GroupRole.objects.values())
    api_client.problem(as_roleskeeper.request(method, path.format(**groups), body, if_match="*"), 403, "forbidden")
    assert before == (list(Role.objects.values()), list(GroupRole.objects.values()))


def test_a_route_editor_needs_the_permissions_of_the_routes(db: None) -> None:
    role = Role.objects.create(name="routes-keeper", permissions=["routes:read", "routes:write", "upstream:read"])
    api = api_client.session(UserFactory(username="mallory@example.com", role=role))
    route = {"path": "/**", "methods": ["*"], "permission": "upstream:public"}
    api_client.problem(api.post("/routes", route), 403, "forbidden")
    api_client.problem(api.post("/policy/packs/open/load", if_match="*"), 403, "forbidden")
    api_client.problem(api.post("/routes/reorder", {"order": []}, if_match="*"), 403, "forbidden")


def test_an_account_of_a_stronger_owner_cannot_be_used_to_gain_permissions(as_bob: Api, bob: User, alice: User) -> None:
    strong = ServiceAccountFactory(name="strong", owner=bob, role=Role.objects.get(name="admin"))  # no service allows it
    path = f"/service-accounts/{strong.uid}"
    api_client.problem(as_bob.post(f"{path}/tokens"), 403, "forbidden")
    api_client.problem(as_bob.patch(path, {"active": True}), 403, "forbidden")
    api_client.problem(as_bob.patch(path, {"owner": alice.uid}), 403, "forbidden")


def test_a_demoted_admin_loses_the_permissions_at_the_next_request(as_alice: Api, alice: User, bob: User) -> None:
    second = api_client.session(UserFactory(username="root@example.com", role=alice.role))
    assert second.patch(f"/users/{alice.uid}", {"role": "viewer"}).status_code == 200
    api_client.problem(as_alice.patch(f"/users/{alice.uid}", {"role": "admin"}), 403, "forbidden")


def test_changing_the_own_password_cannot_change_the_role(as_bob: Api, bob: User) -> None:
    body = {"current_password": PASSWORD, "password": GOOD, "role": "admin", "uid": "ffffffff", "is_active": False}
    result = api_client.problem(as_bob.post("/users/me/password", body), 400, "invalid")
    assert set(result["errors"]) == {"role", "uid", "is_active"}
    bob.refresh_from_db()
    assert (bob.role.name, bob.is_active) == ("user", True)
    assert not connection.needs_rollback
