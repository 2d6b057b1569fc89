"""Sessions: what is stored, what each kind opens, when they expire, and who can end them."""

from base64 import b64encode, urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256

import pytest
import time_machine as time_machine_module
from django.conf import settings as django_settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.db import connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from accounts.models import Session, SessionKind, SignIn, User
from accounts.services import offboarding, users
from audit.models import Entry
from authn import cli_login, sessions
from authn.credentials import SessionCookie as Shown
from authn.identify import identify
from authn.session_store import SIGNED_IN_AT, SessionStore, digest
from core.errors import Forbidden, NotFound
from rbac.models import Role
from rbac.principals import ANONYMOUS, Kind, Method
from tests.examples import examples
from tests.factories import PASSWORD, ServiceAccountFactory, principal
from tests.verify_client import CLIENT, cookie, identity, judge, proxied

HOUR = timedelta(hours=1)


@pytest.fixture
def browser(bob: User) -> Client:
    """Bob's browser, in which he signed in."""
    client = Client(raise_request_exception=False)
    client.force_login(bob)
    return client


def key_of(client: Client) -> str:
    return str(client.cookies[django_settings.SESSION_COOKIE_NAME].value)


def cli_of(user: User) -> str:
    return sessions.begin_cli_session(actor=principal(user), address="192.0.2.7", agent="python-requests/2.32")[0]


def who(key: str) -> Method | Kind:
    found = identify(Shown(key), client=CLIENT)
    return found.method if found.kind is Kind.USER else found.kind


def with_cookie(key: str) -> Client:
    client = Client(raise_request_exception=False)
    client.cookies[django_settings.SESSION_COOKIE_NAME] = key
    return client


def everything_stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {Session._meta.db_table}")  # noqa: S608
        return str(cursor.fetchall())


def test_the_database_has_the_digest_of_a_key_and_not_the_key(browser, bob):
    for key in (key_of(browser), cli_of(bob)):
        assert Session.objects.filter(pk=sha256(key.encode()).hexdigest()).exists()
        assert key not in everything_stored()


def test_a_stored_digest_is_not_a_session_key(browser):
    assert who(key_of(browser)) is Method.SESSION
    assert who(digest(key_of(browser))) is Kind.ANONYMOUS


def test_a_session_has_its_user_address_and_user_agent(client, bob):
    answer = client.post(
        "/sign-in",
        {"username": bob.username, "password": "correct horse battery staple"},
        headers={"User-Agent": "Mozilla/5.0\x7f" + "x" * 300},
    )
    assert answer.status_code == 302
    row = Session.objects.get(user=bob)
    assert (row.kind, row.address) == (SessionKind.BROWSER, "127.0.0.1")
    assert row.agent.startswith("Mozilla/5.0\N{REPLACEMENT CHARACTER}xxx")
    assert len(row.agent) == 200


def test_saving_again_changes_neither_start_nor_address_of_a_session(browser):
    began = timezone.now() - 3 * HOUR
    Session.objects.update(created_at=began, last_used_at=began, address="192.0.2.1", agent="Mozilla", kind=SessionKind.BROWSER)
    store = SessionStore(key_of(browser))
    store["more"] = 1
    store.save()
    row = Session.objects.get()
    assert (row.created_at, row.last_used_at, row.address, row.agent) == (began, began, "192.0.2.1", "Mozilla")
    assert SessionStore(key_of(browser))["more"] == 1


def test_a_session_that_has_been_ended_is_not_saved_again(browser):
    store = SessionStore(key_of(browser))
    store["more"] = 1
    Session.objects.all().delete()
    with pytest.raises(UpdateError):
        store.save()
    assert not Session.objects.exists()


def test_a_session_that_was_deleted_with_its_user_is_not_saved_again(browser, bob):
    store = SessionStore(key_of(browser))
    bob.delete()
    with pytest.raises(UpdateError):
        store.save()


def test_no_session_is_created_under_an_existing_key(browser):
    store = SessionStore(key_of(browser))
    with pytest.raises(CreateError):
        store.save(must_create=True)


def test_an_unknown_or_expired_session_is_empty_and_its_key_is_not_reused(browser):
    Session.objects.update(expire_date=timezone.now() - HOUR)
    for key in (key_of(browser), "unknown"):
        store = SessionStore(key)
        assert store.get(SESSION_KEY) is None
        assert store.session_key is None
    assert SessionStore().exists(key_of(browser))
    assert not SessionStore().exists("unknown")


def test_expired_sessions_are_deleted(browser, bob):
    cli_of(bob)
    Session.objects.filter(kind=SessionKind.BROWSER).update(expire_date=timezone.now() - HOUR)
    SessionStore.clear_expired()
    assert [row.kind for row in Session.objects.all()] == [SessionKind.CLI]


def test_a_cli_session_opens_the_protected_api_and_the_skypilot_api(bob, read_write):
    key = cli_of(bob)
    assert who(key) is Method.CLI
    answer = judge(cookie(key), proxied("GET", "/things"))
    assert answer.status == 200
    assert identity(answer)["email"] == bob.username
    assert with_cookie(key).get("/users/role").json()["name"] == bob.username


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/whoami", 403), ("/auth/authorize?code_challenge=" + "a" * 43, 403), ("/token", 403)]
)
def test_promise_37_a_cli_session_is_refused_where_it_could_extend_itself(alice, path, status):
    assert with_cookie(cli_of(alice)).get(path).status_code == status


def test_a_cli_session_is_anonymous_on_the_sign_in_pages(alice):
    client = with_cookie(cli_of(alice))
    assert client.get("/admin/").status_code == 403
    page = client.get("/sign-in")
    assert page.status_code == 200
    assert "You are signed in" not in page.content.decode()


def test_promise_40_an_idle_browser_session_expires(browser, settings):
    settings.SESSION_IDLE_HOURS = 2
    Session.objects.update(last_used_at=timezone.now() - 2 * HOUR + timedelta(minutes=2))
    assert who(key_of(browser)) is Method.SESSION  # which is a use, and noted
    assert timezone.now() - Session.objects.get().last_used_at < timedelta(minutes=1)
    Session.objects.update(last_used_at=timezone.now() - 2 * HOUR)
    assert who(key_of(browser)) is Kind.ANONYMOUS
    assert list(Session.objects.live()) == []


def test_promise_40_a_cli_session_has_no_idle_limit(bob, settings, time_machine):
    settings.SESSION_IDLE_HOURS, settings.CLI_SESSION_DAYS = 1, 7
    key = cli_of(bob)
    began = timezone.now()
    time_machine.move_to(began + timedelta(days=7) - timedelta(minutes=1), tick=False)
    assert who(key) is Method.CLI
    time_machine.move_to(began + timedelta(days=7, seconds=1), tick=False)
    assert who(key) is Kind.ANONYMOUS


@pytest.mark.parametrize("kind", [SessionKind.BROWSER, SessionKind.CLI])
def test_promise_40_use_does_not_extend_the_age_limit(bob, settings, time_machine, kind):
    settings.SESSION_COOKIE_AGE, settings.CLI_SESSION_DAYS, settings.SESSION_IDLE_HOURS = 86_400, 1, 24
    began = timezone.now()
    key = cli_of(bob)
    if kind is SessionKind.BROWSER:
        client = Client()
        client.force_login(bob)
        key = key_of(client)
    for hours in (8, 16, 23):
        time_machine.move_to(began + hours * HOUR, tick=False)
        assert identify(Shown(key), client=CLIENT).kind is Kind.USER
    Session.objects.update(expire_date=began + timedelta(days=30))  # its mark counts as well as the row's date
    time_machine.move_to(began + 24 * HOUR + timedelta(seconds=2), tick=False)
    assert who(key) is Kind.ANONYMOUS


def test_a_shorter_limit_applies_to_existing_sessions(bob, settings, time_machine):
    key = cli_of(bob)
    time_machine.move_to(timezone.now() + timedelta(days=2), tick=False)
    assert who(key) is Method.CLI
    settings.CLI_SESSION_DAYS = 1
    assert who(key) is Kind.ANONYMOUS


def test_promise_14_a_new_password_ends_every_session(browser, alice, bob):
    keys = [key_of(browser), cli_of(bob)]
    users.set_password(actor=principal(alice), user=bob, password="a quite different phrase")
    assert [who(key) for key in keys] == [Kind.ANONYMOUS] * 2


def test_promise_14_disabling_stops_every_session(browser, alice, bob):
    keys = [key_of(browser), cli_of(bob)]
    users.set_active(actor=principal(alice), user=bob, active=False)
    assert [who(key) for key in keys] == [Kind.ANONYMOUS] * 2
    assert list(Session.objects.live()) == []


def test_a_session_without_its_signed_data_is_anonymous(bob):
    for missing in (SIGNED_IN_AT, HASH_SESSION_KEY, SESSION_KEY):
        key = cli_of(bob)
        store = SessionStore(key)
        del store[missing]
        store.save()
        assert identify(Shown(key), client=CLIENT).kind is ANONYMOUS.kind


def test_a_users_sessions_are_listed_last_used_first(browser, bob, vera):
    cli_of(bob)
    cli_of(vera)
    Session.objects.filter(kind=SessionKind.BROWSER).update(last_used_at=timezone.now() - HOUR)
    listed = list(sessions.list_sessions(actor=principal(bob), user=bob))
    assert [(row.kind, row.agent) for row in listed] == [("cli", "python-requests/2.32"), ("browser", "")]
    assert str(listed[0]).startswith("bob@example.com, cli, since ")
    Session.objects.filter(kind=SessionKind.BROWSER).update(expire_date=timezone.now())
    assert len(sessions.list_sessions(actor=principal(bob), user=bob)) == 1


def test_promise_32_another_users_sessions_require_users_write(alice, bob, vera):
    key = digest(cli_of(vera))
    with pytest.raises(Forbidden):
        sessions.list_sessions(actor=principal(bob), user=vera)
    with pytest.raises(Forbidden):
        sessions.end_sessions(actor=principal(bob), user=vera)
    with pytest.raises(NotFound):
        sessions.end_session(actor=principal(bob), key=key)
    assert len(sessions.list_sessions(actor=principal(alice), user=vera)) == 1
    sessions.end_session(actor=principal(alice), key=key)
    assert not Session.objects.exists()


def test_promise_32_sessions_of_a_user_with_more_permissions_are_out_of_reach(alice, bob):
    key = digest(cli_of(alice))
    bob.role = Role.objects.create(name="helpdesk", permissions=[*bob.role.permissions, "users:write"])
    bob.save()
    with pytest.raises(Forbidden):
        sessions.list_sessions(actor=principal(bob), user=alice)
    with pytest.raises(Forbidden):
        sessions.end_sessions(actor=principal(bob), user=alice)
    with pytest.raises(NotFound):
        sessions.end_session(actor=principal(bob), key=key)
    assert Session.objects.filter(session_key=key).exists()


def test_promise_7_a_user_who_may_no_longer_use_a_password_loses_what_began_with_it(browser, bob, system):
    users.update_profile(actor=system, user=bob, sign_in=SignIn.BOTH)
    key, verifier = cli_of(bob), "v" * 43
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    cli_login.authorize(actor=principal(bob), challenge=challenge, cookies={})
    assert [who(key), who(key_of(browser))] == [Method.CLI, Method.SESSION]
    users.update_profile(actor=system, user=bob, sign_in=SignIn.SSO)
    assert [who(key), who(key_of(browser))] == [Kind.ANONYMOUS] * 2
    assert cli_login.redeem(verifier=verifier, client=CLIENT, agent="") is None
    assert not Session.objects.filter(user=bob).exists()


def test_promise_7_no_session_of_a_user_who_may_only_use_single_sign_on_counts(browser, bob):
    challenge = urlsafe_b64encode(sha256(b"v" * 43).digest()).decode().rstrip("=")
    cli_login.authorize(actor=principal(bob), challenge=challenge, cookies={})
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)  # past the service, which ends them
    assert who(key_of(browser)) is Kind.ANONYMOUS
    assert cli_login.redeem(verifier="v" * 43, client=CLIENT, agent="") is None


def test_a_user_ends_one_session_and_that_is_recorded(browser, bob):
    key = cli_of(bob)
    sessions.end_session(actor=principal(bob), key=digest(key))
    assert who(key) is Kind.ANONYMOUS
    assert who(key_of(browser)) is Method.SESSION
    entry = Entry.objects.get(event="session.ended")
    assert (entry.actor, entry.target, entry.data) == (bob.username, bob.username, {"kinds": ["cli"], "number": 1})
    with pytest.raises(NotFound):
        sessions.end_session(actor=principal(bob), key=digest(key))


def test_a_user_ends_all_other_sessions(browser, bob, vera):
    theirs, others = [cli_of(bob) for _ in range(2)], cli_of(vera)
    assert sessions.end_sessions(actor=principal(bob), user=bob, but=digest(key_of(browser))) == 2
    assert [who(key) for key in (*theirs, others)] == [Kind.ANONYMOUS, Kind.ANONYMOUS, Method.CLI]
    assert who(key_of(browser)) is Method.SESSION
    assert sessions.end_sessions(actor=principal(bob), user=bob, but=digest(key_of(browser))) == 0
    assert Entry.objects.filter(event="session.ended").count() == 1


def test_a_row_without_a_user_cannot_be_ended_as_a_session(alice):
    store = SessionStore()
    store.create()
    with pytest.raises(NotFound):
        sessions.end_session(actor=principal(alice), key=digest(str(store.session_key)))


def test_only_an_active_user_can_begin_a_cli_session(bob, system):
    account = ServiceAccountFactory(owner=bob)
    actor = principal(bob)
    users.set_active(actor=system, user=bob, active=False)
    for who_else in (actor, system, ANONYMOUS):
        with pytest.raises(NotFound):
            sessions.begin_cli_session(actor=who_else, address="", agent="")
    assert account.pk
    assert not Session.objects.exists()


def listed(user: User) -> int:
    """Return how many sessions the Sessions page lists, after checking that the leaving sheet says the same."""
    count = len(sessions.list_sessions(actor=principal(user), user=user))
    assert offboarding.affected(user).sessions == count
    return count


def accepted(*keys: str) -> int:
    return sum(identify(Shown(key), client=CLIENT).kind is Kind.USER for key in keys)


def test_a_new_password_leaves_no_session_in_the_lists(browser, alice, bob):
    keys = [key_of(browser), cli_of(bob)]
    assert listed(bob) == accepted(*keys) == 2
    users.set_password(actor=principal(alice), user=bob, password="a quite different phrase")
    assert listed(bob) == accepted(*keys) == 0
    assert not Session.objects.filter(user=bob).exists()


def test_after_a_change_of_the_own_password_only_this_session_is_listed(alice):
    here, there = Client(), Client()
    for client in (here, there):
        client.force_login(alice)
    cli_of(alice)
    sent = {"current_password": PASSWORD, "password": "a quite different phrase"}
    assert here.post("/skyauth/password", sent).status_code == 302
    assert (who(key_of(here)), who(key_of(there))) == (Method.SESSION, Kind.ANONYMOUS)
    assert listed(alice) == 1
    assert here.get("/skyauth/sessions").status_code == 200


def test_a_change_of_the_own_password_over_the_api_ends_all_sessions(alice):
    client = Client(headers={"authorization": f"Basic {b64encode(f'{alice.username}:{PASSWORD}'.encode()).decode()}"})
    key = cli_of(alice)
    body = {"current_password": PASSWORD, "password": "a quite different phrase"}
    answer = client.post("/api/v1/users/me/password", body, content_type="application/json")
    assert answer.status_code in {200, 204}, answer.content
    assert listed(alice) == accepted(key) == 0


@pytest.mark.parametrize("hours", [1, 2, 3])
def test_shorter_session_hours_apply_to_the_lists_too(browser, bob, settings, time_machine, hours):
    settings.SESSION_IDLE_HOURS = 24
    time_machine.move_to(timezone.now() + 2 * HOUR, tick=False)
    settings.SESSION_COOKIE_AGE = hours * 3_600
    expected = 1 if hours > 2 else 0
    assert listed(bob) == accepted(key_of(browser)) == expected


def test_fewer_days_of_cli_sessions_apply_to_the_lists_too(bob, settings, time_machine):
    key = cli_of(bob)
    time_machine.move_to(timezone.now() + timedelta(days=2), tick=False)
    assert listed(bob) == accepted(key) == 1
    settings.CLI_SESSION_DAYS = 1
    assert listed(bob) == accepted(key) == 0


def test_promise_40_a_new_key_does_not_make_a_session_younger(bob, settings, time_machine):
    settings.SESSION_COOKIE_AGE, settings.SESSION_IDLE_HOURS = 10 * 3_600, 24
    began = timezone.now()
    time_machine.move_to(began, tick=False)
    client = Client()
    client.force_login(bob)
    time_machine.move_to(began + 8 * HOUR, tick=False)
    fields = {"current_password": PASSWORD, "password": "a quite different phrase", "repeat": "a quite different phrase"}
    assert client.post("/skyauth/password", fields).status_code == 302
    assert Session.objects.get(user=bob).created_at == began
    assert Session.objects.get(user=bob).expires_at == began + 10 * HOUR
    time_machine.move_to(began + 10 * HOUR, tick=False)
    assert listed(bob) == accepted(key_of(client)) == 0


@settings_of_hypothesis(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(list(SessionKind)),
    age=st.integers(-30, 30 * 24),
    rest=st.integers(-30, 30 * 24),
    left=st.integers(-24, 30 * 24),
    limits=st.tuples(st.integers(1, 48), st.integers(1, 48), st.integers(1, 14)),
)
def test_a_session_is_listed_exactly_while_it_is_accepted(bob, settings, kind, age, rest, left, limits):
    settings.SESSION_COOKIE_AGE, settings.SESSION_IDLE_HOURS, settings.CLI_SESSION_DAYS = limits[0] * 3_600, *limits[1:]
    with time_machine_module.travel(timezone.now(), tick=False):
        now = timezone.now()
        Session.objects.all().delete()
        key = cli_of(bob)
        store = SessionStore(key)
        store[SIGNED_IN_AT] = (now - age * HOUR).timestamp()
        store.save()
        Session.objects.update(
            kind=kind, created_at=now - age * HOUR, last_used_at=now - rest * HOUR, expire_date=now + left * HOUR
        )
        row = Session.objects.get()
        assert listed(bob) == (row.expires_at > now) == accepted(key)
