"""The audit log: filters, sentences, exports, and past decisions."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.services import service_accounts, users
from audit.events import Event
from audit.models import Entry
from audit.record import record, record_refusal
from dashboard.audit_text import _VERBS, result
from rbac import policy
from rbac.denials import facts
from rbac.models import Role, Route
from rbac.permissions import Permission
from tests.dashboard.forms import fields_of
from tests.dashboard.test_pages import words
from tests.factories import UserFactory, make_token, principal

pytestmark = pytest.mark.django_db

PAGE = "/skyauth/audit"


@pytest.fixture
def alice_browser(visit, alice):
    return visit(alice)


@pytest.fixture
def decision_id(alice, bob, vera, pipeline, read_write):
    """Some changes by alice and a denied request of vera; returns the ID of the denial."""
    actor = principal(alice)
    users.set_role(actor=actor, user=bob, role="viewer")
    make_token(pipeline)
    service_accounts.update_service_account(actor=actor, account=pipeline, description="nightly")
    decision = policy.decide(vera.permissions, Permission.UPSTREAM_WRITE, "#2 * /** -> upstream:write")
    return record_refusal(
        Event.REQUEST_DENIED,
        actor=principal(vera),
        target="POST api.example.com/launch",
        reason=f"{decision.reason}: {decision.message}",
        facts=facts(principal(vera), decision, method="POST", host="api.example.com", path="/launch"),
    )


def sentences(response):
    """Return the first line of each entry."""
    found = re.findall(r"<li>\s*<div>\s*<p>(.*?)</p>", response.text.split('id="list"')[1], re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", "", line).split()) for line in found]


def test_entries_are_sentences_with_links_to_their_targets(alice_browser, decision_id):
    response = alice_browser.get(PAGE)
    assert sentences(response)[:3] == [
        "vera@example.com was denied POST api.example.com/launch denied",
        "alice@example.com changed the service account pipeline: description from empty to nightly",
        "alice@example.com changed the user bob@example.com: role from user to viewer",
    ]
    for url in (
        f"/skyauth/audit/decisions/{decision_id}",
        "/skyauth/service-accounts?q=pipeline",
        "/skyauth/users?q=bob%40example.com",
    ):
        assert f'href="{url}"' in response.text
        assert alice_browser.get(url).status_code == 200


@pytest.mark.parametrize("held", [(), ("users:read",), ("policy:explain", "roles:read"), ("service-accounts:own", "routes:read")])
def test_entries_link_only_to_pages_that_the_reader_can_open(visit, decision_id, alice, held):
    for event in Event:
        if event != Event.REQUEST_DENIED:
            record(event, actor=principal(alice), target="bob@example.com")
    auditor = UserFactory(role=Role.objects.create(name="auditor", permissions=["audit:read", *held]))
    browser = visit(auditor)
    listed = browser.get(PAGE).text.split('id="list"')[1].split('aria-label="Pages"')[0]
    links = set(re.findall(r'href="([^"]+)"', listed))
    assert bool(links) == bool(held)
    assert {path: browser.get(unescape(path)).status_code for path in links} == dict.fromkeys(links, 200)


def test_a_sign_in_names_the_user_once(alice_browser, alice):
    record(Event.SIGN_IN, actor=principal(alice), target=alice.username)
    record(Event.CLI_SIGNED_IN, actor=principal(alice), target="bob@example.com")
    assert sentences(alice_browser.get(PAGE))[:2] == [
        "alice@example.com signed in with the CLI as bob@example.com",
        "alice@example.com signed in",
    ]


def test_every_event_has_a_verb():
    assert set(_VERBS) == set(Event)


@pytest.mark.parametrize(
    ("event", "data", "text"),
    [
        (Event.ROLE_CREATED, {"permissions": ["a", "b"]}, " with the permissions a, b"),
        (Event.ROLE_UPDATED, {"old": ["a", "b"], "new": ["b", "c"]}, ": added c and removed a"),
        (Event.ROLE_UPDATED, {"old": [], "new": list("abcdefg")}, ": added a, b, c, d, e and 2 more"),
        (
            Event.ROUTE_UPDATED,
            {
                "old": {"path": "/a", "methods": ["GET"], "note": "x"},
                "new": {"path": "/b", "methods": ["GET", "PUT"], "note": "x"},
            },
            ": path from /a to /b; methods added PUT",
        ),
        (Event.USER_UPDATED, {"old": {"active": True}, "new": {"active": False}}, ": active from yes to no"),
        (
            Event.USER_UPDATED,
            {"old": {"email": ""}, "new": {"email": "long " * 30}},
            ": email from empty to " + "long " * 11 + "long…",
        ),
        (Event.USER_UPDATED, {"old": "what", "new": "else"}, ""),
        (Event.USER_CREATED, {"role": "viewer"}, " with the role viewer"),
        (Event.USER_DELETED, {"service_accounts": []}, ""),
        (Event.USER_DELETED, {"service_accounts": ["ci", "cd"]}, ": ci, cd without an owner"),
        (Event.USER_DELETED, {"service_accounts": ["ci"], "transferred_to": "bob"}, ": transferred ci to bob"),
        (Event.GROUP_ROLE_CREATED, {"role": "user", "priority": 1}, " to the role user"),
        (Event.GROUP_ROLE_DELETED, {"role": "user"}, " to the role user"),
        (Event.SESSION_ENDED, {"number": 1}, ""),
        (Event.SESSION_ENDED, {"number": 3}, " (3 sessions)"),
        (Event.TOKEN_ISSUED, {"key_id": "k1", "expires_at": "2026-12-26T01:02:03Z"}, ": k1, expires 2026-12-26"),
        (Event.TOKEN_ISSUED, {"key_id": "k1", "expires_at": None}, ": k1, never expires"),
        (Event.TOKEN_REVOKED, {"key_id": "k1"}, ": k1"),
        (
            Event.TOKEN_ROTATED,
            {"old": "k1", "new": "k2", "grace": 0, "expires_at": None},
            ": new k2, never expires; old k1, revoked",
        ),
        (
            Event.TOKEN_ROTATED,
            {"old": "k1", "new": "k2", "grace": 60, "expires_at": None, "old_expires_at": "2026-11-26T10:30:15Z"},
            ": new k2, never expires; old k1, expires 2026-11-26 10:30 UTC",
        ),
        (Event.SIGN_IN, {"what": "ever"}, ""),
    ],
)
def test_the_result_shows_old_and_new_values(event, data, text):
    assert result(Entry(event=event, data=data)) == text


@pytest.mark.parametrize("event", Event)
def test_an_entry_with_unexpected_data_has_a_result(event):
    odd = {
        "permissions": 7,
        "number": "x",
        "grace": -5,
        "new": {"a": 1},
        "service_accounts": {"a": 1},
        "expires_at": 3,
        "old_expires_at": 3,
    }
    for data in ({}, [], {"old": None}, odd, {**odd, "old": {"a": [1]}}):
        assert isinstance(result(Entry(event=event, data=data)), str)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("event=refusals", 1),
        ("event=user.updated", 1),
        ("actor=alice@example.com&event=service-account.updated", 1),
        ("actor=nobody", 0),
        ("target=bob@example.com", 1),
        ("target=bob", 0),
        ("q=LAUNCH", 1),
        ("q=no-such-thing", 0),
        ("since=2000-01-01&until=2000-01-02", 0),
        ("since=2026-11-30&until=2000-01-01", 0),
        ("since=nonsense", 0),
        ("event=nonsense", 0),
        ("q=%00", 0),
    ],
)
def test_the_list_shows_the_entries_that_match_the_filters(alice_browser, decision_id, query, count):
    response = alice_browser.get(f"{PAGE}?{query}")
    assert (response.status_code, len(sentences(response))) == (200, count)
    assert ("No entries match these filters" in response.text) == (count == 0)


def test_date_filters_are_whole_days_in_utc(alice_browser, alice, time_machine):
    time_machine.move_to(datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC), tick=False)
    record(Event.USER_UPDATED, actor=principal(alice), target="late")
    time_machine.shift(timedelta(seconds=2))
    assert "late" in alice_browser.get(f"{PAGE}?since=2026-11-24&until=2026-11-24&q=late").text
    assert "No entries match these filters" in alice_browser.get(f"{PAGE}?since=2026-11-25&q=late").text


def test_the_data_of_an_entry_is_shown_with_html_escaped(alice_browser, alice):
    record(Event.USER_UPDATED, actor=principal(alice), target="<b>x</b>", data={"new": "<script>alert(1)</script>"})
    text = alice_browser.get(PAGE).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>x</b>" not in text


def test_reading_and_exporting_need_audit_read(visit, bob, vera):
    for user in (bob, vera):
        for address in (PAGE, f"{PAGE}.csv", f"{PAGE}.json"):
            assert visit(user).get(address).status_code == 403


def test_the_export_has_the_entries_that_match_the_filters(alice_browser, decision_id, alice):
    record(Event.USER_UPDATED, actor=principal(alice), target="=HYPERLINK(1)", reason="a, b", data={"a": "é"})
    response = alice_browser.get(f"{PAGE}.csv?event=user.updated")
    assert response["Content-Disposition"].startswith('attachment; filename="skyauth-audit-')
    rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode(), newline="")))
    assert [row["target"] for row in rows] == ["'=HYPERLINK(1)", "bob@example.com"]
    assert (rows[0]["reason"], json.loads(rows[0]["data"])) == ("a, b", {"a": "é"})
    exported = json.loads(b"".join(alice_browser.get(f"{PAGE}.json?q=launch").streaming_content))
    assert [(entry["event"], entry["reference"]) for entry in exported] == [("request.denied", decision_id)]
    assert json.loads(b"".join(alice_browser.get(f"{PAGE}.json?q=nothing-like-it").streaming_content)) == []


def test_the_number_of_queries_does_not_depend_on_the_number_of_entries(alice_browser, alice):
    with CaptureQueriesContext(connection) as few:
        alice_browser.get(PAGE)
    for number in range(130):
        record(Event.USER_UPDATED, actor=principal(alice), target=f"user {number}")
    for address in (PAGE, f"{PAGE}?page=2", f"{PAGE}?q=user"):
        with CaptureQueriesContext(connection) as many:
            assert len(sentences(alice_browser.get(address))) == 50
        assert len(many) <= len(few) + 1
    assert f"of {Entry.objects.count()} entries" in words(alice_browser.get(PAGE))


def test_a_decision_shows_the_request_the_reason_the_roles_and_the_decision_now(alice_browser, decision_id, vera, system):
    text = words(alice_browser.get(f"{PAGE}/decisions/{decision_id}"))
    parts = ("Denied: POST api.example.com/launch", "This requires upstream:write", "admin , user", "#2 * /** -> upstream:write")
    for part in (*parts, "denied (403)"):
        assert part in text, part
    users.set_role(actor=system, user=vera, role="user")
    assert "allowed" in words(alice_browser.get(f"{PAGE}/decisions/{decision_id}"))


def test_a_decision_is_found_by_its_caller_and_not_by_other_users(visit, vera, bob, decision_id):
    assert visit(vera).get(f"{PAGE}/decisions/{decision_id}").status_code == 200
    response = visit(bob).get(f"{PAGE}/decisions/{decision_id}")
    assert (response.status_code, "There is no recorded decision" in response.text) == (404, True)


def links_of(response):
    """Return the links in the content of a page, by their text."""
    main = response.text[response.text.index("<main") : response.text.index("<dialog")]
    return {
        unescape(text.strip()): unescape(link) for link, text in re.findall(r'<a\s[^>]*?href="([^"]+)"[^>]*>([^<]+)</a>', main)
    }


def test_a_decision_links_the_caller_the_role_the_route_and_the_pages_that_allow_the_request(
    alice_browser, decision_id, vera, read_write
):
    page = f"{PAGE}/decisions/{decision_id}"
    links = links_of(alice_browser.get(page))
    asked = links["Change the role of vera@example.com to user"]
    route = Route.objects.get(position=2)
    assert links["vera@example.com"] == f"/skyauth/users/{vera.uid}"
    assert (links["viewer"], links["admin"]) == ("/skyauth/access/roles/viewer", "/skyauth/access/roles/admin")
    assert links["Add the permission upstream:write to the role viewer"] == "/skyauth/access/roles/viewer"
    assert links[str(route)] == links["Change the permission that the route requires"] == f"/skyauth/access/routes/{route.pk}"
    for link in links.values():
        assert alice_browser.get(link).status_code == 200, link
    sent = fields_of(alice_browser.get(asked).text)
    assert alice_browser.post("/skyauth/users/role", sent)["Location"] == page
    assert not [text for text in links_of(alice_browser.get(page)) if text.startswith(("Change", "Add"))], "it is allowed now"


@pytest.mark.parametrize(
    "held", [(), ("users:read",), ("roles:read", "roles:write"), ("routes:read",), ("users:write", "users:read")]
)
def test_a_decision_links_only_to_pages_that_the_reader_can_open(visit, decision_id, held):
    permissions = ["audit:read", "policy:explain", "upstream:read", *held]
    browser = visit(UserFactory(role=Role.objects.create(name="auditor", permissions=permissions)))
    links = links_of(browser.get(f"{PAGE}/decisions/{decision_id}"))
    assert {path: browser.get(path).status_code for path in links.values()} == dict.fromkeys(links.values(), 200)
    assert (len(links) > 1) == bool(held)


def test_a_tried_request_links_on_like_a_decision(alice_browser, vera, pipeline, read_write):
    tried = "/skyauth/access/try?method=POST&path=/launch&who="
    links = links_of(alice_browser.get(f"{tried}vera@example.com"))
    assert "Change the role of vera@example.com to user" in links
    assert links["vera@example.com"] == f"/skyauth/users/{vera.uid}"
    assert links_of(alice_browser.get(f"{tried}pipeline"))["pipeline"] == f"/skyauth/service-accounts/{pipeline.uid}"
    Route.objects.all().delete()
    form = alice_browser.get(links_of(alice_browser.get(f"{tried}pipeline"))["Add a route for this request"])
    assert {name: fields_of(form.text)[name] for name in ("methods", "path")} == {"methods": ["POST"], "path": ["/launch"]}


def test_a_tried_request_without_a_path_keeps_what_was_typed(alice_browser):
    page = alice_browser.get("/skyauth/access/try?method=POST&host=api.example.com")
    assert 'value="api.example.com"' in page.text
    assert "This field is required." in page.text


def test_a_period_that_ends_before_it_begins_is_an_error(alice_browser):
    assert (
        "This day is before the first one. Exchange From and To."
        in alice_browser.get(f"{PAGE}?since=2026-11-30&until=2026-11-01").text
    )
