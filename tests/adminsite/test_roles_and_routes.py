"""Roles, routes and group roles in the admin: lost updates are refused, and nobody gives more than they hold."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import GroupRole, User
from audit.models import Entry
from rbac.models import Role, Route
from rbac.permissions import MEANINGS
from tests.adminsite.browsing import changed, faults, fill, form_of, told
from tests.adminsite.conftest import Visit
from tests.factories import GroupRoleFactory

ROLES, ROUTES, GROUPS = "/admin/rbac/role/", "/admin/rbac/route/", "/admin/accounts/grouprole/"


def of_role(name: str, page: str = "change") -> str:
    """Return the address of a role's page."""
    return reverse(f"admin:rbac_role_{page}", args=[Role.objects.get(name=name).pk])


def of_route(route: Route, page: str = "change") -> str:
    """Return the address of a route's page."""
    return reverse(f"admin:rbac_route_{page}", args=[route.pk])


@pytest.fixture
def routes(db: None) -> list[Route]:
    """Four routes, /1 to /4."""
    return [Route.objects.create(position=n, path=f"/{n}", methods=["GET"], permission="upstream:read") for n in range(1, 5)]


def paths() -> list[str]:
    """Return the paths of the routes in order."""
    return list(Route.objects.values_list("path", flat=True))


def test_a_role_is_made_by_ticking_permissions_whose_meanings_are_told(office: Client) -> None:
    page = office.get(f"{ROLES}add/").content.decode()
    assert all(meaning.replace("'", "&#x27;") in page for meaning in MEANINGS.values())
    ticked = ["upstream:read", "users:read"]
    assert fill(office, f"{ROLES}add/", "role_form", name="auditor", permissions=ticked).status_code == 302
    assert Role.objects.get(name="auditor").permissions == ticked
    assert Entry.objects.get(event="role.created").actor == "alice@example.com"


@pytest.mark.parametrize("name", ["Not A Role", "user", ""])
def test_a_refused_role_is_shown_again_with_its_ticks(name: str, office: Client) -> None:
    response = fill(office, f"{ROLES}add/", "role_form", name=name, permissions=["users:read"])
    assert list(faults(response)) == ["name"]
    assert form_of(response, "role_form")["permissions"] == ["users:read"]
    assert Role.objects.count() == 3


def test_a_role_is_changed_and_its_version_grows(office: Client) -> None:
    fields = form_of(office.get(of_role("viewer")), "role_form")
    assert set(fields["permissions"]) == set(Role.objects.get(name="viewer").permissions)
    assert fields["seen_version"] == ["1"]
    assert office.post(of_role("viewer"), changed(fields, permissions=["upstream:read"])).status_code == 302
    viewer = Role.objects.get(name="viewer")
    assert (viewer.permissions, viewer.version) == (["upstream:read"], 2)


def test_the_second_of_two_changes_to_a_role_is_refused_and_kept_on_the_form(office: Client) -> None:
    fields = form_of(office.get(of_role("viewer")), "role_form")
    office.post(of_role("viewer"), changed(fields, description="First"))
    second = office.post(of_role("viewer"), changed(fields, description="Second"))
    assert "somebody else" in str(faults(second))
    assert form_of(second, "role_form")["description"] == ["Second"]
    assert Role.objects.get(name="viewer").description == "First"
    without = {name: value for name, value in fields.items() if name != "seen_version"}
    assert "seen_version" in faults(office.post(of_role("viewer"), without))


def test_the_role_admin_is_shown_with_everything_and_cannot_be_changed(office: Client) -> None:
    page = office.get(of_role("admin"))
    assert all(permission in page.content.decode() for permission in MEANINGS)
    assert b'name="_save"' not in page.content
    assert office.post(of_role("admin"), {"description": "x", "seen_version": 1}).status_code == 403
    assert Role.objects.get(name="admin").description != "x"


@pytest.mark.parametrize("way", ["page", "action"])
@pytest.mark.parametrize("name", ["admin", "user", "viewer"])
def test_a_role_that_came_with_skyauth_is_not_deleted(way: str, name: str, office: Client) -> None:
    if way == "page":
        assert office.post(of_role(name, "delete"), {"post": "yes"}).status_code == 403
    else:
        picked = {"_selected_action": Role.objects.get(name=name).pk, "post": "yes"}
        assert "cannot be deleted" in told(office.post(ROLES, {"action": "delete_selected", **picked}))
    assert Role.objects.filter(name=name).exists()


@pytest.mark.usefixtures("helper")
def test_a_role_that_somebody_holds_is_not_deleted_and_one_that_nobody_holds_is(office: Client) -> None:
    assert "still held" in told(office.post(of_role("helpdesk", "delete"), {"post": "yes"}))
    assert Role.objects.filter(name="helpdesk").exists()
    User.objects.filter(role__name="helpdesk").delete()
    assert office.post(of_role("helpdesk", "delete"), {"post": "yes"}).status_code == 302
    assert not Role.objects.filter(name="helpdesk").exists()


def test_nobody_makes_a_role_a_group_or_a_route_that_gives_more_than_they_hold(
    manager: User, routes: list[Route], visit: Visit
) -> None:
    desk = visit(manager)
    forms = [
        fill(desk, f"{ROLES}add/", "role_form", name="boss", permissions=["audit:read"]),
        fill(desk, of_role("manager"), "role_form", permissions=["audit:read"]),
        fill(desk, f"{GROUPS}add/", "grouprole_form", group="staff", role=Role.objects.get(name="admin").pk),
        fill(desk, f"{ROUTES}add/", "route_form", path="/**", methods="*", permission="upstream:read"),
        fill(desk, of_route(routes[0]), "route_form", path="/**"),
    ]
    for form in forms:
        assert "you do not hold" in str(faults(form))
    assert "you do not hold" in told(desk.post(of_route(routes[0], "delete"), {"post": "yes"}))
    moved = desk.post(ROUTES, {"action": "move_down", "_selected_action": routes[0].pk})
    assert "you do not hold" in told(moved)
    assert paths() == ["/1", "/2", "/3", "/4"]
    assert not Role.objects.filter(name="boss").exists()
    assert not GroupRole.objects.exists()


@pytest.mark.parametrize(("position", "order"), [("", ["/1", "/2", "/3", "/4", "/new"]), ("2", ["/1", "/new", "/2", "/3", "/4"])])
def test_a_route_is_inserted_where_it_is_wanted(position: str, order: list[str], office: Client, routes: list[Route]) -> None:
    typed = {"path": "/new", "methods": "GET, HEAD", "permission": "upstream:write", "note": "Why"}
    assert fill(office, f"{ROUTES}add/", "route_form", position=position, **typed).status_code == 302
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
def test_a_refused_route_is_shown_again_with_what_was_typed(typed: dict, field: str, office: Client) -> None:
    values = {"path": "/api/**", "methods": "GET", "permission": "upstream:read", "note": "Why", **typed}
    response = fill(office, f"{ROUTES}add/", "route_form", **values)
    assert list(faults(response)) == [field]
    again = form_of(response, "route_form")
    assert (again["note"], again["path"], again["methods"]) == (["Why"], [values["path"]], [values["methods"]])
    assert not Route.objects.exists()


def test_the_second_of_two_changes_to_a_route_is_refused_and_kept_on_the_form(office: Client, routes: list[Route]) -> None:
    url = of_route(routes[0])
    fields = form_of(office.get(url), "route_form")
    assert fields["methods"] == ["GET"]
    assert office.post(url, changed(fields, methods="GET HEAD")).status_code == 302
    second = office.post(url, changed(fields, path="/second"))
    assert "somebody else" in str(faults(second))
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
def test_routes_are_moved_one_place(
    action: str, picked: list[str], order: list[str], office: Client, routes: list[Route]
) -> None:
    selected = [route.pk for route in routes if route.path in picked]
    told(office.post(ROUTES, {"action": action, "_selected_action": selected}))
    assert paths() == order
    assert Entry.objects.filter(event="routes.reordered").count() == 1


@pytest.mark.parametrize(("action", "picked"), [("move_up", "/1"), ("move_down", "/4")])
def test_a_route_at_the_end_stays_there(action: str, picked: str, office: Client, routes: list[Route]) -> None:
    selected = [route.pk for route in routes if route.path == picked]
    assert "no further place" in told(office.post(ROUTES, {"action": action, "_selected_action": selected}))
    assert paths() == ["/1", "/2", "/3", "/4"]


def test_deleting_routes_closes_the_gap(office: Client, routes: list[Route]) -> None:
    office.post(ROUTES, {"action": "delete_selected", "_selected_action": [routes[0].pk, routes[2].pk], "post": "yes"})
    assert list(Route.objects.values_list("position", "path")) == [(1, "/2"), (2, "/4")]


def test_a_group_is_given_a_role_and_another_and_none(office: Client) -> None:
    viewer, user = Role.objects.get(name="viewer"), Role.objects.get(name="user")
    assert fill(office, f"{GROUPS}add/", "grouprole_form", group="staff", role=viewer.pk, priority=5).status_code == 302
    row = GroupRole.objects.get()
    assert (row.group, row.role, row.priority) == ("staff", viewer, 5)
    url = reverse("admin:accounts_grouprole_change", args=[row.pk])
    assert fill(office, url, "grouprole_form", role=user.pk).status_code == 302
    assert GroupRole.objects.get().role == user
    assert office.post(reverse("admin:accounts_grouprole_delete", args=[row.pk]), {"post": "yes"}).status_code == 302
    assert not GroupRole.objects.exists()
    events = Entry.objects.filter(event__startswith="group-role.").order_by("id").values_list("event", flat=True)
    assert list(events) == ["group-role.created", "group-role.updated", "group-role.deleted"]


def test_a_group_gives_one_role_only(office: Client) -> None:
    GroupRoleFactory(group="staff")
    typed = {"group": "staff", "role": Role.objects.get(name="viewer").pk, "priority": 7}
    response = fill(office, f"{GROUPS}add/", "grouprole_form", **typed)
    assert list(faults(response)) == ["group"]
    assert form_of(response, "grouprole_form")["priority"] == ["7"]
