"""The audit log and the failed sign-ins in the admin."""

import pytest
from axes.models import AccessAttempt
from django.test import Client
from django.urls import reverse

from accounts.models import User
from audit.events import Event
from audit.models import Entry
from audit.record import record
from authn import lockout
from rbac.models import Role
from tests.adminsite.browsing import messages_of
from tests.adminsite.conftest import Visit
from tests.factories import UserFactory, principal

LIST = "/admin/audit/entry/"


@pytest.fixture
def entry(alice: User) -> Entry:
    """An entry with old and new values, one of which contains HTML."""
    data = {"old": {"role": "user"}, "new": {"role": "<script>alert(1)</script>"}}
    return record(Event.USER_UPDATED, actor=principal(alice), target="bob@example.com", reason="because", data=data)


@pytest.mark.parametrize("way", ["add", "change", "delete", "delete_selected"])
def test_an_admin_cannot_create_change_or_delete_an_audit_entry(way: str, alice_browser: Client, entry: Entry) -> None:
    before = list(Entry.objects.values())
    if way == "delete_selected":
        alice_browser.post(LIST, {"action": way, "_selected_action": entry.pk, "post": "yes"})
    else:
        url = reverse("admin:audit_entry_add") if way == "add" else reverse(f"admin:audit_entry_{way}", args=[entry.pk])
        assert alice_browser.post(url, {"actor": "mallory", "event": "user.created", "post": "yes"}).status_code == 403
    assert list(Entry.objects.values()) == before


def test_an_audit_entry_shows_indented_json_with_html_escaped(alice_browser: Client, entry: Entry) -> None:
    page = alice_browser.get(reverse("admin:audit_entry_change", args=[entry.pk])).content.decode()
    assert "<pre>{\n  &quot;new&quot;: {" in page
    assert "<script>alert" not in page
    assert 'name="_save"' not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"event": "user.updated"}, True),
        ({"event": "user.created"}, False),
        ({"method": "session"}, True),
        ({"q": "because"}, True),
        ({"q": "nothing like it"}, False),
        ({"at__year": "2001"}, False),
    ],
)
def test_audit_entries_can_be_filtered_and_searched(
    query: dict[str, str], found: bool, alice_browser: Client, entry: Entry
) -> None:
    rows = alice_browser.get(LIST, query).context["cl"].result_list
    assert (entry in list(rows)) is found


def test_a_role_with_audit_read_can_read_the_audit_log(entry: Entry, visit: Visit) -> None:
    role = Role.objects.create(name="auditor", permissions=["admin-site:use", "audit:read"])
    browser = visit(UserFactory(username="auditor@example.com", role=role))
    assert browser.get(LIST).status_code == 200
    assert browser.get("/admin/accounts/user/").status_code == 403
    assert "audit/entry" in browser.get("/admin/").content.decode()


def test_only_the_admin_role_can_unlock_a_user_name(alice_browser: Client, manager: User, visit: Visit, settings) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT):
        lockout.count_failure("bob@example.com", "192.0.2.1")
    assert lockout.is_locked_out("bob@example.com", "192.0.2.1")
    row = AccessAttempt.objects.get()
    url = reverse("admin:axes_accessattempt_delete", args=[row.pk])
    assert visit(manager).post(url, {"post": "yes"}).status_code == 403
    assert "axes" not in visit(manager).get("/admin/").content.decode()
    assert "accessattempt" in alice_browser.get("/admin/").content.decode()
    assert "is unlocked for sign-in from 192.0.2.1" in alice_browser.get(url).content.decode()
    assert "deleted" in messages_of(alice_browser.post(url, {"post": "yes"}))
    assert not lockout.is_locked_out("bob@example.com", "192.0.2.1")
    entry = Entry.objects.get(event="sign-in.failures-forgotten")
    assert (entry.target, entry.data) == ("bob@example.com", {"address": "192.0.2.1"})


@pytest.mark.parametrize("way", ["add", "change"])
def test_failed_sign_ins_cannot_be_added_or_changed(way: str, alice_browser: Client) -> None:
    row = AccessAttempt.objects.create(username="mallory", ip_address="192.0.2.1", failures_since_start=3)
    url = reverse(f"admin:axes_accessattempt_{way}", args=[] if way == "add" else [row.pk])
    assert alice_browser.post(url, {"failures_since_start": 0}).status_code == 403
