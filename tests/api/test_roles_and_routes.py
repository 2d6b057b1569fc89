"""Roles, groups and routes; and no change overwrites another unseen."""

from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import GroupRole, User
from audit.models import Entry
from rbac.models import Role, Route
from rbac.permissions import EVERYTHING, MEANINGS
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import GroupRoleFactory


@pytest.fixture
def ops(db: None) -> Role:
    """A custom role."""
    return Role.objects.create(name="ops", permissions=["upstream:read"])


@pytest.fixture
def route(db: None) -> Route:
    return Route.objects.create(position=1, path="/jobs/**", methods=["GET"], permission="upstream:read")


def test_roles_list_their_effective_permissions(as_vera: Api, ops: Role) -> None:
    result = {row["name"]: row for row in as_vera.get("/roles").json()["results"]}
    assert set(result) == {"admin", "ops", "user", "viewer"}
    assert result["admin"]["permissions"] == sorted(EVERYTHING)
    assert result["ops"] == {
        "name": "ops",
        "description": "",
        "permissions": ["upstream:public", "upstream:read"],
        "builtin": False,
        "version": 1,
    }


def test_every_permission_has_a_meaning(as_vera: Api) -> None:
    result = as_vera.get("/permissions").json()["results"]
    assert [row["name"] for row in result] == sorted(EVERYTHING)
    assert {row["name"]: row["meaning"] for row in result} == MEANINGS


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "Ops"}, 400),
        ({"name": "1ops"}, 400),
        ({"name": "viewer"}, 400),
        ({"name": "new", "permissions": ["upstream:everything"]}, 400),
        ({"name": "new", "permissions": "upstream:read"}, 400),
        ({"name": "new", "permissions": [["upstream:read"]]}, 400),
        ({"permissions": []}, 400),
    ],
    ids=str,
)
def test_an_invalid_role_is_an_error(as_alice: Api, body: dict[str, Any], status: int) -> None:
    result = api_client.problem(as_alice.post("/roles", body), status)
    assert result["errors"]
    assert not Role.objects.filter(name="new").exists()


def test_a_role_in_use_and_a_builtin_role_cannot_be_deleted(as_alice: Api, ops: Role, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(role=ops)
    api_client.problem(as_alice.delete("/roles/ops", if_match="*"), 409, "conflict")
    api_client.problem(as_alice.delete("/roles/viewer", if_match="*"), 409, "conflict")
    api_client.problem(as_alice.patch("/roles/admin", {"permissions": []}, if_match="*"), 409, "conflict")


def test_version_and_builtin_are_read_only(as_alice: Api, ops: Role) -> None:
    forged = {"name": "other", "version": 9, "builtin": True, "id": 1}
    result = api_client.problem(as_alice.patch("/roles/ops", {**forged, "description": "New."}, if_match="*"), 400)
    assert set(result["errors"]) == set(forged)
    result = as_alice.get("/roles/ops").json()
    assert (result["description"], result["version"], result["builtin"]) == (ops.description, 1, False)


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("PATCH", "/roles/ops", {"description": "New."}),
    ("DELETE", "/roles/ops", {}),
    ("PATCH", "/routes/{route}", {"note": "New."}),
    ("DELETE", "/routes/{route}", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_change_needs_if_match(as_alice: Api, ops: Role, route: Route, method: str, path: str, body: dict[str, Any]) -> None:
    path = path.format(route=route.pk)
    before = list(Role.objects.values()), list(Route.objects.values())
    api_client.problem(as_alice.request(method, path, body), 428, "precondition-required")
    for wrong in ('"2"', 'W/"2"', '"2-gzip"', '"11"', '"x"', '"0", "2"', '"1-x"', '""'):
        api_client.problem(as_alice.request(method, path, body, if_match=wrong), 412, "stale")
    for malformed in ("1", "", '"1', "*, *", '*, "1"', '"2" "1"', 'w/"1"'):
        result = api_client.problem(as_alice.request(method, path, body, if_match=malformed), 400, "invalid")
        assert result["errors"] == {
            "If-Match": ['Send the ETag that you read, with its quotes, such as "3", or * to accept any version.']
        }
    assert before == (list(Role.objects.values()), list(Route.objects.values()))
    assert as_alice.get(path).headers["ETag"] == '"1"'
    assert as_alice.request(method, path, body, if_match='"1"').status_code in {200, 204}


@pytest.mark.parametrize("tag", ['W/"1"', '"1-gzip"', '"1-br"', 'W/"1-zstd"', '"0", W/"1"'])
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_an_etag_that_a_compressing_proxy_rewrote_is_the_same_version(
    as_alice: Api, ops: Role, route: Route, method: str, path: str, body: dict[str, Any], tag: str
) -> None:
    assert as_alice.request(method, path.format(route=route.pk), body, if_match=tag).status_code in {200, 204}


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_star_and_a_list_of_tags_match_too(
    as_alice: Api, ops: Role, route: Route, method: str, path: str, body: dict[str, Any]
) -> None:
    path = path.format(route=route.pk)
    if method == "PATCH":
        assert as_alice.request(method, path, body, if_match="*").headers["ETag"] == '"2"'
        assert as_alice.request(method, path, body, if_match='"1", "2"').headers["ETag"] == '"3"'
    else:
        assert as_alice.request(method, path, body, if_match="*").status_code == 204


def test_the_second_of_two_changes_to_the_same_version_is_stale(as_alice: Api, ops: Role) -> None:
    first = second = as_alice.get("/roles/ops").headers["ETag"]
    assert as_alice.patch("/roles/ops", {"permissions": ["upstream:write"]}, if_match=first).status_code == 200
    api_client.problem(as_alice.patch("/roles/ops", {"permissions": []}, if_match=second), 412, "stale")
    assert Role.objects.get(name="ops").permissions == ["upstream:write"]


def test_a_change_between_reading_and_locking_is_stale_too(as_alice: Api, ops: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    from rbac import services

    locked = services.lock_policy

    def somebody_was_faster() -> Role:
        Role.objects.filter(name="ops").update(version=2, description="Theirs.")
        return locked()

    monkeypatch.setattr(services, "lock_policy", somebody_was_faster)
    api_client.problem(as_alice.patch("/roles/ops", {"description": "Mine."}, if_match='"1"'), 412, "stale")
    assert Role.objects.get(name="ops").description != "Mine."


def test_a_route_that_never_decides_is_accepted_with_a_warning(as_alice: Api, route: Route) -> None:
    body = {"path": "/jobs/1", "methods": ["GET"], "permission": "upstream:admin"}
    assert as_alice.post("/routes", body).json()["warnings"] == [], "it was inserted before the other"
    dead = as_alice.post("/routes", {**body, "path": "/jobs/2", "position": 99})
    [warning] = dead.json()["warnings"]
    assert dead.status_code == 201
    assert warning.startswith("This route never decides a request")
    assert "/jobs/**" in warning
    path, etag = f"/routes/{dead.json()['id']}", dead.headers["ETag"]
    same = as_alice.patch(path, dead.json(), if_match=etag)
    assert (same.status_code, same.json()["warnings"]) == (200, [warning]), "what was read can be sent back"
    assert as_alice.patch(path, {"path": "/other"}, if_match=same.headers["ETag"]).json()["warnings"] == []


def test_routes_are_inserted_changed_and_deleted(as_alice: Api, route: Route) -> None:
    body = {"path": "/jobs/secret", "methods": ["*"], "permission": "upstream:admin", "position": 1, "note": "First."}
    response = as_alice.post("/routes", body)
    assert response.status_code == 201
    result = response.json()
    assert (result["position"], result["host"], result["methods"]) == (1, "", ["*"])
    assert [row["path"] for row in as_alice.get("/routes").json()["results"]] == ["/jobs/secret", "/jobs/**"]
    changed = as_alice.patch(f"/routes/{result['id']}", {"methods": ["GET", "POST"]}, if_match=response.headers["ETag"]).json()
    assert (changed["methods"], changed["permission"], changed["version"]) == (["GET", "POST"], "upstream:admin", 2)
    assert as_alice.delete(f"/routes/{result['id']}", if_match='"2"').status_code == 204
    assert Route.objects.get().position == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"path": "jobs"}, "path"),
        ({"path": "/a/**/b"}, "path"),
        ({"path": "/a%2fb"}, "path"),
        ({"methods": []}, "methods"),
        ({"methods": ["get"]}, "methods"),
        ({"methods": "GET"}, "methods"),
        ({"permission": "upstream:all"}, "permission"),
        ({"host": "Example.com"}, "host"),
        ({"position": 0}, "position"),
        ({"position": 10**30}, "position"),
    ],
    ids=str,
)
def test_an_invalid_route_is_an_error_by_field(as_alice: Api, change: dict[str, Any], field: str) -> None:
    good = {"path": "/x", "methods": ["GET"], "permission": "upstream:read"}
    result = api_client.problem(as_alice.post("/routes", {**good, **change}), 400, "invalid")
    assert field in result["errors"]
    assert not Route.objects.exists()


def test_the_table_is_reordered_with_its_current_tag(as_alice: Api, read_write: None) -> None:
    listed = as_alice.get("/routes")
    first, second = (row["id"] for row in listed.json()["results"])
    api_client.problem(as_alice.post("/routes/reorder", {"order": [second, first]}), 428)
    response = as_alice.post("/routes/reorder", {"order": [second, first]}, if_match=listed.headers["ETag"])
    assert [row["id"] for row in response.json()] == [second, first]
    api_client.problem(
        as_alice.post("/routes/reorder", {"order": [first, second]}, if_match=listed.headers["ETag"]), 412, "stale"
    )
    assert response.headers["ETag"] == as_alice.get("/routes").headers["ETag"] != listed.headers["ETag"]


@pytest.mark.parametrize("order", [[], [1], [1, 1], [1, 2, 3]])
def test_an_order_that_omits_routes_is_an_error(as_alice: Api, read_write: None, order: list[int]) -> None:
    ids = list(Route.objects.values_list("id", flat=True))
    named = [ids[n - 1] if n <= len(ids) else 999_999 for n in order]
    result = api_client.problem(as_alice.post("/routes/reorder", {"order": named}, if_match="*"), 400)
    assert "order" in result["errors"]


def test_packs_are_listed_and_loaded(as_alice: Api, route: Route) -> None:
    assert [row["name"] for row in as_alice.get("/policy/packs").json()["results"]] == ["open", "read-write", "skypilot"]
    pack = as_alice.get("/policy/packs/read-write").json()
    assert pack["routes"][0]["methods"] == ["GET", "HEAD", "OPTIONS"]
    response = as_alice.post("/policy/packs/read-write/load", if_match=as_alice.get("/routes").headers["ETag"])
    assert [row["path"] for row in response.json()] == [row["path"] for row in pack["routes"]]
    assert not Route.objects.filter(pk=route.pk).exists()
    assert response.headers["ETag"] == as_alice.get("/routes").headers["ETag"]
    api_client.problem(as_alice.post("/policy/packs/none/load", if_match="*"), 404, "not-found")
    api_client.problem(as_alice.post("/policy/packs/none/load", if_match='"0"'), 404, "not-found")


def test_a_pack_is_loaded_over_the_routes_that_were_read_only(as_alice: Api, route: Route) -> None:
    path = "/policy/packs/read-write/load"
    tag = as_alice.get("/routes").headers["ETag"]
    Route.objects.filter(pk=route.pk).update(version=2)
    api_client.problem(as_alice.post(path), 428, "precondition-required")
    api_client.problem(as_alice.post(path, if_match=tag), 412, "stale")
    assert Route.objects.get() == route
    assert as_alice.post(path, if_match=as_alice.get("/routes").headers["ETag"]).status_code == 200


def test_loading_the_same_pack_again_changes_and_records_nothing(as_alice: Api) -> None:
    first = as_alice.post("/policy/packs/read-write/load", if_match="*")
    entries = Entry.objects.count()
    again = as_alice.post("/policy/packs/read-write/load", if_match=first.headers["ETag"])
    assert (again.json(), again.headers["ETag"]) == (first.json(), first.headers["ETag"])
    assert Entry.objects.count() == entries


def test_groups_with_any_name_assign_roles(as_alice: Api) -> None:
    body = {"group": "/org/team ä?#", "role": "viewer", "priority": 5}
    response = as_alice.post("/group-roles", body)
    assert response.status_code == 201
    row = response.json()
    assert {key: row[key] for key in body} == body
    assert as_alice.client.get(response.headers["Location"]).json() == row
    assert as_alice.get("/group-roles", group="/org/team ä?#").json()["count"] == 1
    api_client.problem(as_alice.post("/group-roles", body), 409, "conflict")
    api_client.problem(as_alice.patch(f"/group-roles/{row['id']}", {"role": "user", "group": "other"}), 400, "invalid")
    changed = as_alice.patch(f"/group-roles/{row['id']}", {"role": "user", "group": row["group"]}).json()
    assert (changed["role"], changed["group"]) == ("user", "/org/team ä?#")
    assert as_alice.delete(f"/group-roles/{row['id']}").status_code == 204
    assert not GroupRole.objects.exists()


@pytest.mark.parametrize(
    ("format_", "header", "claim", "warning"),
    [
        (
            "off",
            "X-Groups",
            "groups",
            "Single sign-on is off (AUTH_USER_HEADER_FORMAT=off), so no user gets a role from a group.",
        ),
        ("plaintext", "", "groups", "AUTH_GROUPS_HEADER is empty, so no user gets a role from a group."),
        ("jwt", "X-Groups", "", "AUTH_JWT_GROUPS_CLAIM is empty, so no user gets a role from a group."),
        ("plaintext", "X-Groups", "", ""),
        ("jwt", "", "groups", ""),
    ],
)
def test_a_group_role_that_no_setting_uses_has_a_warning(
    as_alice: Api, settings: Settings, format_: str, header: str, claim: str, warning: str
) -> None:
    settings.AUTH_USER_HEADER_FORMAT, settings.AUTH_GROUPS_HEADER = format_, header
    settings.AUTH_JWT_GROUPS_CLAIM = claim
    created = as_alice.post("/group-roles", {"group": "dev", "role": "viewer"}).json()
    changed = as_alice.patch(f"/group-roles/{created['id']}", {"role": "user"}).json()
    listed = as_alice.get("/group-roles").json()["results"][0]
    assert [row["warning"] for row in (created, changed, listed)] == [warning] * 3


@pytest.mark.parametrize("group", [" dev", "dev ", " ", "dev,ops"])
def test_a_group_that_can_never_match_is_an_error(as_alice: Api, settings: Settings, group: str) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    problem = api_client.problem(as_alice.post("/group-roles", {"group": group, "role": "user"}), 400, "invalid")
    assert list(problem["errors"]) == ["group"]


@pytest.mark.parametrize("change", [{"role": "none"}, {"priority": -1}, {"priority": 2**31}, {"priority": "high"}], ids=str)
def test_an_invalid_group_role_is_an_error(as_alice: Api, change: dict[str, Any]) -> None:
    row = GroupRoleFactory()
    api_client.problem(as_alice.patch(f"/group-roles/{row.pk}", change), 400, "invalid")
    api_client.problem(as_alice.post("/group-roles", {"group": "g", "role": "user", **change}), 400, "invalid")


def test_a_route_is_inserted_only_into_the_table_that_was_read(as_alice: Api, read_write: None) -> None:
    body = {"path": "/x/**", "methods": ["GET"], "permission": "upstream:read", "position": 1}
    tag = as_alice.get("/routes").headers["ETag"]
    assert as_alice.post("/routes", body, if_match=tag).status_code == 201
    before = list(Route.objects.values())
    api_client.problem(as_alice.post("/routes", {**body, "path": "/y/**"}, if_match=tag), 412, "stale")
    assert list(Route.objects.values()) == before
    assert as_alice.post("/routes", {**body, "path": "/z/**"}).status_code == 201
    assert as_alice.post("/routes", {**body, "path": "/zz/**"}, if_match="*").status_code == 201
