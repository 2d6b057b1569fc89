"""Home: identity, permissions, own accounts and tokens, and for admins the health of the installation."""

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


def health(response):
    """Return the text of the health panel, or None without one."""
    match = re.search(r'aria-labelledby="health">(.*?)</section>', response.text, re.DOTALL)
    return match and " ".join(re.sub(r"<[^>]*>", "", match[1]).split())


@pytest.fixture
def healthy(settings, read_write, alice, tmp_path):
    """An installation without health problems."""
    User.objects.update(role_source=RoleSource.MANUAL)
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.DATA_DIR = tmp_path


def test_home_shows_identity_sign_in_method_and_permissions(visit, bob):
    User.objects.filter(pk=bob.pk).update(display_name="Bobby")
    response = visit(bob).get(HOME)
    for text in ("Bobby", "bob@example.com", bob.uid, "user", "authenticated by a session in this browser"):
        assert text in words(response)
    for permission, meaning in MEANINGS.items():
        assert (meaning in words(response)) == (permission in bob.permissions)


def test_home_shows_only_own_accounts_and_own_tokens_that_expire_soon(visit, bob, vera, pipeline):
    soon, _ = make_token(pipeline, days=3, last_used_at=timezone.now() - timedelta(hours=5))
    later, _ = make_token(pipeline, days=40)
    gone, _ = make_token(pipeline, days=2, revoked_at=timezone.now())
    others, _ = make_token(ServiceAccountFactory(name="others", owner=vera), days=3)
    response = visit(bob).get(HOME)
    assert "pipeline" in response.text
    assert "last used: 5 hours ago" in words(response)
    assert soon.key_id in response.text
    assert "in 2 days" in words(response)
    for hidden in (later.key_id, gone.key_id, others.key_id, "others"):
        assert hidden not in response.text
    assert "You have no service accounts." in visit(UserFactory()).get(HOME).text


def test_only_admins_see_health_and_denials(visit, alice, bob, vera):
    denied = Principal(Kind.USER, bob.uid, bob.username, method=Method.PROXY)
    record_refusal(Event.REQUEST_DENIED, actor=denied, target="POST api.example.com/launch", reason="missing-permission: no.")
    for user in (bob, vera):
        response = visit(user).get(HOME)
        assert health(response) is None
        assert "Recent denials" not in response.text
        assert "api.example.com/launch" not in response.text
    response = visit(alice).get(HOME)
    assert health(response)
    assert "api.example.com/launch" in response.text


def test_without_problems_the_health_panel_says_so(visit, alice, healthy):
    response = visit(alice).get(HOME)
    assert health(response).startswith("Installation health No problems found")
    assert "No requests were denied." in response.text


def test_errors_in_the_settings_come_first(visit, alice, settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    settings.TRUSTED_PROXIES = []
    panel = health(visit(alice).get(HOME))
    assert panel.startswith("Installation health error")
    assert "Every user who signs in for the first time becomes an admin." in panel
    assert "TRUSTED_PROXIES is empty" in panel
    assert "There are no routes, so every request is denied." in panel
    assert panel.rindex("error ") < panel.index("warning ")


def test_unused_admins_are_named_and_new_admins_are_not(visit, alice, healthy):
    admin = Role.objects.get(name="admin")
    long_ago = timezone.now() - timedelta(days=100)
    fields_of_admin = {"role": admin, "role_source": RoleSource.MANUAL}
    UserFactory(username="grace@example.com", created_at=long_ago, last_seen_at=long_ago, **fields_of_admin)
    UserFactory(username="never@example.com", created_at=long_ago, **fields_of_admin)
    UserFactory(username="new@example.com", role=admin, role_source=RoleSource.DEFAULT)
    UserFactory(username="off@example.com", role=admin, created_at=long_ago, is_active=False)
    UserFactory(username="user@example.com", created_at=long_ago)
    panel = health(visit(alice).get(HOME))
    assert "Admins who have not used SkyAuth for 90 days: grace@example.com, never@example.com." in panel
    assert "Users who are admins only because no role was assigned to them: new@example.com." in panel


def test_tokens_that_need_attention_are_named_by_account(visit, alice, healthy):
    tokens = {}
    for name, fields in {
        "endless": {"days": None},
        "ending": {"days": 2},
        "unused": {"days": 50, "created_at": timezone.now() - timedelta(days=120)},
        "fine": {"days": 50},
    }.items():
        tokens[name] = make_token(ServiceAccountFactory(name=name), **fields)[0].key_id
    panel = health(visit(alice).get(HOME))
    assert f"Tokens that expire within 7 days: ending {tokens['ending']}." in panel
    assert f"Tokens that never expire: endless {tokens['endless']}." in panel
    assert f"Tokens that have not been used for 90 days: unused {tokens['unused']}." in panel
    assert "fine" not in panel


def test_a_missing_trigger_is_an_error_that_names_the_table(visit, alice, healthy):
    name = next(each.name for each in triggers.installed(connection) if each.table == "accounts_token")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}" + ("" if connection.vendor == "sqlite" else " ON accounts_token"))
    panel = health(visit(alice).get(HOME))
    assert panel.startswith("Installation health error Triggers are missing")
    assert "accounts_token. Run: manage.py migrate" in panel


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(visit, alice):
    browser = visit(alice)

    def count():
        with CaptureQueriesContext(connection) as queries:
            response = browser.get(HOME)
        return sum(query["sql"].startswith("SELECT") for query in queries.captured_queries), health(response)

    first = ServiceAccountFactory(name="machine-a", owner=alice)
    make_token(first, days=None)
    make_token(first, days=3)
    count()
    few, _ = count()
    for account in ServiceAccountFactory.create_batch(40, owner=alice):
        make_token(account, days=None)
        make_token(account, days=3)
    many, panel = count()
    assert many == few
    assert "and 38 more" in panel


def test_promise_40_changing_the_own_password_ends_all_other_sessions(visit, bob):
    here, there = visit(bob), visit(bob)
    response = here.post(f"{HOME}password", {"current_password": "wrong", "password": "an entirely new secret"})
    assert response.status_code == 422
    assert "not your current password" in re.search(r'id="id_current_password-error">(.*?)</p>', response.text, re.DOTALL)[1]
    assert "an entirely new secret" not in response.text
    response = here.post(f"{HOME}password", {"current_password": PASSWORD, "password": "short"})
    assert 'id="id_password-error"' in response.text
    response = here.post(f"{HOME}password", {"current_password": PASSWORD, "password": "an entirely new secret"}, follow=True)
    assert "Your password was changed." in response.text
    assert there.get(HOME).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password("an entirely new secret")


def test_users_without_a_password_are_not_offered_to_change_it(visit, bob):
    assert f'href="{HOME}password"' in visit(bob).get(HOME).text
    bob.set_unusable_password()
    bob.save()
    browser = visit(bob)
    assert f'href="{HOME}password"' not in browser.get(HOME).text
    response = browser.post(f"{HOME}password", {"current_password": "x", "password": "an entirely new secret"})
    assert "You sign in through your identity provider" in response.text
