"""The audit log and the counted failures in the admin: read by some, changed by nobody."""

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
from tests.adminsite.browsing import told
from tests.adminsite.conftest import Visit
from tests.factories import UserFactory, principal

LIST = "/admin/audit/entry/"


@pytest.fixture
def entry(alice: User) -> Entry:
    """An entry with old and new values, and with markup that a stranger may have typed."""
    data = {"old": {"role": "user"}, "new": {"role": "<script>alert(1)</script>"}}
    return record(Event.USER_UPDATED, actor=principal(alice), target="bob@example.com", reason="because", data=data)


@pytest.mark.parametrize("way", ["add", "change", "delete", "delete_selected"])
def test_an_entry_is_neither_made_nor_changed_nor_deleted_by_an_admin(way: str, office: Client, entry: Entry) -> None:
    before = list(Entry.objects.values())
    if way == "delete_selected":
        office.post(LIST, {"action": way, "_selected_action": entry.pk, "post": "yes"})
    else:
        url = reverse("admin:audit_entry_add") if way == "add" else reverse(f"admin:audit_entry_{way}", args=[entry.pk])
        assert office.post(url, {"actor": "mallory", "event": "user.created", "post": "yes"}).status_code == 403
    assert list(Entry.objects.values()) == before


def test_an_entry_is_laid_out_for_reading_and_its_text_is_only_text(office: Client, entry: Entry) -> None:
    page = office.get(reverse("admin:audit_entry_change", args=[entry.pk])).content.decode()
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
def test_entries_are_filtered_and_searched(query: dict[str, str], found: bool, office: Client, entry: Entry) -> None:
    rows = office.get(LIST, query).context["cl"].result_list
    assert (entry in list(rows)) is found


def test_who_holds_audit_read_reads_it(entry: Entry, visit: Visit) -> None:
    role = Role.objects.create(name="auditor", permissions=["admin-site:use", "audit:read"])
    desk = visit(UserFactory(username="auditor@example.com", role=role))
    assert desk.get(LIST).status_code == 200
    assert desk.get("/admin/accounts/user/").status_code == 403
    assert "audit/entry" in desk.get("/admin/").content.decode()


def test_the_admin_role_lets_somebody_try_again_and_others_do_not(office: Client, manager: User, visit: Visit, settings) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT):
        lockout.count_failure("bob@example.com", "192.0.2.1")
    assert lockout.must_wait("bob@example.com", "192.0.2.1")
    row = AccessAttempt.objects.get()
    url = reverse("admin:axes_accessattempt_delete", args=[row.pk])
    assert visit(manager).post(url, {"post": "yes"}).status_code == 403
    assert "axes" not in visit(manager).get("/admin/").content.decode()
    assert "accessattempt" in office.get("/admin/").content.decode()
    assert "may try again from 192.0.2.1" in office.get(url).content.decode()
    assert "deleted" in told(office.post(url, {"post": "yes"}))
    assert not lockout.must_wait("bob@example.com", "192.0.2.1")
    entry = Entry.objects.get(event="sign-in.failures-forgotten")
    assert (entry.target, entry.data) == ("bob@example.com", {"address": "192.0.2.1"})


@pytest.mark.parametrize("way", ["add", "change"])
def test_a_count_of_failures_is_not_typed(way: str, office: Client) -> None:
    row = AccessAttempt.objects.create(username="mallory", ip_address="192.0.2.1", failures_since_start=3)
    url = reverse(f"admin:axes_accessattempt_{way}", args=[] if way == "add" else [row.pk])
    assert office.post(url, {"failures_since_start": 0}).status_code == 403
