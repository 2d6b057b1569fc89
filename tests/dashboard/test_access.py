"""The section Access: roles, routes, policy packs, groups and trying a request, with and without the permission to write."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import GroupRole
from accounts.services import groups
from audit.models import Entry
from dashboard.access import PERMISSION_GROUPS
from rbac import packs, services
from rbac.models import RecentRequest, Role, Route
from rbac.packs import RouteSpec
from rbac.permissions import EVERYTHING, Permission
from rbac.principals import system as system_principal
from tests.dashboard.test_pages import HTMX, words
from tests.factories import ServiceAccountFactory, UserFactory

pytestmark = pytest.mark.django_db

ACCESS = "/skyauth/access"
ROUTES = f"{ACCESS}/routes"
OPEN, WRITE = RouteSpec("/open/**", ("*",), "upstream:public"), RouteSpec("/**", ("POST",), "upstream:write")
READ = RouteSpec("/**", ("GET", "HEAD"), "upstream:read", host="api.example.com", note="Reads.")


@pytest.fixture
def alice_browser(visit, alice):
    return visit(alice)


@pytest.fixture
def table(system):
    """Three routes."""
    return services.replace_routes(actor=system, specs=[OPEN, READ, WRITE], source="tests")


@pytest.fixture
def recent_requests(bob, vera):
    """Recent requests of bob and vera."""
    rows = [(bob, "POST", "/jobs"), (bob, "GET", "/jobs"), (vera, "GET", "/jobs"), (vera, "POST", "/jobs")]
    for number, (user, method, path) in enumerate(rows):
        RecentRequest.objects.create(
            key=str(number),
            caller_kind="user",
            caller_uid=user.uid,
            caller=user.username,
            method=method,
            host="api.example.com",
            path=path,
            allowed=True,
            at=timezone.now() - timedelta(minutes=number),
        )


@pytest.fixture
def reader(system):
    """A role without holders."""
    return services.create_role(actor=system, name="reader", permissions=["upstream:read"], description="Reads.")


def with_role(*permissions):
    """Return a user whose role has these permissions."""
    role = services.create_role(actor=system_principal("tests"), name="special", permissions=permissions)
    return UserFactory(username="special@example.com", role=role)


def field(response, name):
    """Return the value of a hidden field."""
    return re.search(rf'name="{name}" value="([^"]*)"', response.text)[1]


def order():
    return list(Route.objects.values_list("path", "methods", "host"))


def controls(response):
    """Return the buttons and links on a page that change something."""
    content = response.text[response.text.index("<main") : response.text.index("<dialog")]
    return set(re.findall(r'<button|href="[^"]*/(?:new|new-role|delete)"', content))


# Roles


def test_every_permission_is_under_one_heading_of_the_matrix():
    listed = [name for names in PERMISSION_GROUPS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) == EVERYTHING


def test_the_matrix_shows_the_permissions_and_the_number_of_holders_of_each_role(alice_browser, bob, vera, reader, settings):
    settings.RBAC_DEFAULT_ROLE = "viewer"
    ServiceAccountFactory(owner=bob)
    response = alice_browser.get(ACCESS)
    rows = [
        [
            " ".join(re.sub(r"<[^>]*>|[^ -~]", " ", cell).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", response.text, re.DOTALL)
    ]
    by_first = {row[0]: row[1:] for row in rows}
    assert by_first[""] == ["admin", "user", "viewer default", "reader"]
    assert by_first["Users"] == ["1", "1", "1", "0"]
    assert by_first["Service accounts"] == ["0", "1", "0", "0"]
    assert by_first["Send requests that the routes of a protected API classify as writing. upstream:write"] == [
        "yes", "yes", "no", "no",
    ]  # fmt: skip
    assert 'href="/skyauth/users?role=viewer"' in response.text
    assert 'href="/skyauth/service-accounts?role=user"' in response.text


def test_users_without_roles_read_are_redirected_to_try_a_request(visit):
    reader = with_role("upstream:read")
    browser = visit(reader)
    assert browser.get(ACCESS)["Location"] == f"{ACCESS}/try"
    response = browser.get(f"{ACCESS}/try")
    assert "Roles" not in words(response)
    assert browser.get(f"{ACCESS}/roles/user").status_code == 403


def test_counts_are_shown_to_users_who_can_read_the_counted_objects(visit, bob):
    response = visit(bob).get(ACCESS)
    assert "Users" in words(response)
    assert '<th scope="row">Service accounts</th>' not in response.text


def test_an_admin_creates_changes_and_deletes_a_role(alice_browser):
    response = alice_browser.post(
        f"{ACCESS}/new-role", {"name": "reader", "description": "Reads.", "permissions": ["upstream:read", "users:read"]}
    )
    assert response["Location"] == ACCESS
    role = Role.objects.get(name="reader")
    assert (role.permissions, role.description) == (["upstream:read", "users:read"], "Reads.")
    path = f"{ACCESS}/roles/reader"
    version = field(alice_browser.get(path), "version")
    values = {"description": "Looks.", "permissions": ["upstream:public", "upstream:read"], "version": version}
    assert alice_browser.post(path, values)["Location"] == path
    role.refresh_from_db()
    assert (role.permissions, role.description, role.version) == (["upstream:read"], "Looks.", 2)
    confirmation = alice_browser.get(f"{path}/delete")
    assert "No user, service account or group has the role reader." in words(confirmation)
    assert alice_browser.post(f"{path}/delete", {"version": field(confirmation, "version")})["Location"] == ACCESS
    assert not Role.objects.filter(name="reader").exists()
    assert list(Entry.objects.values_list("event", flat=True)[:3]) == ["role.deleted", "role.updated", "role.created"]
    assert "was deleted" in words(alice_browser.get(ACCESS))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Reader"}, "A role name has lower-case letters"),
        ({"name": "user"}, "already exists"),
        ({"name": ""}, "This field is required"),
        ({"name": "reader", "permissions": ["no:such"]}, "no:such is not one of the available choices"),
    ],
)
def test_a_new_role_with_an_error_is_not_created(alice_browser, values, message):
    response = alice_browser.post(f"{ACCESS}/new-role", values)
    assert response.status_code == 422
    assert message in words(response)
    assert not Role.objects.filter(name="reader").exists()


def test_previewing_a_role_shows_affected_requests_and_saves_nothing(alice_browser, table, recent_requests):
    path = f"{ACCESS}/roles/user"
    values = {
        "permissions": ["upstream:read", "audit:read"],
        "description": "Only reads.",
        "version": field(alice_browser.get(path), "version"),
    }
    response = alice_browser.post(path, {**values, "step": "preview"})
    text = words(response)
    assert response.status_code == 200
    assert "Of the last 4 distinct requests, this change affects: 1 newly denied" in text
    assert "Newly denied requests" in text
    assert "Newly allowed requests" not in text
    assert "bob@example.com POST api.example.com/jobs" in text
    assert re.search(r'value="audit:read"[^>]*checked', response.text)
    assert 'value="Only reads."' in response.text
    assert "upstream:write" in Role.objects.get(name="user").permissions
    assert alice_browser.post(path, {**values, "step": "save"}).status_code == 302
    assert Role.objects.get(name="user").permissions == ["audit:read", "upstream:read"]


def test_a_preview_without_recent_requests_says_so(alice_browser, reader, table):
    path = f"{ACCESS}/roles/reader"
    response = alice_browser.post(path, {"permissions": [], "version": 1, "step": "preview"})
    assert "There are no recent requests to compare" in words(response)


@pytest.mark.parametrize("step", ["preview", "save"])
def test_a_change_of_an_outdated_role_is_rejected(alice_browser, reader, system, step):
    path = f"{ACCESS}/roles/reader"
    version = field(alice_browser.get(path), "version")
    services.update_role(actor=system, name="reader", permissions=["upstream:write"])
    response = alice_browser.post(path, {"permissions": [], "version": version, "step": step})
    assert response.status_code == 422
    assert "changed by somebody else" in words(response)
    assert f'<a href="{path}">Load the current version</a>' in response.text
    assert Role.objects.get(name="reader").permissions == ["upstream:write"]
    alice_browser.post(f"{path}/delete", {"version": version})
    assert "changed by somebody else" in words(alice_browser.get(f"{path}/delete"))
    assert Role.objects.filter(name="reader").exists()


def test_a_role_with_holders_cannot_be_deleted_and_the_page_counts_them(alice_browser, reader, bob):
    UserFactory.create_batch(2, role=reader)
    GroupRole.objects.create(group="readers", role=reader)
    response = alice_browser.get(f"{ACCESS}/roles/reader/delete")
    assert "The role reader is assigned to 2 users and 1 group." in words(response)
    assert "danger" not in response.text[response.text.index("<main") : response.text.index("<dialog")]
    alice_browser.post(f"{ACCESS}/roles/reader/delete", {"version": 1})
    assert "is still in use" in words(alice_browser.get(f"{ACCESS}/roles/reader/delete"))
    assert Role.objects.filter(name="reader").exists()


def test_the_pages_of_admin_and_built_in_roles_have_no_control_that_fails(alice_browser, settings):
    admin = alice_browser.get(f"{ACCESS}/roles/admin")
    assert "cannot be changed" in words(admin)
    assert controls(admin) == set()
    response = alice_browser.post(f"{ACCESS}/roles/admin", {"permissions": ["users:read"], "version": 1})
    assert response.status_code == 422
    assert re.search(r'role="alert"><p>The role admin always [^<]* cannot be changed', response.text)
    viewer = alice_browser.get(f"{ACCESS}/roles/viewer")
    assert "Save" in words(viewer)
    assert "/delete" not in viewer.text
    alice_browser.post(f"{ACCESS}/roles/viewer/delete", {"version": 1})
    assert "is built in and cannot be deleted" in words(alice_browser.get(f"{ACCESS}/roles/viewer/delete"))


def test_users_cannot_grant_permissions_that_they_do_not_have(visit, reader):
    browser = visit(with_role("roles:read", "roles:write", "upstream:read", "policy:explain"))
    response = browser.get(f"{ACCESS}/new-role")
    assert set(re.findall(r'name="permissions"\s+value="([^"]+)"', response.text)) == {
        "roles:read", "roles:write", "upstream:read", "policy:explain", "upstream:public",
    }  # fmt: skip
    response = browser.post(f"{ACCESS}/new-role", {"name": "more", "permissions": ["users:write"]})
    assert response.status_code == 422
    assert not Role.objects.filter(name="more").exists()
    assert "Save" in words(browser.get(f"{ACCESS}/roles/reader"))
    assert controls(browser.get(f"{ACCESS}/roles/user")) == set()
    response = browser.post(f"{ACCESS}/roles/user", {"permissions": [], "version": 1})
    assert response.status_code == 403
    assert "upstream:write" in Role.objects.get(name="user").permissions


def test_users_without_policy_explain_save_a_role_without_a_preview(visit, reader):
    browser = visit(with_role("roles:read", "roles:write", "upstream:read"))
    path = f"{ACCESS}/roles/reader"
    assert "Preview" not in words(browser.get(path))
    values = {"permissions": ["roles:read"], "version": 1}
    assert browser.post(path, {**values, "step": "preview"}).status_code == 403
    assert Role.objects.get(name="reader").permissions == ["upstream:read"]
    assert browser.post(path, values).status_code == 302


def test_an_unknown_role_is_not_found(alice_browser):
    for path in (f"{ACCESS}/roles/nobody", f"{ACCESS}/roles/nobody/delete"):
        response = alice_browser.get(path)
        assert response.status_code == 404
        assert "There is no role named" in words(response)


def test_an_incomplete_form_changes_nothing(alice_browser, reader):
    alice_browser.post(f"{ACCESS}/roles/reader/delete", {"version": "x"})
    assert "form is incomplete" in words(alice_browser.get(f"{ACCESS}/roles/reader/delete"))
    assert alice_browser.post(f"{ACCESS}/roles/reader", {"permissions": []}).status_code == 422
    assert Role.objects.get(name="reader").version == 1
    response = alice_browser.post(f"{ACCESS}/new-role", {"name": "more", "step": "preview"})
    assert "has no preview" in words(response)
    assert not Role.objects.filter(name="more").exists()


# Routes


def test_routes_are_listed_in_order(alice_browser, table):
    response = alice_browser.get(ROUTES)
    assert re.findall(r'<a href="/skyauth/access/routes/\d+">([^<]+)</a>', response.text) == [
        "/open/**", "api.example.com/**", "/**",
    ]  # fmt: skip
    assert "3 routes. A request that matches none of them is denied." in words(response)


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("q=open", ["/open/**"]),
        ("q=READS", ["api.example.com/**"]),
        ("q=/jobs/7", ["api.example.com/**", "/**"]),
        ("q=/open/x", ["/open/**", "api.example.com/**", "/**"]),
        ("q=/jobs%2e/..", []),
        ("q=/**", ["/open/**", "api.example.com/**", "/**"]),
        ("host=api.example.com", ["/open/**", "api.example.com/**", "/**"]),
        ("host=other.example", []),
        ("method=GET", ["/open/**", "api.example.com/**"]),
        ("method=POST&permission=upstream:write", ["/**"]),
        ("permission=nonsense", []),
        ("q=nothing", []),
    ],
)
def test_routes_are_filtered_by_their_text_and_by_paths_that_they_match(alice_browser, table, query, paths):
    response = alice_browser.get(f"{ROUTES}?{query}")
    assert re.findall(r'<a href="/skyauth/access/routes/\d+">([^<]+)</a>', response.text) == paths
    assert 'name="up"' not in response.text or query == "host=" or len(paths) == 3
    assert ("No routes match these filters" in response.text) == (not paths)


def test_an_invalid_stored_route_is_listed_and_can_be_deleted(alice_browser, table):
    Route.objects.filter(pk=table[0].pk).update(path="/a//b")
    assert "/a//b" in alice_browser.get(f"{ROUTES}?q=a//b").text
    assert alice_browser.get(f"{ROUTES}?q=/jobs").status_code == 200
    response = alice_browser.get(f"{ROUTES}/{table[0].pk}/delete")
    assert response.status_code == 200
    response = alice_browser.post(f"{ROUTES}/{table[0].pk}/delete", {"seen": field(response, "seen")})
    assert response["Location"] == ROUTES
    assert Route.objects.count() == 2


def test_a_route_moves_up_and_down_by_one_position(alice_browser, table):
    first, second, third = (row.pk for row in table)
    page = alice_browser.get(ROUTES)
    assert re.findall(r'id="(\w+-\d+)"\s+disabled', page.text) == [f"up-{first}", f"down-{third}"]
    response = alice_browser.post(f"{ROUTES}/move", {"up": third, "seen": field(page, "seen")})
    assert response["Location"] == f"{ROUTES}#route-{third}"
    assert [row.pk for row in Route.objects.all()] == [first, third, second]
    response = alice_browser.post(
        f"{ROUTES}/move", {"down": first, "seen": field(alice_browser.get(ROUTES), "seen")}, headers=HTMX
    )
    assert [row.pk for row in Route.objects.all()] == [third, first, second]
    assert "<html" not in response.text
    assert "Route moved down: #2" in words(response)
    assert field(response, "seen") == services.table_tag(Route.objects.all())


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_a_move_that_changes_a_decision_needs_a_confirmation(alice_browser, system, recent_requests, headers):
    wall = RouteSpec("/jobs", ("*",), "upstream:admin")
    _, second = services.replace_routes(actor=system, specs=[RouteSpec("/**", ("*",), "upstream:read"), wall], source="tests")
    page = alice_browser.get(ROUTES)
    response = alice_browser.post(f"{ROUTES}/move", {"up": second.pk, "seen": field(page, "seen")}, headers=headers)
    text = words(response)
    assert (response.status_code, response["HX-Retarget"]) == (200, "#content")
    for part in ("Move route 2 up?", "4 newly denied", "from position 2 to position 1, before", "has not been moved yet"):
        assert part in text, part
    assert [row.path for row in Route.objects.all()] == ["/**", "/jobs"]
    response = alice_browser.post(
        f"{ROUTES}/move", {"up": field(response, "up"), "seen": field(response, "seen"), "step": "save"}
    )
    assert response["Location"] == f"{ROUTES}#route-{second.pk}"
    assert [row.path for row in Route.objects.all()] == ["/jobs", "/**"]


def test_users_without_policy_explain_move_a_route_without_a_confirmation(visit, system, recent_requests):
    specs = [RouteSpec("/**", ("*",), "upstream:read"), RouteSpec("/jobs", ("*",), "upstream:admin")]
    _, second = services.replace_routes(actor=system, specs=specs, source="tests")
    browser = visit(with_role("routes:read", "routes:write", *(p for p in EVERYTHING if p.startswith("upstream:"))))
    sent = {"up": second.pk, "seen": field(browser.get(ROUTES), "seen")}
    assert browser.post(f"{ROUTES}/move", sent).status_code == 302
    assert [row.path for row in Route.objects.all()] == ["/jobs", "/**"]


@pytest.mark.parametrize("wrong", ["stale", "first", "last", "unknown", "empty"])
def test_an_impossible_move_shows_the_reason_and_moves_nothing(alice_browser, table, wrong):
    seen = services.table_tag(table)
    sent, message = {
        "stale": ({"up": table[2].pk, "seen": "0"}, "changed by somebody else"),
        "first": ({"up": table[0].pk, "seen": seen}, "The route is first already"),
        "last": ({"down": table[2].pk, "seen": seen}, "The route is last already"),
        "unknown": ({"down": 0, "seen": seen}, "This route does not exist"),
        "empty": ({}, "This route does not exist"),
    }[wrong]
    response = alice_browser.post(f"{ROUTES}/move", sent)
    assert message in words(alice_browser.get(ROUTES) if response.status_code == 302 else response)
    response = alice_browser.post(f"{ROUTES}/move", sent, headers=HTMX)
    assert response.status_code == (404 if wrong in {"unknown", "empty"} else 409)
    assert message in words(response)
    assert [row.pk for row in Route.objects.all()] == [row.pk for row in table]


ROUTE = {"methods": "GET, POST", "host": "", "path": "/new/*", "permission": "upstream:admin", "note": "Why."}


def test_a_route_is_added_at_a_position_or_at_the_end(alice_browser, table):
    page = alice_browser.get(f"{ROUTES}/new?before=2")
    assert re.search(r'name="position" value="2"', page.text)
    alice_browser.post(f"{ROUTES}/new", {**ROUTE, "position": "2", "seen": field(page, "seen")})
    row = Route.objects.get(path="/new/*")
    assert (row.position, row.methods, row.note) == (2, ["GET", "POST"], "Why.")
    page = alice_browser.get(f"{ROUTES}/new")
    response = alice_browser.post(f"{ROUTES}/new", {**ROUTE, "path": "/end", "methods": "*", "seen": field(page, "seen")})
    row = Route.objects.get(path="/end")
    assert response["Location"] == f"{ROUTES}#route-{row.pk}"
    assert (row.position, row.methods) == (5, ["*"])


def test_a_route_is_changed_and_moved_in_one_step(alice_browser, table):
    path = f"{ROUTES}/{table[0].pk}"
    page = alice_browser.get(path)
    assert re.search(r'name="path" value="/open/\*\*"', page.text)
    response = alice_browser.post(path, {**ROUTE, "position": "99", "seen": field(page, "seen")})
    assert response["Location"] == f"{ROUTES}#route-{table[0].pk}"
    row = Route.objects.last()
    assert (row.pk, row.position, row.path, row.permission) == (table[0].pk, 3, "/new/*", "upstream:admin")
    entry = Entry.objects.first()
    assert (entry.event, entry.data["old"]["position"], entry.data["new"]["position"]) == ("route.updated", 1, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "new"}, "starts with a slash"),
        ({"path": "/a/**/b"}, "**"),
        ({"methods": "get"}, "Not a method: get"),
        ({"methods": "GET *"}, "Not a method: *. Use upper-case names, or only * for any method."),
        ({"methods": "GTE"}, "Not a known method: GTE, did you mean GET?"),
        ({"methods": ""}, "This field is required"),
        ({"host": "API.example.com"}, "A host is in lower case"),
        ({"permission": "no:such"}, "not one of the available choices"),
        ({"position": "0"}, "greater than or equal to 1"),
    ],
)
@pytest.mark.parametrize("step", ["preview", "save"])
def test_a_route_with_an_error_is_not_saved(alice_browser, table, values, message, step):
    before = order()
    sent = {**ROUTE, **values, "seen": services.table_tag(table), "step": step}
    for path in (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}"):
        response = alice_browser.post(path, sent)
        assert response.status_code == 422
        assert 'aria-invalid="true"' in response.text
        assert message in words(response)
    assert order() == before


def test_previewing_a_route_shows_affected_requests_and_saves_nothing(alice_browser, table, recent_requests):
    seen = services.table_tag(table)
    wall = {**ROUTE, "path": "/jobs", "methods": "*", "position": "1", "seen": seen, "step": "preview"}
    text = words(alice_browser.post(f"{ROUTES}/new", wall))
    assert "3 newly denied" in text
    assert "#1 * /jobs -> upstream:admin" in text
    # The same one at the end is never reached.
    assert "stays the same" in words(alice_browser.post(f"{ROUTES}/new", {**wall, "position": ""}))
    gives = {**ROUTE, "path": "/**", "methods": "POST", "permission": "upstream:read", "seen": seen, "step": "preview"}
    text = words(alice_browser.post(f"{ROUTES}/{table[2].pk}", gives))
    assert "1 newly allowed" in text
    assert "vera@example.com POST api.example.com/jobs" in text
    assert "Newly denied requests" not in text
    text = words(alice_browser.get(f"{ROUTES}/{table[1].pk}/delete"))
    assert "2 newly denied" in text
    assert "No route allows this method and path." in text
    assert [row.version for row in Route.objects.all()] == [1, 1, 1]


@pytest.mark.parametrize("step", ["preview", "save"])
def test_a_change_of_an_outdated_route_table_is_rejected(alice_browser, table, system, step):
    seen = services.table_tag(table)
    services.update_route(actor=system, pk=table[1].pk, changes={"note": "Changed."})
    for path in (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}"):
        response = alice_browser.post(path, {**ROUTE, "seen": seen, "step": step})
        assert response.status_code == 422
        assert "changed by somebody else" in words(response)
        assert f'<a href="{path}">Load the current version</a>' in response.text
    for path in (f"{ROUTES}/{table[0].pk}/delete", f"{ACCESS}/packs/open"):
        for sent in ({"seen": seen}, {}):
            alice_browser.post(path, sent)
            assert "changed by somebody else" in words(alice_browser.get(path))
    assert [row.pk for row in Route.objects.all()] == [row.pk for row in table]


def test_a_route_is_deleted_after_a_confirmation(alice_browser, table):
    path = f"{ROUTES}/{table[1].pk}/delete"
    page = alice_browser.get(path)
    assert "GET, HEAD api.example.com/**" in words(page)
    assert alice_browser.post(path, {"seen": field(page, "seen")})["Location"] == ROUTES
    assert [(row.pk, row.position) for row in Route.objects.all()] == [(table[0].pk, 1), (table[2].pk, 2)]
    assert alice_browser.get(path).status_code == 404
    assert alice_browser.get(f"{ROUTES}/{10**30}").status_code == 404


def test_a_policy_pack_shows_its_preview_and_replaces_the_routes(alice_browser, table, recent_requests):
    listed = words(alice_browser.get(f"{ACCESS}/packs"))
    assert all(name in listed for name in packs.names())
    assert "active" not in listed
    page = alice_browser.get(f"{ACCESS}/packs/open")
    text = words(page)
    assert "Loading this policy pack replaces all 3 current routes" in text
    assert "Current routes that are not in the policy pack (3)" in text
    assert "1 newly allowed" in text
    assert Route.objects.count() == 3
    assert alice_browser.post(f"{ACCESS}/packs/open", {"seen": field(page, "seen")})["Location"] == ROUTES
    assert Route.objects.count() == len(packs.load("open").routes)
    assert "The policy pack open was loaded" in words(alice_browser.get(ROUTES))
    assert Entry.objects.first().reason == "from pack open"
    page = alice_browser.get(f"{ACCESS}/packs/open")
    assert "This policy pack is loaded" in words(page)
    assert controls(page) == set()
    assert "active" in words(alice_browser.get(f"{ACCESS}/packs"))
    assert alice_browser.get(f"{ACCESS}/packs/nonsense").status_code == 404


def test_without_routes_the_pages_offer_the_policy_packs(alice_browser):
    assert f'href="{ACCESS}/packs"' in alice_browser.get(ROUTES).text
    assert "every request is denied" in words(alice_browser.get(ROUTES))
    page = alice_browser.get(f"{ACCESS}/packs/skypilot")
    assert "Load policy pack skypilot" in words(page)
    alice_browser.post(f"{ACCESS}/packs/skypilot", {"seen": field(page, "seen")})
    assert Route.objects.count() == len(packs.load("skypilot").routes)


def test_users_with_routes_read_see_no_control_that_changes_routes(visit, table):
    browser = visit(with_role("routes:read", "policy:explain", "upstream:read"))
    for path in (ROUTES, f"{ACCESS}/packs", f"{ACCESS}/packs/open"):
        response = browser.get(path)
        assert response.status_code == 200
        assert controls(response) <= {"<button"}  # the filter's, for browsers without script
        assert "/move" not in response.text or 'name="seen"' not in response.text
    before, seen = order(), services.table_tag(table)
    for path in ("routes/move", "routes/new", f"routes/{table[0].pk}", f"routes/{table[0].pk}/delete", "packs/open"):
        sent = {**ROUTE, "seen": seen, "up": table[1].pk}
        assert browser.post(f"{ACCESS}/{path}", sent).status_code == 403, path
    assert order() == before


def test_users_with_routes_write_but_without_the_upstream_permissions_are_denied(visit, table):
    browser = visit(with_role("routes:read", "routes:write", "policy:explain"))
    assert "Add route" not in words(browser.get(ROUTES))
    assert 'name="up"' not in browser.get(ROUTES).text
    pages = (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}", f"{ROUTES}/{table[0].pk}/delete")
    for path in pages:
        assert browser.get(path).status_code == 403
        sent = {**ROUTE, "seen": services.table_tag(table)}
        assert browser.post(path, sent).status_code == 403
        assert path.endswith("/delete") or browser.post(path, {**sent, "step": "preview"}).status_code == 403
    assert Route.objects.count() == 3


def test_users_without_policy_explain_change_routes_without_a_preview(visit, table):
    upstream = ("upstream:read", "upstream:write", "upstream:admin")
    browser = visit(with_role("routes:read", "routes:write", *upstream))
    for path in (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}/delete", f"{ACCESS}/packs/open"):
        assert "Preview" not in words(browser.get(path))
        assert "newly denied" not in words(browser.get(path))
    sent = {**ROUTE, "seen": services.table_tag(table)}
    assert browser.post(f"{ROUTES}/new", {**sent, "step": "preview"}).status_code == 403
    assert browser.post(f"{ROUTES}/new", sent).status_code == 302


# Groups


def test_an_admin_adds_changes_and_deletes_a_group(alice_browser):
    assert "No groups yet" in words(alice_browser.get(f"{ACCESS}/groups"))
    alice_browser.post(f"{ACCESS}/groups/new", {"group": "ops/emea", "role": "user", "priority": "10"})
    row = GroupRole.objects.get()
    assert (row.group, row.role.name, row.priority) == ("ops/emea", "user", 10)
    path = f"{ACCESS}/groups/{row.pk}"
    page = alice_browser.get(path)
    seen = {name: field(page, name) for name in ("seen_role", "seen_priority")}
    assert alice_browser.post(path, {"role": "viewer", "priority": "20", **seen})["Location"] == f"{ACCESS}/groups"
    row.refresh_from_db()
    assert (row.role.name, row.priority) == ("viewer", 20)
    response = alice_browser.post(path, {"role": "user", "priority": "20", **seen})  # as it was before
    assert response.status_code == 422
    assert "changed by somebody else" in words(response)
    row.refresh_from_db()
    assert row.role.name == "viewer"
    page = alice_browser.get(f"{path}/delete")
    assert "Delete group ops/emea?" in words(page)
    assert GroupRole.objects.exists()
    seen = {name: field(page, name) for name in ("seen_role", "seen_priority")}
    response = alice_browser.post(f"{path}/delete", {**seen, "seen_role": "user"})  # as it was before
    assert (response.status_code, "changed by somebody else" in words(response)) == (422, True)
    assert GroupRole.objects.exists()
    assert alice_browser.post(f"{path}/delete", seen)["Location"] == f"{ACCESS}/groups"
    assert not GroupRole.objects.exists()
    assert alice_browser.get(path).status_code == 404


def test_a_group_without_single_sign_on_is_added_with_a_warning(alice_browser, settings):
    new = {"role": "user", "priority": "10"}
    page = alice_browser.post(f"{ACCESS}/groups/new", {"group": "ops", **new}, follow=True)
    assert "Single sign-on is off" in words(page)
    path = f"{ACCESS}/groups/{GroupRole.objects.get().pk}"
    seen = {"seen_role": "user", "seen_priority": "10"}
    assert "Single sign-on is off" in words(alice_browser.post(path, {**new, "role": "viewer", **seen}, follow=True))
    settings.AUTH_USER_HEADER_FORMAT, settings.AUTH_GROUPS_HEADER = "plaintext", "X-Groups"
    assert "Single sign-on is off" not in words(alice_browser.post(f"{ACCESS}/groups/new", {"group": "dev", **new}, follow=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"group": "ops"}, "already has a role"),
        ({"group": " new"}, "starts or ends with a blank"),
        ({"group": "new\t"}, "starts or ends with a blank"),
        ({"group": ""}, "This field is required"),
        ({"role": "nobody"}, "not one of the available choices"),
        ({"priority": "-1"}, "greater than or equal to 0"),
        ({"priority": str(2**31)}, "less than or equal to"),
    ],
)
def test_a_group_with_an_error_is_not_added(alice_browser, system, values, message):
    groups.create_group_role(actor=system, group="ops", role="viewer")
    response = alice_browser.post(f"{ACCESS}/groups/new", {"group": "new", "role": "user", "priority": "1", **values})
    assert response.status_code == 422
    assert 'aria-invalid="true"' in response.text
    assert message in words(response)
    assert GroupRole.objects.count() == 1


def test_groups_are_listed_in_the_order_of_their_priority_and_can_be_searched(alice_browser, system):
    for group, priority in (("b", 1), ("c", 3), ("a", 2)):
        groups.create_group_role(actor=system, group=f"group-{group}", role="user", priority=priority)

    def groups_on_page(query):
        return re.findall(r">group-(\w)</a>", alice_browser.get(f"{ACCESS}/groups?{query}").text)

    assert groups_on_page("") == ["b", "a", "c"]
    assert groups_on_page("sort=group") == ["a", "b", "c"]
    assert groups_on_page("q=GROUP-C") == ["c"]
    assert "No groups match this filter" in words(alice_browser.get(f"{ACCESS}/groups?q=zzz"))


def test_a_group_of_a_role_with_more_permissions_cannot_be_changed(visit, system):
    row = groups.create_group_role(actor=system, group="admins", role="admin")
    browser = visit(with_role("roles:read", "roles:write"))
    assert f"groups/{row.pk}" not in browser.get(f"{ACCESS}/groups").text
    path = f"{ACCESS}/groups/{row.pk}"
    response = browser.get(path)
    assert "You cannot change it" in words(response)
    assert controls(response) == set()
    sent = {"role": "admin", "priority": "1", "seen_role": "admin", "seen_priority": "100"}
    assert browser.post(path, sent).status_code == 403
    assert browser.get(f"{path}/delete").status_code == 403
    assert browser.post(f"{path}/delete").status_code == 403
    row.refresh_from_db()
    assert row.priority == 100


# Read-only users


def test_users_and_viewers_see_roles_and_groups_without_controls(visit, bob, vera, system, table, reader):
    row = groups.create_group_role(actor=system, group="ops", role="viewer")
    for user in (bob, vera):
        browser = visit(user)
        for path in (ACCESS, f"{ACCESS}/roles/viewer", f"{ACCESS}/roles/reader", f"{ACCESS}/groups"):
            response = browser.get(path)
            assert response.status_code == 200
            assert controls(response) <= ({"<button"} if path.endswith("groups") else set())
        tabs = re.search(r'<nav class="tabs".*?</nav>', browser.get(ACCESS).text, re.DOTALL)[0]
        assert re.findall(r'href="([^"]+)"', tabs) == [ACCESS, f"{ACCESS}/groups", f"{ACCESS}/try"]
        for path, sent in (
            ("new-role", {"name": "mine"}),
            ("roles/reader", {"permissions": [], "version": "1"}),
            ("roles/reader", {"permissions": [], "version": "1", "step": "preview"}),
            ("roles/reader/delete", {"version": "1"}),
            ("groups/new", {"group": "mine", "role": "viewer", "priority": "1"}),
            (f"groups/{row.pk}", {"role": "viewer", "priority": "1", "seen_role": "viewer", "seen_priority": "100"}),
            (f"groups/{row.pk}/delete", {}),
            ("packs/open", {"seen": services.table_tag(table)}),
        ):
            assert browser.post(f"{ACCESS}/{path}", sent).status_code == 403, path
    assert (Role.objects.count(), GroupRole.objects.get().priority, Route.objects.count()) == (4, 100, 3)
    assert Role.objects.get(name="reader").version == 1


# Try a request


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("who=vera@example.com&method=get&path=/jobs&host=api.example.com", "allowed vera@example.com: GET api.example.com/jobs"),
        ("who=vera@example.com&method=POST&path=/jobs", "denied vera@example.com: POST /jobs"),
        ("who=pipeline&method=POST&path=/jobs", "allowed pipeline: POST /jobs"),
        ("who=anonymous&method=GET&path=/open/x", "allowed anonymous: GET /open/x"),
        ("who=anonymous&method=POST&path=/jobs", "401"),
        ("who=&method=POST&path=/jobs", "allowed alice@example.com: POST /jobs"),
        ("who=bob@example.com&method=GET&path=/a/../b", "unreadable-target"),
        ("who=bob@example.com&method=PUT&path=/jobs", "No route allows this method and path."),
        ("who=nobody&method=GET&path=/jobs", "There is no user or service account"),
        ("who=bob@example.com&method=GET&path=", "This field is required"),
    ],
)
def test_an_admin_tries_requests_of_any_caller(alice_browser, table, bob, vera, pipeline, query, text):
    response = alice_browser.get(f"{ACCESS}/try?{query}")
    assert response.status_code == 200
    assert text in words(response)


def test_the_decision_shows_the_route_the_roles_and_a_link_to_matching_routes(alice_browser, table, vera):
    response = alice_browser.get(f"{ACCESS}/try?who=vera@example.com&method=POST&path=/a%26b%3Fc")
    text = words(response)
    assert "#3 POST /** -> upstream:write" in text
    assert "Roles with this permission admin user" in text
    assert f'href="{ROUTES}?q=%2Fa%26b%3Fc"' in response.text


def test_users_without_policy_explain_try_only_their_own_requests(visit, table, bob, vera):
    browser = visit(vera)
    page = browser.get(f"{ACCESS}/try")
    assert 'name="who"' not in page.text
    response = browser.get(f"{ACCESS}/try?method=POST&path=/jobs")
    assert "denied vera@example.com: POST /jobs" in words(response)
    assert ROUTES not in response.text  # she may not read routes
    assert browser.get(f"{ACCESS}/try?who=vera@example.com&method=POST&path=/jobs").status_code == 200
    for name in ("bob@example.com", "nobody", "anonymous"):
        response = browser.get(f"{ACCESS}/try?who={name}&method=POST&path=/jobs")
        assert response.status_code == 403
        assert "policy:explain" in response.text


def test_an_invalid_route_table_is_reported(alice_browser, table, reader):
    Route.objects.filter(pk=table[0].pk).update(path="/a//b")
    response = alice_browser.get(f"{ACCESS}/try?method=GET&path=/a", follow=True)
    assert "A stored route cannot be read" in words(response)
    response = alice_browser.post(f"{ACCESS}/roles/reader", {"permissions": [], "version": 1, "step": "preview"})
    assert response.status_code == 422
    assert "A stored route cannot be read" in words(response)


# Number of queries


def counted(browser, path):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert browser.get(path).status_code == 200
    return len(queries)


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(alice_browser, table, recent_requests, system, bob):
    paths = (ACCESS, ROUTES, f"{ROUTES}?q=/jobs", f"{ACCESS}/packs", f"{ACCESS}/packs/open", f"{ACCESS}/groups")
    alice_browser.get(ACCESS)
    groups.create_group_role(actor=system, group="one", role="user")
    before = [counted(alice_browser, path) for path in paths]
    Route.objects.bulk_create(
        [Route(position=n, path=f"/p{n}/**", methods=["GET"], permission="upstream:read") for n in range(4, 300)]
    )
    GroupRole.objects.bulk_create([GroupRole(group=f"g{n}", role=bob.role) for n in range(300)])
    Role.objects.bulk_create([Role(name=f"role-{n}") for n in range(30)])
    UserFactory.create_batch(30)
    assert [counted(alice_browser, path) for path in paths] == before


def test_a_preview_lists_the_newest_requests_and_their_number(alice_browser, table, bob):
    now = timezone.now()
    RecentRequest.objects.bulk_create(
        [
            RecentRequest(
                key=str(n),
                caller_kind="user",
                caller_uid=bob.uid,
                caller=bob.username,
                method="POST",
                host="",
                path=f"/jobs/{n}",
                allowed=True,
                at=now - timedelta(seconds=n),
            )
            for n in range(40)
        ]
    )
    text = words(alice_browser.get(f"{ROUTES}/{table[2].pk}/delete"))
    assert "Of the last 40 distinct requests, this change affects: 40 newly denied" in text
    assert "The list shows the newest 25 of 40 requests." in text
    assert "/jobs/24 " in text
    assert "/jobs/25 " not in text


def test_the_role_form_lists_every_permission_by_name(alice_browser):
    assert all(name in alice_browser.get(f"{ACCESS}/new-role").text for name in Permission)


DEAD = {"methods": "POST", "host": "", "path": "/late", "permission": "upstream:admin", "note": ""}


def test_a_new_route_is_inserted_before_the_route_that_would_shadow_it(alice_browser, table):
    response = alice_browser.post(
        f"{ACCESS}/routes/new", {**DEAD, "seen": services.table_tag(Route.objects.all()), "position": ""}, follow=True
    )
    assert "Route added: #3 POST /late -> upstream:admin." in response.text.replace("&gt;", ">")
    assert "never decides" not in response.text


@pytest.mark.parametrize("what", ["new", "changed"])
def test_a_route_that_never_decides_is_saved_after_a_confirmation_and_marked(alice_browser, table, what):
    sent = {**DEAD, "seen": services.table_tag(Route.objects.all()), "position": "4"}
    path = f"{ACCESS}/routes/new"
    if what == "changed":
        path, sent["position"] = f"{ACCESS}/routes/{table[0].pk}", "3"
    count = Route.objects.count()
    asked = alice_browser.post(path, sent)
    statement = "that never decides a request, because this one matches first: #"
    assert (asked.status_code, statement in words(asked)) == (422, True)
    assert (Route.objects.count(), Route.objects.filter(path="/late").exists()) == (count, False)
    confirmation = unescape(re.search(r'name="confirmation" value="([^"]+)"', asked.text)[1])
    done = alice_browser.post(path, {**sent, "confirmation": confirmation}, follow=True)
    assert Route.objects.filter(path="/late").exists()
    assert re.search(r"/late never decides #\d POST /\*\* -> upstream:write matches first", words(done))


def test_promise_48_try_a_request_answers_nothing_for_an_unknown_field(alice_browser, table):
    page = alice_browser.get(f"{ACCESS}/try?user=vera@example.com&method=GET&path=/x")
    assert "Unknown field: user. The fields are: who, method, host, path." in page.text
    assert 'id="answer"' not in page.text


def test_promise_48_browsers_do_not_cut_what_is_pasted(alice_browser):
    for path in ("/skyauth/access/new-role", f"{ROUTES}/new", "/skyauth/users/new", "/skyauth/service-accounts/new"):
        assert "maxlength" not in alice_browser.get(path).text
    page = alice_browser.post("/skyauth/access/new-role", {"name": "d" * 40, "permissions": []})
    assert "at most 32 characters" in page.text
