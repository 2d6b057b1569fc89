"""Access: roles, routes, packs, groups and what anybody would be answered; for who may change them and for who may not."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import GroupRole
from accounts.services import groups
from audit.models import Entry
from dashboard.access import GROUPS
from rbac import packs, services
from rbac.models import RecentRequest, Role, Route
from rbac.packs import RouteSpec
from rbac.permissions import EVERYTHING, Permission
from rbac.principals import system as somebody
from tests.dashboard.test_pages import HTMX, words
from tests.factories import ServiceAccountFactory, UserFactory

pytestmark = pytest.mark.django_db

ACCESS = "/skyauth/access"
ROUTES = f"{ACCESS}/routes"
OPEN, WRITE = RouteSpec("/open/**", ("*",), "upstream:public"), RouteSpec("/**", ("POST",), "upstream:write")
READ = RouteSpec("/**", ("GET", "HEAD"), "upstream:read", host="api.example.com", note="Reads.")


@pytest.fixture
def office(visit, alice):
    """Alice's browser."""
    return visit(alice)


@pytest.fixture
def table(system):
    """Three routes."""
    return services.replace_routes(actor=system, specs=[OPEN, READ, WRITE], source="tests")


@pytest.fixture
def asked(bob, vera):
    """What bob and vera asked lately."""
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
    """A role of nobody."""
    return services.create_role(actor=system, name="reader", permissions=["upstream:read"], description="Reads.")


def with_role(*permissions):
    """Return somebody whose role permits these."""
    role = services.create_role(actor=somebody("tests"), name="special", permissions=permissions)
    return UserFactory(username="special@example.com", role=role)


def field(answer, name):
    """Return the value of a hidden field."""
    return re.search(rf'name="{name}" value="([^"]*)"', answer.text)[1]


def order():
    return list(Route.objects.values_list("path", "methods", "host"))


def controls(answer):
    """Return where the forms and the links of a page's content lead that change something."""
    content = answer.text[answer.text.index("<main") : answer.text.index("<dialog")]
    return set(re.findall(r'<button|href="[^"]*/(?:new|new-role|delete)"', content))


# Roles


def test_every_permission_is_in_one_group_of_the_matrix():
    shown = [name for names in GROUPS.values() for name in names]
    assert len(shown) == len(set(shown))
    assert set(shown) == EVERYTHING


def test_the_matrix_says_what_each_role_may_and_how_many_hold_it(office, bob, vera, reader):
    ServiceAccountFactory(owner=bob)
    answer = office.get(ACCESS)
    rows = [
        [
            " ".join(re.sub(r"<[^>]*>|[^ -~]", " ", cell).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", answer.text, re.DOTALL)
    ]
    by_first = {row[0]: row[1:] for row in rows}
    assert by_first[""] == ["admin", "user newcomers", "viewer", "reader"] or "newcomers" in " ".join(by_first[""])
    assert by_first["Users"] == ["1", "1", "1", "0"]
    assert by_first["Service accounts"] == ["0", "1", "0", "0"]
    assert by_first["Send requests that the routes of a protected API classify as writing. upstream:write"] == [
        "yes", "yes", "no", "no",
    ]  # fmt: skip
    assert 'href="/skyauth/users?role=viewer"' in answer.text
    assert 'href="/skyauth/service-accounts?role=user"' in answer.text


def test_who_may_not_read_roles_comes_to_what_they_may_ask(visit):
    somebody_else = with_role("upstream:read")
    browser = visit(somebody_else)
    assert browser.get(ACCESS)["Location"] == f"{ACCESS}/try"
    answer = browser.get(f"{ACCESS}/try")
    assert "Roles" not in words(answer)
    assert browser.get(f"{ACCESS}/roles/user").status_code == 403


def test_counts_are_shown_to_who_may_see_what_is_counted(visit, bob):
    answer = visit(bob).get(ACCESS)
    assert "Users" in words(answer)
    assert '<th scope="row">Service accounts</th>' not in answer.text


def test_an_admin_makes_changes_and_deletes_a_role(office):
    answer = office.post(
        f"{ACCESS}/new-role", {"name": "reader", "description": "Reads.", "permissions": ["upstream:read", "users:read"]}
    )
    assert answer["Location"] == ACCESS
    role = Role.objects.get(name="reader")
    assert (role.permissions, role.description) == (["upstream:read", "users:read"], "Reads.")
    path = f"{ACCESS}/roles/reader"
    version = field(office.get(path), "version")
    given = {"description": "Looks.", "permissions": ["upstream:public", "upstream:read"], "version": version}
    assert office.post(path, given)["Location"] == path
    role.refresh_from_db()
    assert (role.permissions, role.description, role.version) == (["upstream:read"], "Looks.", 2)
    asked = office.get(f"{path}/delete")
    assert "Nobody holds it" in words(asked)
    assert office.post(f"{path}/delete", {"version": field(asked, "version")})["Location"] == ACCESS
    assert not Role.objects.filter(name="reader").exists()
    assert list(Entry.objects.values_list("event", flat=True)[:3]) == ["role.deleted", "role.updated", "role.created"]
    assert "was deleted" in words(office.get(ACCESS))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "Reader"}, "A role name has lower-case letters"),
        ({"name": "user"}, "already exists"),
        ({"name": ""}, "This field is required"),
        ({"name": "reader", "permissions": ["no:such"]}, "no:such is not one of the available choices"),
    ],
)
def test_what_is_wrong_with_a_new_role_is_said_beside_it(office, given, said):
    answer = office.post(f"{ACCESS}/new-role", given)
    assert answer.status_code == 422
    assert said in words(answer)
    assert not Role.objects.filter(name="reader").exists()


def test_a_change_of_a_role_is_previewed_and_not_made(office, table, asked):
    path = f"{ACCESS}/roles/user"
    given = {
        "permissions": ["upstream:read", "audit:read"],
        "description": "Only reads.",
        "version": field(office.get(path), "version"),
    }
    answer = office.post(path, {**given, "step": "preview"})
    text = words(answer)
    assert answer.status_code == 200
    assert "Of the last 4 different requests, 1 would be refused from now on" in text
    assert "Would lose" in text
    assert "Would gain" not in text
    assert "bob@example.com POST api.example.com/jobs" in text
    assert re.search(r'value="audit:read"[^>]*checked', answer.text)
    assert 'value="Only reads."' in answer.text
    assert "upstream:write" in Role.objects.get(name="user").permissions
    assert office.post(path, {**given, "step": "save"}).status_code == 302
    assert Role.objects.get(name="user").permissions == ["audit:read", "upstream:read"]


def test_a_preview_without_anything_to_try_says_so(office, reader, table):
    path = f"{ACCESS}/roles/reader"
    answer = office.post(path, {"permissions": [], "version": 1, "step": "preview"})
    assert "No request was noted yet" in words(answer)


@pytest.mark.parametrize("step", ["preview", "save"])
def test_nobody_overwrites_a_change_of_a_role_unseen(office, reader, system, step):
    path = f"{ACCESS}/roles/reader"
    version = field(office.get(path), "version")
    services.update_role(actor=system, name="reader", permissions=["upstream:write"])
    answer = office.post(path, {"permissions": [], "version": version, "step": step})
    assert answer.status_code == 422
    assert "changed by somebody else" in words(answer)
    assert f'<a href="{path}">Show it as it is now</a>' in answer.text
    assert Role.objects.get(name="reader").permissions == ["upstream:write"]
    office.post(f"{path}/delete", {"version": version})
    assert "changed by somebody else" in words(office.get(f"{path}/delete"))
    assert Role.objects.filter(name="reader").exists()


def test_a_role_that_is_held_is_not_deleted_and_says_by_whom(office, reader, bob):
    UserFactory.create_batch(2, role=reader)
    GroupRole.objects.create(group="readers", role=reader)
    answer = office.get(f"{ACCESS}/roles/reader/delete")
    assert "It is held by 2 users and 1 group." in words(answer)
    assert "danger" not in answer.text[answer.text.index("<main") : answer.text.index("<dialog")]
    office.post(f"{ACCESS}/roles/reader/delete", {"version": 1})
    assert "is still in use" in words(office.get(f"{ACCESS}/roles/reader/delete"))
    assert Role.objects.filter(name="reader").exists()


def test_admin_and_what_came_with_skyauth_offer_only_what_is_possible(office, settings):
    admin = office.get(f"{ACCESS}/roles/admin")
    assert "it cannot be changed" in words(admin)
    assert controls(admin) == set()
    answer = office.post(f"{ACCESS}/roles/admin", {"permissions": ["users:read"], "version": 1})
    assert answer.status_code == 422
    assert "always has every permission" in words(answer)
    viewer = office.get(f"{ACCESS}/roles/viewer")
    assert "Save" in words(viewer)
    assert "/delete" not in viewer.text
    office.post(f"{ACCESS}/roles/viewer/delete", {"version": 1})
    assert "is built in and cannot be deleted" in words(office.get(f"{ACCESS}/roles/viewer/delete"))


def test_nobody_is_offered_or_given_more_than_they_hold(visit, reader):
    browser = visit(with_role("roles:read", "roles:write", "upstream:read", "policy:explain"))
    answer = browser.get(f"{ACCESS}/new-role")
    assert set(re.findall(r'name="permissions"\s+value="([^"]+)"', answer.text)) == {
        "roles:read", "roles:write", "upstream:read", "policy:explain", "upstream:public",
    }  # fmt: skip
    answer = browser.post(f"{ACCESS}/new-role", {"name": "more", "permissions": ["users:write"]})
    assert answer.status_code == 422
    assert not Role.objects.filter(name="more").exists()
    assert "Save" in words(browser.get(f"{ACCESS}/roles/reader"))
    assert controls(browser.get(f"{ACCESS}/roles/user")) == set()
    answer = browser.post(f"{ACCESS}/roles/user", {"permissions": [], "version": 1})
    assert answer.status_code == 403
    assert "upstream:write" in Role.objects.get(name="user").permissions


def test_who_may_not_ask_about_others_saves_without_a_preview(visit, reader):
    browser = visit(with_role("roles:read", "roles:write", "upstream:read"))
    path = f"{ACCESS}/roles/reader"
    assert "Preview" not in words(browser.get(path))
    given = {"permissions": ["roles:read"], "version": 1}
    assert browser.post(path, {**given, "step": "preview"}).status_code == 403
    assert Role.objects.get(name="reader").permissions == ["upstream:read"]
    assert browser.post(path, given).status_code == 302


def test_a_role_that_there_is_not_is_a_page_that_says_so(office):
    for path in (f"{ACCESS}/roles/nobody", f"{ACCESS}/roles/nobody/delete"):
        answer = office.get(path)
        assert answer.status_code == 404
        assert "There is no role named" in words(answer)


def test_a_form_that_is_not_whole_changes_nothing(office, reader):
    office.post(f"{ACCESS}/roles/reader/delete", {"version": "x"})
    assert "not sent whole" in words(office.get(f"{ACCESS}/roles/reader/delete"))
    assert office.post(f"{ACCESS}/roles/reader", {"permissions": []}).status_code == 422
    assert Role.objects.get(name="reader").version == 1
    answer = office.post(f"{ACCESS}/new-role", {"name": "more", "step": "preview"})
    assert "nothing to preview" in words(answer)
    assert not Role.objects.filter(name="more").exists()


# Routes


def test_routes_are_shown_in_order_and_found(office, table):
    answer = office.get(ROUTES)
    assert re.findall(r'<a href="/skyauth/access/routes/\d+">([^<]+)</a>', answer.text) == [
        "/open/**", "api.example.com/**", "/**",
    ]  # fmt: skip
    assert "3 routes. After the last one: refused." in words(answer)


@pytest.mark.parametrize(
    ("query", "found"),
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
def test_routes_are_filtered_by_what_they_have_in_them_and_by_what_they_match(office, table, query, found):
    answer = office.get(f"{ROUTES}?{query}")
    assert re.findall(r'<a href="/skyauth/access/routes/\d+">([^<]+)</a>', answer.text) == found
    assert 'name="up"' not in answer.text or query == "host=" or len(found) == 3
    assert ("No route is like that" in answer.text) == (not found)


def test_a_stored_route_that_cannot_be_read_is_shown_and_can_be_deleted(office, table):
    Route.objects.filter(pk=table[0].pk).update(path="/a//b")
    assert "/a//b" in office.get(f"{ROUTES}?q=a//b").text
    assert office.get(f"{ROUTES}?q=/jobs").status_code == 200
    answer = office.get(f"{ROUTES}/{table[0].pk}/delete")
    assert answer.status_code == 200
    answer = office.post(f"{ROUTES}/{table[0].pk}/delete", {"seen": field(answer, "seen")})
    assert answer["Location"] == ROUTES
    assert Route.objects.count() == 2


def test_a_route_moves_up_and_down_by_one_place(office, table):
    first, second, third = (row.pk for row in table)
    page = office.get(ROUTES)
    assert re.findall(r'id="(\w+-\d+)"\s+disabled', page.text) == [f"up-{first}", f"down-{third}"]
    answer = office.post(f"{ROUTES}/move", {"up": third, "seen": field(page, "seen")})
    assert answer["Location"] == f"{ROUTES}#route-{third}"
    assert [row.pk for row in Route.objects.all()] == [first, third, second]
    answer = office.post(f"{ROUTES}/move", {"down": first, "seen": field(office.get(ROUTES), "seen")}, headers=HTMX)
    assert [row.pk for row in Route.objects.all()] == [third, first, second]
    assert "<html" not in answer.text
    assert "Moved down: #2" in words(answer)
    assert field(answer, "seen") == services.table_tag(Route.objects.all())


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_a_move_that_would_change_an_answer_is_asked_about_first(office, system, asked, headers):
    wall = RouteSpec("/jobs", ("*",), "upstream:admin")
    _, second = services.replace_routes(actor=system, specs=[RouteSpec("/**", ("*",), "upstream:read"), wall], source="tests")
    page = office.get(ROUTES)
    answer = office.post(f"{ROUTES}/move", {"up": second.pk, "seen": field(page, "seen")}, headers=headers)
    text = words(answer)
    assert (answer.status_code, answer["HX-Retarget"]) == (200, "#content")
    for part in ("Move route 2 up?", "4 would be refused", "would be tried before", "Nothing was moved yet"):
        assert part in text, part
    assert [row.path for row in Route.objects.all()] == ["/**", "/jobs"]
    answer = office.post(f"{ROUTES}/move", {"up": field(answer, "up"), "seen": field(answer, "seen"), "step": "save"})
    assert answer["Location"] == f"{ROUTES}#route-{second.pk}"
    assert [row.path for row in Route.objects.all()] == ["/jobs", "/**"]


def test_who_may_not_ask_about_others_moves_without_a_preview(visit, system, asked):
    specs = [RouteSpec("/**", ("*",), "upstream:read"), RouteSpec("/jobs", ("*",), "upstream:admin")]
    _, second = services.replace_routes(actor=system, specs=specs, source="tests")
    browser = visit(with_role("routes:read", "routes:write", *(p for p in EVERYTHING if p.startswith("upstream:"))))
    sent = {"up": second.pk, "seen": field(browser.get(ROUTES), "seen")}
    assert browser.post(f"{ROUTES}/move", sent).status_code == 302
    assert [row.path for row in Route.objects.all()] == ["/jobs", "/**"]


@pytest.mark.parametrize("wrong", ["stale", "first", "last", "unknown", "empty"])
def test_a_move_that_cannot_be_says_why_and_moves_nothing(office, table, wrong):
    seen = services.table_tag(table)
    sent, said = {
        "stale": ({"up": table[2].pk, "seen": "0"}, "changed by somebody else"),
        "first": ({"up": table[0].pk, "seen": seen}, "no further place"),
        "last": ({"down": table[2].pk, "seen": seen}, "no further place"),
        "unknown": ({"down": 0, "seen": seen}, "There is no such route"),
        "empty": ({}, "There is no such route"),
    }[wrong]
    answer = office.post(f"{ROUTES}/move", sent)
    assert said in words(office.get(ROUTES) if answer.status_code == 302 else answer)
    answer = office.post(f"{ROUTES}/move", sent, headers=HTMX)
    assert answer.status_code == (404 if wrong in {"unknown", "empty"} else 409)
    assert said in words(answer)
    assert [row.pk for row in Route.objects.all()] == [row.pk for row in table]


ROUTE = {"methods": "GET, POST", "host": "", "path": "/new/*", "permission": "upstream:admin", "note": "Why."}


def test_a_route_is_added_before_another_or_at_the_end(office, table):
    page = office.get(f"{ROUTES}/new?before=2")
    assert re.search(r'name="position" value="2"', page.text)
    office.post(f"{ROUTES}/new", {**ROUTE, "position": "2", "seen": field(page, "seen")})
    row = Route.objects.get(path="/new/*")
    assert (row.position, row.methods, row.note) == (2, ["GET", "POST"], "Why.")
    page = office.get(f"{ROUTES}/new")
    answer = office.post(f"{ROUTES}/new", {**ROUTE, "path": "/end", "methods": "GET *", "seen": field(page, "seen")})
    row = Route.objects.get(path="/end")
    assert answer["Location"] == f"{ROUTES}#route-{row.pk}"
    assert (row.position, row.methods) == (5, ["*"])


def test_a_route_is_changed_and_moved_in_one(office, table):
    path = f"{ROUTES}/{table[0].pk}"
    page = office.get(path)
    assert re.search(r'name="path" value="/open/\*\*"', page.text)
    answer = office.post(path, {**ROUTE, "position": "99", "seen": field(page, "seen")})
    assert answer["Location"] == f"{ROUTES}#route-{table[0].pk}"
    row = Route.objects.last()
    assert (row.pk, row.position, row.path, row.permission) == (table[0].pk, 3, "/new/*", "upstream:admin")
    entry = Entry.objects.first()
    assert (entry.event, entry.data["old"]["position"], entry.data["new"]["position"]) == ("route.updated", 1, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path": "new"}, "starts with a slash"),
        ({"path": "/a/**/b"}, "**"),
        ({"methods": "get"}, "Not a method: get"),
        ({"methods": ""}, "This field is required"),
        ({"host": "API.example.com"}, "written in lower case"),
        ({"permission": "no:such"}, "not one of the available choices"),
        ({"position": "0"}, "greater than or equal to 1"),
    ],
)
@pytest.mark.parametrize("step", ["preview", "save"])
def test_what_is_wrong_with_a_route_is_said_beside_it(office, table, given, said, step):
    before = order()
    sent = {**ROUTE, **given, "seen": services.table_tag(table), "step": step}
    for path in (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}"):
        answer = office.post(path, sent)
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in answer.text
        assert said in words(answer)
    assert order() == before


def test_what_a_route_would_do_is_previewed_and_not_done(office, table, asked):
    seen = services.table_tag(table)
    wall = {**ROUTE, "path": "/jobs", "methods": "*", "position": "1", "seen": seen, "step": "preview"}
    text = words(office.post(f"{ROUTES}/new", wall))
    assert "3 would be refused" in text
    assert "#1 * /jobs -> upstream:admin" in text
    # The same one at the end is never reached.
    assert "would be answered as they are now" in words(office.post(f"{ROUTES}/new", {**wall, "position": ""}))
    gives = {**ROUTE, "path": "/**", "methods": "POST", "permission": "upstream:read", "seen": seen, "step": "preview"}
    text = words(office.post(f"{ROUTES}/{table[2].pk}", gives))
    assert "1 would be let through" in text
    assert "vera@example.com POST api.example.com/jobs" in text
    assert "Would lose" not in text
    text = words(office.get(f"{ROUTES}/{table[1].pk}/delete"))
    assert "2 would be refused" in text
    assert "No route allows this method and path." in text
    assert [row.version for row in Route.objects.all()] == [1, 1, 1]


@pytest.mark.parametrize("step", ["preview", "save"])
def test_nobody_overwrites_a_change_of_the_routes_unseen(office, table, system, step):
    seen = services.table_tag(table)
    services.update_route(actor=system, pk=table[1].pk, changes={"note": "Changed."})
    for path in (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}"):
        answer = office.post(path, {**ROUTE, "seen": seen, "step": step})
        assert answer.status_code == 422
        assert "changed by somebody else" in words(answer)
        assert f'<a href="{path}">Show it as it is now</a>' in answer.text
    for path in (f"{ROUTES}/{table[0].pk}/delete", f"{ACCESS}/packs/open"):
        for sent in ({"seen": seen}, {}):
            office.post(path, sent)
            assert "changed by somebody else" in words(office.get(path))
    assert [row.pk for row in Route.objects.all()] == [row.pk for row in table]


def test_a_route_is_deleted_after_it_was_asked(office, table):
    path = f"{ROUTES}/{table[1].pk}/delete"
    page = office.get(path)
    assert "GET, HEAD api.example.com/**" in words(page)
    assert office.post(path, {"seen": field(page, "seen")})["Location"] == ROUTES
    assert [(row.pk, row.position) for row in Route.objects.all()] == [(table[0].pk, 1), (table[2].pk, 2)]
    assert office.get(path).status_code == 404
    assert office.get(f"{ROUTES}/{10**30}").status_code == 404


def test_a_pack_is_shown_with_what_it_would_do_and_replaces_the_routes(office, table, asked):
    listed = words(office.get(f"{ACCESS}/packs"))
    assert all(name in listed for name in packs.names())
    assert "loaded" not in listed
    page = office.get(f"{ACCESS}/packs/open")
    text = words(page)
    assert "Loading it replaces all 3 routes of now" in text
    assert "Routes of now that are not in the pack (3)" in text
    assert "1 would be let through" in text
    assert Route.objects.count() == 3
    assert office.post(f"{ACCESS}/packs/open", {"seen": field(page, "seen")})["Location"] == ROUTES
    assert Route.objects.count() == len(packs.load("open").routes)
    assert "The pack open is loaded" in words(office.get(ROUTES))
    assert Entry.objects.first().reason == "from pack open"
    page = office.get(f"{ACCESS}/packs/open")
    assert "exactly those of this pack" in words(page)
    assert controls(page) == set()
    assert "loaded" in words(office.get(f"{ACCESS}/packs"))
    assert office.get(f"{ACCESS}/packs/nonsense").status_code == 404


def test_without_routes_the_pages_say_what_to_do_next(office):
    assert f'href="{ACCESS}/packs"' in office.get(ROUTES).text
    assert "every request is refused" in words(office.get(ROUTES))
    page = office.get(f"{ACCESS}/packs/skypilot")
    assert "Load skypilot" in words(page)
    office.post(f"{ACCESS}/packs/skypilot", {"seen": field(page, "seen")})
    assert Route.objects.count() == len(packs.load("skypilot").routes)


def test_who_reads_routes_sees_them_and_nothing_that_changes_them(visit, table):
    browser = visit(with_role("routes:read", "policy:explain", "upstream:read"))
    for path in (ROUTES, f"{ACCESS}/packs", f"{ACCESS}/packs/open"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert controls(answer) <= {"<button"}  # the filter's, for browsers without script
        assert "/move" not in answer.text or 'name="seen"' not in answer.text
    before, seen = order(), services.table_tag(table)
    for path in ("routes/move", "routes/new", f"routes/{table[0].pk}", f"routes/{table[0].pk}/delete", "packs/open"):
        sent = {**ROUTE, "seen": seen, "up": table[1].pk}
        assert browser.post(f"{ACCESS}/{path}", sent).status_code == 403, path
    assert order() == before


def test_who_may_write_routes_but_not_open_what_they_guard_is_refused(visit, table):
    browser = visit(with_role("routes:read", "routes:write", "policy:explain"))
    assert "New route" not in words(browser.get(ROUTES))
    assert 'name="up"' not in browser.get(ROUTES).text
    pages = (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}", f"{ROUTES}/{table[0].pk}/delete")
    for path in pages:
        assert browser.get(path).status_code == 403
        sent = {**ROUTE, "seen": services.table_tag(table)}
        assert browser.post(path, sent).status_code == 403
        assert path.endswith("/delete") or browser.post(path, {**sent, "step": "preview"}).status_code == 403
    assert Route.objects.count() == 3


def test_who_may_not_ask_about_others_changes_routes_without_a_preview(visit, table):
    upstream = ("upstream:read", "upstream:write", "upstream:admin")
    browser = visit(with_role("routes:read", "routes:write", *upstream))
    for path in (f"{ROUTES}/new", f"{ROUTES}/{table[0].pk}/delete", f"{ACCESS}/packs/open"):
        assert "Preview" not in words(browser.get(path))
        assert "What it would do" not in words(browser.get(path))
    sent = {**ROUTE, "seen": services.table_tag(table)}
    assert browser.post(f"{ROUTES}/new", {**sent, "step": "preview"}).status_code == 403
    assert browser.post(f"{ROUTES}/new", sent).status_code == 302


# Groups


def test_an_admin_adds_changes_and_deletes_a_group(office):
    assert "No group gives a role" in words(office.get(f"{ACCESS}/groups"))
    office.post(f"{ACCESS}/groups/new", {"group": "ops/emea", "role": "user", "priority": "10"})
    row = GroupRole.objects.get()
    assert (row.group, row.role.name, row.priority) == ("ops/emea", "user", 10)
    path = f"{ACCESS}/groups/{row.pk}"
    page = office.get(path)
    seen = {name: field(page, name) for name in ("seen_role", "seen_priority")}
    assert office.post(path, {"role": "viewer", "priority": "20", **seen})["Location"] == f"{ACCESS}/groups"
    row.refresh_from_db()
    assert (row.role.name, row.priority) == ("viewer", 20)
    answer = office.post(path, {"role": "admin", "priority": "20", **seen})  # as it was before
    assert answer.status_code == 422
    assert "changed by somebody else" in words(answer)
    row.refresh_from_db()
    assert row.role.name == "viewer"
    page = office.get(f"{path}/delete")
    assert "Let ops/emea give no role any more?" in words(page)
    assert GroupRole.objects.exists()
    seen = {name: field(page, name) for name in ("seen_role", "seen_priority")}
    answer = office.post(f"{path}/delete", {**seen, "seen_role": "user"})  # as it was before
    assert (answer.status_code, "changed by somebody else" in words(answer)) == (422, True)
    assert GroupRole.objects.exists()
    assert office.post(f"{path}/delete", seen)["Location"] == f"{ACCESS}/groups"
    assert not GroupRole.objects.exists()
    assert office.get(path).status_code == 404


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"group": "ops"}, "already has a role"),
        ({"group": ""}, "This field is required"),
        ({"role": "nobody"}, "not one of the available choices"),
        ({"priority": "-1"}, "greater than or equal to 0"),
        ({"priority": str(2**31)}, "less than or equal to"),
    ],
)
def test_what_is_wrong_with_a_group_is_said_beside_it(office, system, given, said):
    groups.create_group_role(actor=system, group="ops", role="viewer")
    answer = office.post(f"{ACCESS}/groups/new", {"group": "new", "role": "user", "priority": "1", **given})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert said in words(answer)
    assert GroupRole.objects.count() == 1


def test_groups_are_shown_in_the_order_in_which_they_decide_and_found(office, system):
    for group, priority in (("b", 1), ("c", 3), ("a", 2)):
        groups.create_group_role(actor=system, group=f"group-{group}", role="user", priority=priority)

    def found(query):
        return re.findall(r">group-(\w)</a>", office.get(f"{ACCESS}/groups?{query}").text)

    assert found("") == ["b", "a", "c"]
    assert found("sort=group") == ["a", "b", "c"]
    assert found("q=GROUP-C") == ["c"]
    assert "No group is like that" in words(office.get(f"{ACCESS}/groups?q=zzz"))


def test_a_group_that_gives_more_than_one_holds_is_not_ones_to_change(visit, system):
    row = groups.create_group_role(actor=system, group="admins", role="admin")
    browser = visit(with_role("roles:read", "roles:write"))
    assert f"groups/{row.pk}" not in browser.get(f"{ACCESS}/groups").text
    path = f"{ACCESS}/groups/{row.pk}"
    answer = browser.get(path)
    assert "not yours to change" in words(answer)
    assert controls(answer) == set()
    sent = {"role": "admin", "priority": "1", "seen_role": "admin", "seen_priority": "100"}
    assert browser.post(path, sent).status_code == 403
    assert browser.get(f"{path}/delete").status_code == 403
    assert browser.post(f"{path}/delete").status_code == 403
    row.refresh_from_db()
    assert row.priority == 100


# Who may change nothing


def test_users_and_viewers_see_roles_and_groups_and_no_control(visit, bob, vera, system, table, reader):
    row = groups.create_group_role(actor=system, group="ops", role="viewer")
    for user in (bob, vera):
        browser = visit(user)
        for path in (ACCESS, f"{ACCESS}/roles/viewer", f"{ACCESS}/roles/reader", f"{ACCESS}/groups"):
            answer = browser.get(path)
            assert answer.status_code == 200
            assert controls(answer) <= ({"<button"} if path.endswith("groups") else set())
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


# Try it


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("who=vera@example.com&method=get&path=/jobs&host=api.example.com", "allowed vera@example.com: GET api.example.com/jobs"),
        ("who=vera@example.com&method=POST&path=/jobs", "refused vera@example.com: POST /jobs"),
        ("who=pipeline&method=POST&path=/jobs", "allowed pipeline: POST /jobs"),
        ("who=anonymous&method=GET&path=/open/x", "allowed anonymous: GET /open/x"),
        ("who=anonymous&method=POST&path=/jobs", "401"),
        ("who=&method=POST&path=/jobs", "allowed alice@example.com: POST /jobs"),
        ("who=bob@example.com&method=GET&path=/a/../b", "unreadable-target"),
        ("who=bob@example.com&method=PUT&path=/jobs", "No route allows this method and path."),
        ("who=nobody&method=GET&path=/jobs", "There is no user and no service account"),
        ("who=bob@example.com&method=GET&path=", "This field is required"),
    ],
)
def test_an_admin_asks_what_anybody_would_be_answered(office, table, bob, vera, pipeline, query, said):
    answer = office.get(f"{ACCESS}/try?{query}")
    assert answer.status_code == 200
    assert said in words(answer)


def test_the_answer_names_the_rule_the_roles_and_where_to_look(office, table, vera):
    answer = office.get(f"{ACCESS}/try?who=vera@example.com&method=POST&path=/a%26b%3Fc")
    text = words(answer)
    assert "#3 POST /** -> upstream:write" in text
    assert "Roles let through admin user" in text
    assert f'href="{ROUTES}?q=%2Fa%26b%3Fc"' in answer.text


def test_about_oneself_anybody_asks_and_about_others_not(visit, table, bob, vera):
    browser = visit(vera)
    page = browser.get(f"{ACCESS}/try")
    assert 'name="who"' not in page.text
    answer = browser.get(f"{ACCESS}/try?method=POST&path=/jobs")
    assert "refused vera@example.com: POST /jobs" in words(answer)
    assert ROUTES not in answer.text  # she may not read routes
    assert browser.get(f"{ACCESS}/try?who=vera@example.com&method=POST&path=/jobs").status_code == 200
    for name in ("bob@example.com", "nobody", "anonymous"):
        answer = browser.get(f"{ACCESS}/try?who={name}&method=POST&path=/jobs")
        assert answer.status_code == 403
        assert "policy:explain" in answer.text


def test_a_table_that_cannot_be_read_is_told_in_words(office, table, reader):
    Route.objects.filter(pk=table[0].pk).update(path="/a//b")
    answer = office.get(f"{ACCESS}/try?method=GET&path=/a", follow=True)
    assert "A stored route cannot be read" in words(answer)
    answer = office.post(f"{ACCESS}/roles/reader", {"permissions": [], "version": 1, "step": "preview"})
    assert answer.status_code == 422
    assert "A stored route cannot be read" in words(answer)


# How it grows


def counted(browser, path):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert browser.get(path).status_code == 200
    return len(queries)


def test_the_queries_are_as_many_however_much_there_is(office, table, asked, system, bob):
    paths = (ACCESS, ROUTES, f"{ROUTES}?q=/jobs", f"{ACCESS}/packs", f"{ACCESS}/packs/open", f"{ACCESS}/groups")
    office.get(ACCESS)
    groups.create_group_role(actor=system, group="one", role="user")
    before = [counted(office, path) for path in paths]
    Route.objects.bulk_create(
        [Route(position=n, path=f"/p{n}/**", methods=["GET"], permission="upstream:read") for n in range(4, 300)]
    )
    GroupRole.objects.bulk_create([GroupRole(group=f"g{n}", role=bob.role) for n in range(300)])
    Role.objects.bulk_create([Role(name=f"role-{n}") for n in range(30)])
    UserFactory.create_batch(30)
    assert [counted(office, path) for path in paths] == before


def test_a_preview_shows_the_newest_and_says_how_many_there_are(office, table, bob):
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
    text = words(office.get(f"{ROUTES}/{table[2].pk}/delete"))
    assert "Of the last 40 different requests, 40 would be refused" in text
    assert "These are the newest 25 of 40." in text
    assert "/jobs/24 " in text
    assert "/jobs/25 " not in text


def test_what_permissions_mean_is_said_with_their_names(office):
    assert all(name in office.get(f"{ACCESS}/new-role").text for name in Permission)
