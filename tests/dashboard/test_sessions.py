"""Sessions: the list, and ending one or all other sessions."""

import re
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Session
from audit.models import Entry
from authn.session_store import digest
from authn.sessions import begin_cli_session
from dashboard.sessions import client_name
from tests.factories import principal

pytestmark = pytest.mark.django_db

PAGE = "/skyauth/sessions"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def rows(response):
    """Return the text of each row, in order."""
    bodies = re.findall(r"<tr>(.*?)</tr>", response.text.split("<tbody>")[1].split("</tbody>")[0], re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", body).split()) for body in bodies]


def key_of(browser):
    return digest(browser.session.session_key)


@pytest.fixture
def cli_session(bob):
    """A CLI session of bob."""
    return begin_cli_session(actor=principal(bob), address="198.51.100.7", agent="python-requests/2.32")[1]


def test_the_list_has_this_browser_other_browsers_and_cli_sessions(visit, bob, cli_session):
    here, there = visit(bob), visit(bob)
    Session.objects.filter(pk=key_of(there)).update(agent=FIREFOX, address="192.0.2.9")
    shown = rows(here.get(PAGE))
    assert len(shown) == 3
    assert "this browser" in shown[0]
    assert [row for row in shown if row.startswith("Command line Python client (such as sky)") and "198.51.100.7" in row]
    assert [row for row in shown if row.startswith("Browser Firefox on Linux") and "192.0.2.9" in row]


def test_ending_one_session_keeps_the_others(visit, bob, cli_session):
    here = visit(bob)
    response = here.post(f"{PAGE}/end", {"session": cli_session.pk}, follow=True)
    assert "The session was ended." in response.text
    assert not Session.objects.filter(pk=cli_session.pk).exists()
    assert here.get(PAGE).status_code == 200
    assert Entry.objects.filter(event="session.ended", target=bob.username).count() == 1
    assert "There is no such session" in here.post(f"{PAGE}/end", {"session": cli_session.pk}, follow=True).text


def test_ending_the_current_session_signs_out(visit, bob):
    here = visit(bob)
    assert here.post(f"{PAGE}/end", {"session": key_of(here)})["Location"] == "/sign-in"
    assert here.get(PAGE).status_code == 302


def test_all_other_sessions_are_ended_together(visit, bob, cli_session):
    here, there = visit(bob), visit(bob)
    assert "2 sessions were ended." in here.post(f"{PAGE}/end-all", follow=True).text
    assert there.get(PAGE).status_code == 302
    assert [row.pk for row in Session.objects.filter(user=bob)] == [key_of(here)]


def test_only_user_admins_see_and_end_sessions_of_others(visit, alice, bob, vera, cli_session):
    curious = visit(vera)
    assert curious.get(f"{PAGE}?user={bob.uid}").status_code == 403
    assert curious.post(f"{PAGE}/end-all", {"user": bob.uid}).status_code == 403
    curious.post(f"{PAGE}/end", {"session": cli_session.pk})
    assert Session.objects.filter(pk=cli_session.pk).exists()
    office = visit(alice)
    page = office.get(f"{PAGE}?user={bob.uid}")
    assert "Sessions of bob@example.com" in page.text
    assert "198.51.100.7" in page.text
    assert alice.username not in " ".join(rows(page))
    assert office.post(f"{PAGE}/end", {"session": cli_session.pk, "user": bob.uid})["Location"] == f"{PAGE}?user={bob.uid}"
    assert not Session.objects.filter(user=bob).exists()
    assert "This user has no active sessions." in office.get(f"{PAGE}?user={bob.uid}").text
    assert office.get(f"{PAGE}?user=nobody").status_code == 404


def test_expired_sessions_are_not_listed(visit, bob, cli_session):
    here, there = visit(bob), visit(bob)
    Session.objects.filter(pk=key_of(there)).update(
        last_used_at=timezone.now() - timedelta(hours=django_settings.SESSION_IDLE_HOURS + 1)
    )
    Session.objects.filter(pk=cli_session.pk).update(expire_date=timezone.now())
    assert len(rows(here.get(PAGE))) == 1


def test_the_number_of_queries_does_not_depend_on_the_number_of_sessions(visit, bob):
    here = visit(bob)
    here.get(PAGE)  # notes that the session is used
    with CaptureQueriesContext(connection) as few:
        here.get(PAGE)
    for _ in range(30):
        begin_cli_session(actor=principal(bob), address="198.51.100.7", agent="x")
    with CaptureQueriesContext(connection) as many:
        here.get(PAGE)
    assert len(many) == len(few)


def test_promise_36_a_form_without_the_csrf_token_is_refused(visit, bob, cli_session):
    here = visit(bob, enforce_csrf_checks=True)
    for address in (f"{PAGE}/end", f"{PAGE}/end-all"):
        assert here.post(address, {"session": cli_session.pk}).status_code == 403
    assert Session.objects.filter(pk=cli_session.pk).exists()


def test_every_signed_in_user_can_open_the_page(visit, vera, client):
    assert visit(vera).get(PAGE).status_code == 200
    assert client.get(PAGE).status_code == 302


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537 (KHTML, like Gecko) Chrome/150.0 Safari/537 Edg/150.0",
            "Edge on Windows",
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605 Version/19.0 Safari/604", "Safari on iOS"),
        ("python-requests/2.32", "Python client (such as sky)"),
        ("curl/8.0", "curl"),
        ("Macintosh", "macOS"),
        ("", "unknown client"),
    ],
)
def test_the_user_agent_is_shown_as_a_client_name(agent, name):
    assert client_name(agent) == name
