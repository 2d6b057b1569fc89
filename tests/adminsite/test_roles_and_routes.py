"""Roles, routes and group roles in the admin: no lost updates, and no more permissions than the user has."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import GroupRole, User
from audit.models import Entry
from rbac.models import Role, Route
from rbac.permissions import MEANINGS
from tests.adminsite.browsing import changed, confirmation_on, fill, form_errors, form_of, messages_of
from tests.adminsite.conftest import Visit
from tests.factories import GroupRoleFactory

ROLES, ROUTES, GROUPS = "/admin/rbac/role/", "/admin/rbac/route/", "/admin/accounts/grouprole/"


def of_role(name: str, page: str = "change") -> str:
    """Return the URL of a role's page."""
    return reverse(f"admin:rbac_role_{page}", args=[Role.objects.get(name=name).pk])


def of_route(route: Route, page: str = "change") -> str:
    """Return the URL of a route's page."""
    return reverse(f"admin:rbac_route_{page}", args=[route.pk])


@pytest.fixture
def routes(db: None) -> list[Route]:
    """Four routes, /1 to /4."""
    return [Route.objects.create(position=n, path=f"/{n}", methods=["GET"], permission="upstream:read") for n in range(1, 5)]


def paths() -> list[str]:
    """Return the paths of the routes in order."""
    return list(Route.objects.values_list("path", flat=True))


def test_the_form_of_a_new_role_shows_the_meaning_of_each_permission(alice_browser: Client) -> None:
    page = alice_browser.get(f"{ROLES}add/").content.decode()
    assert all(meaning.replace("'", "&#x27;") in page for meaning in MEANINGS.values())
    ticked = ["upstream:read", "users:read"]
    assert fill(alice_browser, f"{ROLES}add/", "role_form", name="auditor", permissions=ticked).status_code == 302
    assert Role.objects.get(name="auditor").permissions == ticked
    assert Entry.objects.get(event="role.created").actor == "alice@example.com"


@pytest.mark.parametrize("name", ["Not A Role", "user", ""])
def test_a_refused_role_is_shown_again_with_its_ticks(name: str, alice_browser: Client) -> None:
    response = fill(alice_browser, f"{ROLES}add/", "role_form", name=name, permissions=["users:read"])
    assert list(form_errors(response)) == ["name"]
    assert form_of(response, "role_form")["permissions"] == ["users:read"]
    assert Role.objects.count() == 3


def test_changing_a_role_increments_its_version(alice_browser: Client) -> None:
    fields = form_of(alice_browser.get(of_role("viewer")), "role_form")
    assert set(fields["permissions"]) == set(Role.objects.get(name="viewer").permissions)
    assert fields["seen_version"] == ["1"]
    assert alice_browser.post(of_role("viewer"), changed(fields, permissions=["upstream:read"])).status_code == 302
    viewer = Role.objects.get(name="viewer")
    assert (viewer.permissions, viewer.version) == (["upstream:read"], 2)


def test_a_change_of_an_outdated_role_is_rejected_and_the_form_keeps_the_values(alice_browser: Client) -> None:
    fields = form_of(alice_browser.get(of_role("viewer")), "role_form")
    alice_browser.post(of_role("viewer"), changed(fields, description="First"))
    second = alice_browser.post(of_role("viewer"), changed(fields, description="Second"))
    assert "somebody else" in str(form_errors(second))
    assert form_of(second, "role_form")["description"] == ["Second"]
    assert Role.objects.get(name="viewer").description == "First"
    without = {name: value for name, value in fields.items() if name != "seen_version"}
    assert "seen_version" in form_errors(alice_browser.post(of_role("viewer"), without))


def test_the_role_admin_shows_every_permission_and_cannot_be_changed(alice_browser: Client) -> None:
    page = alice_browser.get(of_role("admin"))
    assert all(permission in page.content.decode() for permission in MEANINGS)
    assert b'name="_save"' not in page.content
    assert alice_browser.post(of_role("admin"), {"description": "x", "seen_version": 1}).status_code == 403
    assert Role.objects.get(name="admin").description != "x"


@pytest.mark.parametrize("way", ["page", "action"])
@pytest.mark.parametrize("name", ["admin", "user", "viewer"])
def test_a_built_in_role_cannot_be_deleted(way: str, name: str, alice_browser: Client) -> None:
    if way == "page":
        assert alice_browser.post(of_role(name, "delete"), {"post": "yes"}).status_code == 403
    else:
        picked = {"_selected_action": Role.objects.get(name=name).pk, "post": "yes"}
        assert "cannot be deleted" in messages_of(alice_browser.post(ROLES, {"action": "delete_selected", **picked}))
    assert Role.objects.filter(name=name).exists()


@pytest.mark.usefixtures("helper")
def test_only_a_role_without_holders_can_be_deleted(alice_browser: Client) -> None:
    assert "still in use" in messages_of(alice_browser.post(of_role("helpdesk", "delete"), {"post": "yes"}))
    assert Role.objects.filter(name="helpdesk").exists()
    User.objects.filter(role__name="helpdesk").delete()
    assert alice_browser.post(of_role("helpdesk", "delete"), {"post": "yes"}).status_code == 302
    assert not Role.objects.filter(name="helpdesk").exists()


def test_roles_groups_and_routes_cannot_grant_more_than_the_user_has(manager: User, routes: list[Route], visit: Visit) -> None:
    browser = visit(manager)
    forms = [
        fill(browser, f"{ROLES}add/", "role_form", name="boss", permissions=["audit:read"]),
        fill(browser, of_role("manager"), "role_form", permissions=["audit:read"]),
        fill(browser, f"{GROUPS}add/", "grouprole_form", group="staff", role=Role.objects.get(name="admin").pk),
        fill(browser, f"{ROUTES}add/", "route_form", path="/**", methods="*", permission="upstream:read"),
        fill(browser, of_route(routes[0]), "route_form", path="/**"),
    ]
    for form in forms:
        assert "you lack" in str(form_errors(form))
    assert "you lack" in messages_of(browser.post(of_route(routes[0], "delete"), {"post": "yes"}))
    moved = browser.post(ROUTES, {"action": "move_down", "_selected_action": routes[0].pk})
    assert "you lack" in messages_of(moved)
    assert paths() == ["/1", "/2", "/3", "/4"]
    assert not Role.objects.filter(name="boss").exists()
    assert not GroupRole.objects.exists()


@pytest.mark.parametrize(("position", "order"), [("", ["/1", "/2", "/3", "/4", "/new"]), ("2", ["/1", "/new", "/2", "/3", "/4"])])
def test_a_route_is_inserted_at_the_given_position(
    position: str, order: list[str], alice_browser: Client, routes: list[Route]
) -> None:
    typed = {"path": "/new", "methods": "GET, HEAD", "permission": "upstream:write", "note": "Why"}
    assert fill(alice_browser, f"{ROUTES}add/", "route_form", position=position, **typed).status_code == 302
    assert paths() == order
    assert Route.objects.get(path="/new").methods == ["GET", "HEAD"]


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"path": "no-slash"}, "path"),
        ({"path": "/a/../b"}, "path"),
        ({"methods": "get"}, "methods"),
        ({"methods": "GET, *"}, "methods"),
        ({"host": "Example.com:80"}, "host"),
        ({"permission": "no:such"}, "permission"),
    ],
)
def test_an_invalid_route_form_keeps_the_typed_values(typed: dict, field: str, alice_browser: Client) -> None:
    values = {"path": "/api/**", "methods": "GET", "permission": "upstream:read", "note": "Why", **typed}
    response = fill(alice_browser, f"{ROUTES}add/", "route_form", **values)
    assert list(form_errors(response)) == [field]
    again = form_of(response, "route_form")
    assert (again["note"], again["path"], again["methods"]) == (["Why"], [values["path"]], [values["methods"]])
    assert not Route.objects.exists()


def test_a_change_of_an_outdated_route_is_rejected_and_the_form_keeps_the_values(
    alice_browser: Client, routes: list[Route]
) -> None:
    url = of_route(routes[0])
    fields = form_of(alice_browser.get(url), "route_form")
    assert fields["methods"] == ["GET"]
    assert alice_browser.post(url, changed(fields, methods="GET HEAD")).status_code == 302
    second = alice_browser.post(url, changed(fields, path="/second"))
    assert "somebody else" in str(form_errors(second))
    assert form_of(second, "route_form")["path"] == ["/second"]
    row = Route.objects.get(pk=routes[0].pk)
    assert (row.path, row.methods, row.version) == ("/1", ["GET", "HEAD"], 2)


@pytest.mark.parametrize(
    ("action", "picked", "order"),
    [
        ("move_up", ["/3"], ["/1", "/3", "/2", "/4"]),
        ("move_up", ["/1", "/2", "/4"], ["/1", "/2", "/4", "/3"]),
        ("move_up", ["/2", "/3"], ["/2", "/3", "/1", "/4"]),
        ("move_down", ["/1", "/2"], ["/3", "/1", "/2", "/4"]),
        ("move_down", ["/2", "/4"], ["/1", "/3", "/2", "/4"]),
    ],
)
def test_routes_move_by_one_position(
    action: str, picked: list[str], order: list[str], alice_browser: Client, routes: list[Route]
) -> None:
    selected = [route.pk for route in routes if route.path in picked]
    messages_of(alice_browser.post(ROUTES, {"action": action, "_selected_action": selected}))
    assert paths() == order
    assert Entry.objects.filter(event="routes.reordered").count() == 1


@pytest.mark.parametrize(("action", "picked", "end"), [("move_up", "/1", "first"), ("move_down", "/4", "last")])
def test_the_first_route_cannot_move_up_and_the_last_not_down(
    action: str, picked: str, end: str, alice_browser: Client, routes: list[Route]
) -> None:
    selected = [route.pk for route in routes if route.path == picked]
    assert f"{end} already" in messages_of(alice_browser.post(ROUTES, {"action": action, "_selected_action": selected}))
    assert paths() == ["/1", "/2", "/3", "/4"]


def test_deleting_routes_renumbers_the_positions(alice_browser: Client, routes: list[Route]) -> None:
    alice_browser.post(ROUTES, {"action": "delete_selected", "_selected_action": [routes[0].pk, routes[2].pk], "post": "yes"})
    assert list(Route.objects.values_list("position", "path")) == [(1, "/2"), (2, "/4")]


def test_a_group_role_is_created_changed_and_deleted(alice_browser: Client) -> None:
    viewer, user = Role.objects.get(name="viewer"), Role.objects.get(name="user")
    assert fill(alice_browser, f"{GROUPS}add/", "grouprole_form", group="staff", role=viewer.pk, priority=5).status_code == 302
    row = GroupRole.objects.get()
    assert (row.group, row.role, row.priority) == ("staff", viewer, 5)
    url = reverse("admin:accounts_grouprole_change", args=[row.pk])
    assert fill(alice_browser, url, "grouprole_form", role=user.pk).status_code == 302
    assert GroupRole.objects.get().role == user
    assert alice_browser.post(reverse("admin:accounts_grouprole_delete", args=[row.pk]), {"post": "yes"}).status_code == 302
    assert not GroupRole.objects.exists()
    events = Entry.objects.filter(event__startswith="group-role.").order_by("id").values_list("event", flat=True)
    assert list(events) == ["group-role.created", "group-role.updated", "group-role.deleted"]


def test_a_group_without_single_sign_on_is_created_with_a_warning(alice_browser: Client) -> None:
    viewer = Role.objects.get(name="viewer")
    fill(alice_browser, f"{GROUPS}add/", "grouprole_form", group="staff", role=viewer.pk, priority=5)
    assert "Single sign-on is off" in messages_of(alice_browser.get(GROUPS))
    response = fill(alice_browser, f"{GROUPS}add/", "grouprole_form", group=" dev ", role=viewer.pk, priority=5)
    assert form_errors(response)["group"] == ["The name starts or ends with a blank. Write it without."]


def test_a_group_maps_to_one_role_only(alice_browser: Client) -> None:
    GroupRoleFactory(group="staff")
    typed = {"group": "staff", "role": Role.objects.get(name="viewer").pk, "priority": 7}
    response = fill(alice_browser, f"{GROUPS}add/", "grouprole_form", **typed)
    assert list(form_errors(response)) == ["group"]
    assert form_of(response, "grouprole_form")["priority"] == ["7"]


def test_a_route_that_never_decides_is_saved_after_a_confirmation(alice_browser: Client, routes: list[Route]) -> None:
    typed = {"path": "/**", "methods": "*", "permission": "upstream:read"}
    assert fill(alice_browser, f"{ROUTES}add/", "route_form", **typed).status_code == 302
    assert fill(alice_browser, f"{ROUTES}add/", "route_form", **{**typed, "path": "/late"}).status_code == 302
    assert paths() == ["/1", "/2", "/3", "/4", "/late", "/**"]
    typed |= {"path": "/dead", "position": "7"}
    asked = fill(alice_browser, f"{ROUTES}add/", "route_form", **typed)
    assert "never decides a request, because this one matches first: #6 * /** -" in confirmation_on(asked)
    assert "/dead" not in paths()
    again = changed(form_of(asked, "route_form"), confirmation=confirmation_on(asked))
    assert alice_browser.post(f"{ROUTES}add/", again).status_code == 302
    assert paths()[-1] == "/dead"
