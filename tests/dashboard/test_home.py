"""Home: who one is, what is one's own, and for admins how the installation is."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import RoleSource, User
from audit.events import Event
from audit.record import record_refusal
from rbac.models import Role
from rbac.permissions import MEANINGS
from rbac.principals import Kind, Method, Principal
from revision import triggers
from tests.dashboard.test_pages import words
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

HOME = "/skyauth/"


def health(answer):
    """Return what the card about the installation says, or None without one."""
    found = re.search(r'aria-labelledby="health">(.*?)</section>', answer.text, re.DOTALL)
    return found and " ".join(re.sub(r"<[^>]*>", "", found[1]).split())


@pytest.fixture
def quiet(settings, read_write, alice, tmp_path):
    """An installation of which there is nothing to be looked at."""
    User.objects.update(role_source=RoleSource.MANUAL)
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.DATA_DIR = tmp_path


def test_it_says_who_one_is_how_one_was_recognised_and_what_the_role_permits(visit, bob):
    User.objects.filter(pk=bob.pk).update(display_name="Bobby")
    answer = visit(bob).get(HOME)
    for shown in ("Bobby", "bob@example.com", bob.uid, "user", "authenticated by a session in this browser"):
        assert shown in words(answer)
    for permission, meaning in MEANINGS.items():
        assert (meaning in words(answer)) == (permission in bob.permissions)


def test_it_shows_ones_own_accounts_and_tokens_that_expire_soon_and_nobody_elses(visit, bob, vera, pipeline):
    soon, _ = make_token(pipeline, days=3, last_used_at=timezone.now() - timedelta(hours=5))
    later, _ = make_token(pipeline, days=40)
    gone, _ = make_token(pipeline, days=2, revoked_at=timezone.now())
    others, _ = make_token(ServiceAccountFactory(name="others", owner=vera), days=3)
    answer = visit(bob).get(HOME)
    assert "pipeline" in answer.text
    assert "last used: 5 hours ago" in words(answer)
    assert soon.key_id in answer.text
    assert "in 2 days" in words(answer)
    for hidden in (later.key_id, gone.key_id, others.key_id, "others"):
        assert hidden not in answer.text
    assert "You have no service accounts." in visit(UserFactory()).get(HOME).text


def test_only_who_administers_sees_the_health_and_the_denials(visit, alice, bob, vera):
    denied = Principal(Kind.USER, bob.uid, bob.username, method=Method.PROXY)
    record_refusal(Event.REQUEST_DENIED, actor=denied, target="POST api.example.com/launch", reason="missing-permission: no.")
    for user in (bob, vera):
        answer = visit(user).get(HOME)
        assert health(answer) is None
        assert "Recent denials" not in answer.text
        assert "api.example.com/launch" not in answer.text
    answer = visit(alice).get(HOME)
    assert health(answer)
    assert "api.example.com/launch" in answer.text


def test_where_all_is_well_it_says_so(visit, alice, quiet):
    answer = visit(alice).get(HOME)
    assert health(answer).startswith("Installation health No problems found")
    assert "No requests were denied." in answer.text


def test_what_is_unsafe_in_the_settings_comes_first(visit, alice, settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    settings.TRUSTED_PROXIES = []
    said = health(visit(alice).get(HOME))
    assert said.startswith("Installation health error")
    assert "Every user who signs in for the first time becomes an admin." in said
    assert "TRUSTED_PROXIES is empty" in said
    assert "There are no routes, so every request is denied." in said
    assert said.rindex("error ") < said.index("warning ")


def test_admins_who_were_not_here_are_named_and_those_who_were_made_lately_are_not(visit, alice, quiet):
    admin = Role.objects.get(name="admin")
    long_ago = timezone.now() - timedelta(days=100)
    given = {"role": admin, "role_source": RoleSource.MANUAL}
    UserFactory(username="grace@example.com", created_at=long_ago, last_seen_at=long_ago, **given)
    UserFactory(username="never@example.com", created_at=long_ago, **given)
    UserFactory(username="new@example.com", role=admin, role_source=RoleSource.DEFAULT)
    UserFactory(username="off@example.com", role=admin, created_at=long_ago, is_active=False)
    UserFactory(username="user@example.com", created_at=long_ago)
    said = health(visit(alice).get(HOME))
    assert "Admins who have not used SkyAuth for 90 days: grace@example.com, never@example.com." in said
    assert "Users who are admins only because no role was assigned to them: new@example.com." in said


def test_tokens_that_want_attention_are_told_by_their_accounts(visit, alice, quiet):
    tokens = {}
    for name, fields in {
        "endless": {"days": None},
        "ending": {"days": 2},
        "unused": {"days": 50, "created_at": timezone.now() - timedelta(days=120)},
        "fine": {"days": 50},
    }.items():
        tokens[name] = make_token(ServiceAccountFactory(name=name), **fields)[0].key_id
    said = health(visit(alice).get(HOME))
    assert f"Tokens that expire within 7 days: ending {tokens['ending']}." in said
    assert f"Tokens that never expire: endless {tokens['endless']}." in said
    assert f"Tokens that have not been used for 90 days: unused {tokens['unused']}." in said
    assert "fine" not in said


def test_a_missing_trigger_is_an_error_that_names_the_table(visit, alice, quiet):
    name = next(name for name, table in triggers.installed(connection).items() if table == "accounts_token")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}" + ("" if connection.vendor == "sqlite" else " ON accounts_token"))
    said = health(visit(alice).get(HOME))
    assert said.startswith("Installation health error Triggers are missing")
    assert "accounts_token. Run: manage.py migrate" in said


def test_the_queries_are_as_many_however_much_there_is_to_say(visit, alice):
    browser = visit(alice)

    def count():
        with CaptureQueriesContext(connection) as queries:
            answer = browser.get(HOME)
        return sum(query["sql"].startswith("SELECT") for query in queries.captured_queries), health(answer)

    first = ServiceAccountFactory(name="machine-a", owner=alice)
    make_token(first, days=None)
    make_token(first, days=3)
    count()
    few, _ = count()
    for account in ServiceAccountFactory.create_batch(40, owner=alice):
        make_token(account, days=None)
        make_token(account, days=3)
    many, said = count()
    assert many == few
    assert "and 38 more" in said


def test_promise_40_ones_own_password_is_changed_and_all_other_places_are_signed_out(visit, bob):
    here, there = visit(bob), visit(bob)
    answer = here.post(f"{HOME}password", {"current_password": "wrong", "password": "an entirely new secret"})
    assert answer.status_code == 422
    assert "not your current password" in re.search(r'id="id_current_password-error">(.*?)</p>', answer.text, re.DOTALL)[1]
    assert "an entirely new secret" not in answer.text
    answer = here.post(f"{HOME}password", {"current_password": PASSWORD, "password": "short"})
    assert 'id="id_password-error"' in answer.text
    answer = here.post(f"{HOME}password", {"current_password": PASSWORD, "password": "an entirely new secret"}, follow=True)
    assert "Your password was changed." in answer.text
    assert there.get(HOME).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password("an entirely new secret")


def test_who_has_no_password_is_not_offered_to_change_it(visit, bob):
    assert f'href="{HOME}password"' in visit(bob).get(HOME).text
    bob.set_unusable_password()
    bob.save()
    browser = visit(bob)
    assert f'href="{HOME}password"' not in browser.get(HOME).text
    answer = browser.post(f"{HOME}password", {"current_password": "x", "password": "an entirely new secret"})
    assert "You sign in through your identity provider" in answer.text
