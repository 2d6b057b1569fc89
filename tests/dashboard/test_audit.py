"""The audit log: found, read as sentences, exported, and each refusal explained."""

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
from dashboard.audit_text import _VERBS, outcome
from rbac import policy
from rbac.denials import facts
from rbac.models import Role
from rbac.permissions import Permission
from tests.dashboard.test_pages import words
from tests.factories import UserFactory, make_token, principal

pytestmark = pytest.mark.django_db

PAGE = "/skyauth/audit"


@pytest.fixture
def office(visit, alice):
    """Alice's browser, before which nothing happened."""
    return visit(alice)


@pytest.fixture
def happened(alice, bob, vera, pipeline, read_write):
    """What alice did, and what vera was refused; returns the decision's id."""
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


def sentences(answer):
    """Return the first line of each entry."""
    found = re.findall(r"<li>\s*<div>\s*<p>(.*?)</p>", answer.text.split('id="list"')[1], re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", "", line).split()) for line in found]


def test_what_happened_reads_as_sentences_that_lead_to_what_they_are_about(office, happened):
    answer = office.get(PAGE)
    assert sentences(answer)[:3] == [
        "vera@example.com was refused POST api.example.com/launch refused",
        "alice@example.com changed the service account pipeline: description from nothing to nightly",
        "alice@example.com changed the user bob@example.com: role from user to viewer",
    ]
    decision = f"/skyauth/audit/decisions/{happened}"
    for there in (decision, "/skyauth/service-accounts?q=pipeline", "/skyauth/users?q=bob%40example.com"):
        assert f'href="{there}"' in answer.text
        assert office.get(there).status_code == 200


@pytest.mark.parametrize("held", [(), ("users:read",), ("policy:explain", "roles:read"), ("service-accounts:own", "routes:read")])
def test_no_entry_leads_where_its_reader_may_not_go(visit, happened, alice, held):
    for event in Event:
        if event != Event.REQUEST_DENIED:
            record(event, actor=principal(alice), target="bob@example.com")
    auditor = UserFactory(role=Role.objects.create(name="auditor", permissions=["audit:read", *held]))
    browser = visit(auditor)
    listed = browser.get(PAGE).text.split('id="list"')[1].split('aria-label="Pages"')[0]
    links = set(re.findall(r'href="([^"]+)"', listed))
    assert bool(links) == bool(held)
    assert {path: browser.get(unescape(path)).status_code for path in links} == dict.fromkeys(links, 200)


def test_who_signs_in_is_named_once(office, alice):
    record(Event.SIGN_IN, actor=principal(alice), target=alice.username)
    record(Event.CLI_SIGNED_IN, actor=principal(alice), target="bob@example.com")
    assert sentences(office.get(PAGE))[:2] == [
        "alice@example.com signed in by a command line as bob@example.com",
        "alice@example.com signed in",
    ]


def test_every_event_has_its_words():
    assert set(_VERBS) == set(Event)


@pytest.mark.parametrize(
    ("event", "data", "said"),
    [
        (Event.ROLE_CREATED, {"permissions": ["a", "b"]}, ": a, b"),
        (Event.ROLE_UPDATED, {"old": ["a", "b"], "new": ["b", "c"]}, ": added c and took away a"),
        (Event.ROLE_UPDATED, {"old": [], "new": list("abcdefg")}, ": added a, b, c, d, e and 2 more"),
        (
            Event.ROUTE_UPDATED,
            {
                "old": {"path": "/a", "methods": ["GET"], "note": "x"},
                "new": {"path": "/b", "methods": ["GET", "PUT"], "note": "x"},
            },
            ": path from /a to /b, methods added PUT",
        ),
        (Event.USER_UPDATED, {"old": {"active": True}, "new": {"active": False}}, ": active from yes to no"),
        (
            Event.USER_UPDATED,
            {"old": {"email": ""}, "new": {"email": "long " * 30}},
            ": email from nothing to " + "long " * 11 + "long…",
        ),
        (Event.USER_UPDATED, {"old": "what", "new": "else"}, ""),
        (Event.USER_CREATED, {"role": "viewer"}, " with the role viewer"),
        (Event.USER_DELETED, {"service_accounts": []}, ""),
        (Event.USER_DELETED, {"service_accounts": ["ci", "cd"]}, ": no owner for ci, cd"),
        (Event.USER_DELETED, {"service_accounts": ["ci"], "transferred_to": "bob"}, ": ci went to bob"),
        (Event.GROUP_ROLE_CREATED, {"role": "user", "priority": 1}, ": user"),
        (Event.GROUP_ROLE_DELETED, {"role": "user"}, ": user"),
        (Event.SESSION_ENDED, {"number": 1}, ""),
        (Event.SESSION_ENDED, {"number": 3}, ": 3"),
        (Event.TOKEN_ISSUED, {"key_id": "k1", "expires_at": "2026-12-26T01:02:03Z"}, ": k1, until 2026-12-26"),
        (Event.TOKEN_ISSUED, {"key_id": "k1", "expires_at": None}, ": k1, without an end"),
        (Event.TOKEN_REVOKED, {"key_id": "k1"}, ": k1"),
        (
            Event.TOKEN_ROTATED,
            {"old": "k1", "new": "k2", "grace": 0, "expires_at": None},
            ": k2, without an end; k1 has ended",
        ),
        (
            Event.TOKEN_ROTATED,
            {"old": "k1", "new": "k2", "grace": 60, "expires_at": None, "old_expires_at": "2026-11-26T10:30:15Z"},
            ": k2, without an end; k1 works until 2026-11-26 10:30",
        ),
        (Event.SIGN_IN, {"what": "ever"}, ""),
    ],
)
def test_what_came_of_it_follows_its_target(event, data, said):
    assert outcome(Entry(event=event, data=data)) == said


@pytest.mark.parametrize("event", Event)
def test_an_entry_without_its_data_is_told_all_the_same(event):
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
        assert isinstance(outcome(Entry(event=event, data=data)), str)


@pytest.mark.parametrize(
    ("query", "found"),
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
        ("since=nonsense", 0),
        ("event=nonsense", 0),
        ("q=%00", 0),
    ],
)
def test_the_list_shows_what_is_asked_for(office, happened, query, found):
    answer = office.get(f"{PAGE}?{query}")
    assert (answer.status_code, len(sentences(answer))) == (200, found)
    assert ("Nothing is like that" in answer.text) == (found == 0)


def test_days_are_whole_days_in_utc(office, alice, time_machine):
    time_machine.move_to(datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC), tick=False)
    record(Event.USER_UPDATED, actor=principal(alice), target="late")
    time_machine.shift(timedelta(seconds=2))
    assert "late" in office.get(f"{PAGE}?since=2026-11-24&until=2026-11-24&q=late").text
    assert "Nothing is like that" in office.get(f"{PAGE}?since=2026-11-25&q=late").text


def test_the_data_of_an_entry_is_there_to_be_unfolded_and_is_no_markup(office, alice):
    record(Event.USER_UPDATED, actor=principal(alice), target="<b>x</b>", data={"new": "<script>alert(1)</script>"})
    text = office.get(PAGE).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>x</b>" not in text


def test_only_who_may_read_it_reads_it_and_exports_it(visit, bob, vera):
    for user in (bob, vera):
        for address in (PAGE, f"{PAGE}.csv", f"{PAGE}.json"):
            assert visit(user).get(address).status_code == 403


def test_the_export_has_what_the_filter_lets_through(office, happened, alice):
    record(Event.USER_UPDATED, actor=principal(alice), target="=HYPERLINK(1)", reason="a, b", data={"a": "é"})
    answer = office.get(f"{PAGE}.csv?event=user.updated")
    assert answer["Content-Disposition"].startswith('attachment; filename="skyauth-audit-')
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode(), newline="")))
    assert [row["target"] for row in rows] == ["'=HYPERLINK(1)", "bob@example.com"]
    assert (rows[0]["reason"], json.loads(rows[0]["data"])) == ("a, b", {"a": "é"})
    exported = json.loads(b"".join(office.get(f"{PAGE}.json?q=launch").streaming_content))
    assert [(entry["event"], entry["reference"]) for entry in exported] == [("request.denied", happened)]
    assert json.loads(b"".join(office.get(f"{PAGE}.json?q=nothing-like-it").streaming_content)) == []


def test_a_page_costs_the_same_queries_for_few_and_for_many(office, alice):
    with CaptureQueriesContext(connection) as few:
        office.get(PAGE)
    for number in range(130):
        record(Event.USER_UPDATED, actor=principal(alice), target=f"user {number}")
    for address in (PAGE, f"{PAGE}?page=2", f"{PAGE}?q=user"):
        with CaptureQueriesContext(connection) as many:
            assert len(sentences(office.get(address))) == 50
        assert len(many) <= len(few) + 1
    assert f"of {Entry.objects.count()} entries" in words(office.get(PAGE))


def test_a_decision_says_what_was_refused_why_who_may_and_what_would_be_said_now(office, happened, vera, system):
    text = words(office.get(f"{PAGE}/decisions/{happened}"))
    parts = ("Refused: POST api.example.com/launch", "This requires upstream:write", "admin, user", "#2 * /** -> upstream:write")
    for part in (*parts, "refused (403)"):
        assert part in text, part
    users.set_role(actor=system, user=vera, role="user")
    assert "let through" in words(office.get(f"{PAGE}/decisions/{happened}"))


def test_a_decision_is_for_whom_it_was_about_and_looks_absent_to_others(visit, vera, bob, happened):
    assert visit(vera).get(f"{PAGE}/decisions/{happened}").status_code == 200
    answer = visit(bob).get(f"{PAGE}/decisions/{happened}")
    assert (answer.status_code, "There is no decision" in answer.text) == (404, True)
