"""Service accounts: the list, creation with a token that is shown once, changes, rotation, revocation, deletion."""

import html
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import token_format
from accounts.models import ServiceAccount, Session, Token
from audit.models import Entry
from authn.session_store import SessionStore
from rbac.models import Role
from tests.dashboard.forms import fields_of
from tests.dashboard.test_pages import words
from tests.factories import ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

LIST = "/skyauth/service-accounts"


@pytest.fixture
def admin_browser(visit, alice):
    """A browser in which the admin alice is signed in."""
    return visit(alice)


@pytest.fixture
def bob_browser(visit, bob):
    """A browser in which bob is signed in."""
    return visit(bob)


def page_of(account, what=""):
    return f"{LIST}/{account.uid}{what and '/' + what}"


def names(response):
    """Return the names in the list, in order."""
    return re.findall(r'<a href="/skyauth/service-accounts/sa-[0-9a-f]{16}">([^<]+)</a>', response.text)


def send(browser, address, nonce=None, **values):
    """Open a form and submit it; it works once."""
    nonce = nonce or re.search(r'name="nonce" value="([^"]+)"', browser.get(address).text)[1]
    return browser.post(address, {"nonce": nonce, **values})


def shown_token(response):
    """Return the token on a page."""
    assert response.status_code == 200, response.text
    return re.search(r'<pre class="secret" id="token">(sky_\w+)</pre>', response.text)[1]


def works(token):
    client = Client(raise_request_exception=False, headers={"authorization": f"Bearer {token}"})
    return client.get("/api/v1/whoami").status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["cron", "forgotten", "pipeline"]),
        ("q=CRON", ["cron"]),
        ("q=sweeps", ["pipeline"]),
        ("q=bob@example.com", ["pipeline"]),
        ("owner=me", ["cron"]),
        ("owner=nobody", ["forgotten"]),
        ("role=viewer", ["cron"]),
        ("state=disabled", ["forgotten"]),
        ("tokens=soon", ["pipeline"]),
        ("tokens=never", ["cron"]),
        ("tokens=unused", ["cron"]),
        ("tokens=none", ["forgotten"]),
        ("sort=-name", ["pipeline", "forgotten", "cron"]),
        ("sort=role", ["forgotten", "pipeline", "cron"]),
        ("sort=-role", ["cron", "pipeline", "forgotten"]),
        ("sort=owner", ["forgotten", "cron", "pipeline"]),
        ("sort=ends", ["cron", "forgotten", "pipeline"]),
        ("sort=-ends", ["pipeline", "forgotten", "cron"]),
        ("sort=-used", ["cron", "pipeline", "forgotten"]),
        ("sort=nonsense&page=99", ["cron", "forgotten", "pipeline"]),
        ("tokens=nonsense", []),
        ("q=%00", []),
    ],
)
def test_the_list_shows_the_accounts_that_match(admin_browser, alice, pipeline, query, expected):
    ServiceAccount.objects.filter(pk=pipeline.pk).update(description="nightly sweeps")
    cron = ServiceAccountFactory(name="cron", owner=alice, role=Role.objects.get(name="viewer"))
    forgotten = ServiceAccountFactory(name="forgotten", is_active=False)
    make_token(pipeline, days=5)
    made = timezone.now() - timedelta(days=200)
    make_token(cron, days=None, created_at=made, last_used_at=made + timedelta(days=1))
    make_token(forgotten, days=-1)
    response = admin_browser.get(f"{LIST}?{query}")
    assert (response.status_code, names(response)) == (200, expected)


def test_the_list_depends_on_the_permissions(admin_browser, bob_browser, visit, vera, pipeline):
    ServiceAccountFactory(name="others")
    assert names(admin_browser.get(LIST)) == ["others", "pipeline"]
    assert names(bob_browser.get(LIST)) == ["pipeline"]
    assert visit(vera).get(LIST).status_code == 403


def test_the_number_of_queries_is_the_same_for_10_and_10_000_accounts(admin_browser, alice, bob):
    addresses = (LIST, f"{LIST}?page=2", f"{LIST}?tokens=soon&q=many", f"{LIST}?sort=ends&page=3", f"{LIST}?sort=-used")
    many(10, alice)
    admin_browser.get(LIST)  # notes that she was here
    few = [queries(admin_browser, address) for address in addresses]
    many(9_990, bob, start=10)
    assert [queries(admin_browser, address) for address in addresses] == few
    assert "of 10,000 service accounts" in admin_browser.get(LIST).text


def test_the_number_of_queries_does_not_depend_on_the_number_of_tokens(admin_browser, pipeline):
    addresses = [page_of(pipeline), page_of(pipeline, "delete"), f"{LIST}/timeline"]
    first, _ = make_token(pipeline, days=5)
    admin_browser.get(LIST)
    few = [queries(admin_browser, address) for address in addresses]
    for _ in range(30):
        make_token(pipeline, days=5, replaced_by=first)
    assert [queries(admin_browser, address) for address in addresses] == few


def many(number, owner, start=0):
    """Create `number` accounts, each with a token that expires within a week."""
    role, now = Role.objects.get(name="user"), timezone.now()
    accounts = ServiceAccount.objects.bulk_create(
        ServiceAccount(name=f"many-{i}", uid=f"sa-{i:016x}", role=role, owner=owner, created_by="tests")
        for i in range(start, start + number)
    )
    Token.objects.bulk_create(
        Token(account=row, key_id=f"{row.uid[-12:]}", digest=row.uid, created_by="tests", expires_at=now + timedelta(days=5))
        for row in accounts
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as the server does by itself: without it, PostgreSQL plans for an empty table


def queries(browser, address):
    with CaptureQueriesContext(connection) as asked:
        assert browser.get(address).status_code == 200
    return len(asked)


def test_the_first_service_account_gets_a_working_token(admin_browser, alice):
    assert "No service accounts yet" in admin_browser.get(LIST).text
    form = admin_browser.get(f"{LIST}/new").text
    assert re.search(r'name="days" value="30"', form)
    response = send(admin_browser, f"{LIST}/new", name="Pipeline", description="CI", role="user", owner=alice.username, days="30")
    token = shown_token(response)
    assert works(token)
    assert response["Cache-Control"].count("no-store") == 1
    account = ServiceAccount.objects.get()
    assert (account.name, account.description, account.role.name, account.owner) == ("pipeline", "CI", "user", alice)
    assert Token.objects.get().expires_at - timezone.now() > timedelta(days=29)
    for snippet in (f"Bearer {token}", f"--token {token}", "secrets.SKYAUTH_TOKEN"):
        assert snippet in html.unescape(response.text)


def test_the_page_shows_the_name_that_upstreams_receive(admin_browser, pipeline):
    assert f"pipeline@{pipeline.uid}" in admin_browser.get(f"/skyauth/service-accounts/{pipeline.uid}").text


def test_with_skypilot_the_examples_use_sky(admin_browser, settings):
    settings.SKYPILOT_URL = "http://127.0.0.1:1"
    response = send(admin_browser, f"{LIST}/new", name="ci", role="user", days="30")
    assert f"sky api login -e {settings.PUBLIC_URL} --token {shown_token(response)}" in response.text
    assert "${{ secrets.SKYPILOT_SERVICE_ACCOUNT_TOKEN }}" in response.text


def test_promise_11_a_token_is_shown_once_and_a_form_creates_one(admin_browser, caplog):
    address = f"{LIST}/new"
    nonce = re.search(r'name="nonce" value="([^"]+)"', admin_browser.get(address).text)[1]
    token = shown_token(send(admin_browser, address, nonce, name="ci", role="user", days="30"))
    again = send(admin_browser, address, nonce, name="ci2", role="user", days="30")
    assert (again.status_code, "This form was already submitted" in again.text) == (422, True)
    assert token not in again.text
    assert ServiceAccount.objects.count() == Token.objects.count() == 1
    kept = [str(entry.data) + entry.target for entry in Entry.objects.all()]
    kept += [str(SessionStore().decode(row.session_data)) for row in Session.objects.all()]
    kept += [str(row) for row in Token.objects.values_list()]
    secret = token.split("_")[2]
    assert not [text for text in (*kept, caplog.text, page(admin_browser)) if secret in text]
    assert token_format.parse(token.encode()).digest == Token.objects.get().digest


def test_a_spent_form_can_be_submitted_again_with_its_values(admin_browser, pipeline):
    address = page_of(pipeline, "token")
    nonce = re.search(r'name="nonce" value="([^"]+)"', admin_browser.get(address).text)[1]
    shown_token(send(admin_browser, address, nonce, name="first", days="7"))
    again = send(admin_browser, address, nonce, name="second", days="7")
    assert 'value="second"' in again.text
    fresh = re.search(r'name="nonce" value="([^"]+)"', again.text)[1]
    assert fresh != nonce
    assert pipeline.tokens.count() == 1
    assert works(shown_token(send(admin_browser, address, fresh, name="second", days="7")))


def test_a_nonce_of_another_user_or_purpose_creates_nothing(admin_browser, bob_browser, pipeline):
    row, _ = make_token(pipeline)
    for browser, address in (
        (admin_browser, page_of(pipeline, "token")),
        (bob_browser, f"{LIST}/new"),
        (bob_browser, page_of(pipeline, "token")),
    ):
        nonce = re.search(r'name="nonce" value="([^"]+)"', browser.get(address).text)[1]
        values = {"name": "taken", "role": "user", "days": "30", "grace": "0"}
        assert send(bob_browser, f"/skyauth/tokens/{row.key_id}/rotate", nonce, **values).status_code == 422, address
    assert Token.objects.count() == 1


def page(browser):
    return browser.get(LIST).text + browser.get(page_of(ServiceAccount.objects.get())).text


def test_errors_are_next_to_their_fields_and_no_input_is_lost(admin_browser, pipeline):
    address = f"{LIST}/new"
    nonce = re.search(r'name="nonce" value="([^"]+)"', admin_browser.get(address).text)[1]
    for values, error in (
        ({"name": "pipeline"}, "already exists"),
        ({"name": "a b"}, "id_name-error"),
        ({"name": "ok", "owner": "nobody-there"}, "There is no user named"),
        ({"name": "ok", "days": "40000"}, "id_days-error"),
        ({"name": "ok", "owner": "bob@example.com", "role": "admin"}, "id_role-error"),
    ):
        response = send(admin_browser, address, nonce, **{"role": "user", "days": "30", "description": "kept", **values})
        assert response.status_code == 422
        assert error in html.unescape(response.text), values
        assert 'value="kept"' in response.text
    assert shown_token(send(admin_browser, address, nonce, name="ok", role="user", days="30"))


def test_tokens_without_expiry_are_offered_only_where_allowed(admin_browser, settings):
    assert 'name="never"' in admin_browser.get(f"{LIST}/new").text
    shown_token(send(admin_browser, f"{LIST}/new", name="for-ever", role="user", days="30", never="on"))
    assert Token.objects.get().expires_at is None
    settings.TOKEN_MAX_DAYS = 60
    form = admin_browser.get(f"{LIST}/new").text
    assert 'name="never"' not in form
    assert "At most 60 days." in form
    response = send(admin_browser, f"{LIST}/new", name="b", role="user", days="61")
    assert (response.status_code, "id_days-error" in response.text) == (422, True)
    assert send(admin_browser, f"{LIST}/new", name="c", role="user", never="on").status_code == 200
    assert Token.objects.get(account__name="c").expires_at is not None


def test_an_empty_owner_is_no_owner_for_admins_and_the_user_for_others(admin_browser, bob_browser, bob):
    shown_token(send(admin_browser, f"{LIST}/new", name="loose", role="user", owner="", days="30"))
    assert ServiceAccount.objects.get(name="loose").owner is None
    assert 'name="owner"' not in bob_browser.get(f"{LIST}/new").text
    shown_token(send(bob_browser, f"{LIST}/new", name="mine", role="user", owner="alice@example.com", days="30"))
    assert ServiceAccount.objects.get(name="mine").owner == bob


def test_a_role_above_the_own_is_neither_offered_nor_accepted(bob_browser):
    form = bob_browser.get(f"{LIST}/new").text
    assert '<option value="admin"' not in form
    assert send(bob_browser, f"{LIST}/new", name="x", role="admin", days="30").status_code == 422
    assert not ServiceAccount.objects.exists()


def test_a_user_manages_only_own_accounts(bob_browser, pipeline):
    other = ServiceAccountFactory(name="others")
    row, _ = make_token(other)
    assert bob_browser.get(page_of(pipeline)).status_code == 200
    for address in (page_of(other), page_of(other, "token"), page_of(other, "delete"), f"/skyauth/tokens/{row.key_id}/rotate"):
        assert bob_browser.get(address).status_code == 404
    for address in (
        page_of(other, "change"),
        page_of(other, "disable"),
        page_of(other, "delete"),
        f"/skyauth/tokens/{row.key_id}/revoke",
    ):
        assert bob_browser.post(address, {"role": "user"}).status_code == 404
    other.refresh_from_db()
    assert (other.is_active, Token.objects.get().revoked_at) == (True, None)


def test_disabled_service_accounts_hide_what_would_be_rejected(admin_browser, pipeline, settings):
    row, _ = make_token(pipeline)
    settings.ENABLE_SERVICE_ACCOUNTS = False
    text = admin_browser.get(LIST).text + admin_browser.get(page_of(pipeline)).text
    assert "Service accounts are disabled" in text
    for control in ("Create service account", "Create token", "Rotate"):
        assert control not in text, control
    assert "Revoke" in text
    assert send(admin_browser, page_of(pipeline, "token"), days="30").status_code == 422
    assert Token.objects.get() == row


def test_a_manager_with_fewer_permissions_sees_only_possible_actions(visit, alice, system):
    from rbac import services

    account = ServiceAccountFactory(name="deploy", owner=alice, role=Role.objects.get(name="admin"), is_active=False)
    row, _ = make_token(account)
    services.create_role(actor=system, name="keeper", permissions=["service-accounts:read", "service-accounts:write"])
    keeper = visit(UserFactory(role=Role.objects.get(name="keeper")))
    text = keeper.get(page_of(account)).text
    for control in ("Rotate", "Create token", "/enable"):
        assert control not in text, control
    keeper.post(page_of(account, "enable"))
    assert send_refused(keeper, f"/skyauth/tokens/{row.key_id}/rotate", grace="0", days="1") == 403
    keeper.post(page_of(account, "change"), {"role": "admin", "owner": alice.username, "description": "kept"})
    account.refresh_from_db()
    assert (account.is_active, account.description, account.role.name) == (False, "kept", "admin")
    assert keeper.post(f"/skyauth/tokens/{row.key_id}/revoke").status_code == 302
    assert Token.objects.get().revoked_at is not None


def send_refused(browser, address, **values):
    """Submit a form that no page links to, and return the status."""
    nonce = re.search(r'name="nonce" value="([^"]+)"', browser.get(address).text)[1]
    return browser.post(address, {"nonce": nonce, **values}).status_code


def test_a_viewer_is_denied_every_page_and_learns_nothing(visit, vera, pipeline):
    browser = visit(vera)
    row, _ = make_token(pipeline)
    assert "service-accounts" not in browser.get("/skyauth/").text
    addresses = [page_of(pipeline, what) for what in ("", "token", "delete", "disable")]
    for address in (LIST, f"{LIST}/new", f"{LIST}/timeline", f"/skyauth/tokens/{row.key_id}/revoke", *addresses):
        response = browser.get(address)
        assert (response.status_code, "pipeline" in response.text) == (403, False), address
    posts = [page_of(pipeline, what) for what in ("change", "enable", "disable", "delete", "token")]
    for address in (f"{LIST}/new", f"/skyauth/tokens/{row.key_id}/rotate", f"/skyauth/tokens/{row.key_id}/revoke", *posts):
        assert browser.post(address, {"role": "viewer"}).status_code == 403, address
    row.refresh_from_db()
    assert (row.revoked_at, ServiceAccount.objects.count(), Token.objects.count()) == (None, 1, 1)


def test_a_reader_sees_no_controls_and_is_denied(visit, pipeline, system):
    from rbac import services

    services.create_role(actor=system, name="reader", permissions=["service-accounts:read"])
    reader = visit(UserFactory(role=Role.objects.get(name="reader")))
    row, _ = make_token(pipeline)
    text = reader.get(page_of(pipeline)).text + reader.get(LIST).text
    for control in (
        "Rotate",
        "Revoke",
        "Delete",
        "Disable",
        "Create token",
        "Create service account",
        '<select name="role" id="change',
    ):
        assert control not in text, control
    for address in (page_of(pipeline, "change"), page_of(pipeline, "delete"), page_of(pipeline, "enable")):
        assert reader.post(address, {}).status_code == 403
    for address in (f"{LIST}/new", page_of(pipeline, "token"), f"/skyauth/tokens/{row.key_id}/rotate"):
        assert reader.get(address).status_code == 403


@pytest.mark.parametrize("days", [None, 30])
def test_a_rotation_that_nobody_thought_about_keeps_the_old_token_valid_for_a_day(admin_browser, pipeline, days):
    row, _ = make_token(pipeline, days=days)
    page = admin_browser.get(f"/skyauth/tokens/{row.key_id}/rotate")
    expiry = f"expires at {row.expires_at:%Y-%m-%d %H:%M} UTC" if days else "no expiry date"
    assert expiry in words(page)
    shown_token(admin_browser.post(f"/skyauth/tokens/{row.key_id}/rotate", {**fields_of(page.text), "days": "30"}))
    row.refresh_from_db()
    assert row.revoked_at is None
    assert timedelta(hours=23) < row.expires_at - timezone.now() <= timedelta(days=1)


def test_a_rotation_with_grace_shows_whether_the_old_token_is_still_used(admin_browser, pipeline):
    row, old = make_token(pipeline)
    response = send(admin_browser, f"/skyauth/tokens/{row.key_id}/rotate", grace="3600", days="30")
    new = shown_token(response)
    assert works(old)
    assert works(new)
    Token.objects.filter(pk=row.pk).update(last_used_at=None)
    assert "not used since the rotation" in admin_browser.get(page_of(pipeline)).text
    Token.objects.filter(pk=row.pk).update(last_used_at=timezone.now() + timedelta(seconds=1), last_used_from="198.51.100.7")
    assert re.search(r"still used after the rotation: .* from 198\.51\.100\.7", admin_browser.get(page_of(pipeline)).text)
    row.refresh_from_db()
    assert row.expires_at - timezone.now() < timedelta(hours=1)


def test_a_rotation_without_grace_revokes_the_old_token_immediately(admin_browser, pipeline):
    row, old = make_token(pipeline)
    new = shown_token(send(admin_browser, f"/skyauth/tokens/{row.key_id}/rotate", grace="0", days="30"))
    assert (works(old), works(new)) == (False, True)
    rejected = send(admin_browser, f"/skyauth/tokens/{row.key_id}/rotate", grace="0", days="30")
    assert (rejected.status_code, "already revoked or rotated" in rejected.text) == (422, True)


def test_a_new_token_defaults_to_the_old_lifetime_within_the_limit(admin_browser, pipeline, settings):
    row, _ = make_token(pipeline, days=90, created_at=timezone.now())
    address = f"/skyauth/tokens/{row.key_id}/rotate"
    assert re.search(r'name="days" value="90"', admin_browser.get(address).text)
    settings.TOKEN_MAX_DAYS = 60
    assert re.search(r'name="days" value="60"', admin_browser.get(address).text)
    shown_token(send(admin_browser, address, grace="0", days="60"))


def test_confirmations_list_the_affected_tokens_with_their_last_use(admin_browser, pipeline):
    used, _ = make_token(pipeline, name="used", last_used_at=timezone.now(), last_used_from="198.51.100.7")
    idle, _ = make_token(pipeline, name="idle")
    over, _ = make_token(pipeline, name="over", days=-1)
    for what in ("delete", "disable"):
        text = admin_browser.get(page_of(pipeline, what)).text
        assert [row.key_id in text for row in (used, idle, over)] == [True, True, False]
        assert "from 198.51.100.7" in text
        assert "never used" in text
    text = admin_browser.get(f"/skyauth/tokens/{used.key_id}/revoke").text
    assert [row.key_id in text for row in (used, idle)] == [True, False]


def test_a_token_is_revoked_after_confirmation(admin_browser, pipeline):
    row, token = make_token(pipeline)
    address = f"/skyauth/tokens/{row.key_id}/revoke"
    assert "Revoke token ci?" in admin_browser.get(address).text
    assert works(token)
    response = admin_browser.post(address, follow=True)
    assert "The token ci was revoked." in response.text
    assert not works(token)


def test_a_second_token_can_be_created(admin_browser, pipeline):
    make_token(pipeline)
    assert works(shown_token(send(admin_browser, page_of(pipeline, "token"), name="laptop", days="7")))
    assert pipeline.tokens.count() == 2


def test_role_description_and_owner_can_be_changed(admin_browser, pipeline, alice):
    response = admin_browser.post(
        page_of(pipeline, "change"), {"role": "viewer", "description": "new", "owner": alice.username}, follow=True
    )
    assert "The changes to pipeline were saved." in response.text
    pipeline.refresh_from_db()
    assert (pipeline.role.name, pipeline.description, pipeline.owner) == ("viewer", "new", alice)
    admin_browser.post(page_of(pipeline, "change"), {"role": "viewer", "description": "", "owner": ""})
    pipeline.refresh_from_db()
    assert pipeline.owner is None
    rejected = admin_browser.post(page_of(pipeline, "change"), {"role": "admin", "owner": "bob@example.com"})
    assert (rejected.status_code, "change_role-error" in rejected.text) == (422, True)


def test_an_account_above_its_owner_shows_its_effective_role(admin_browser, pipeline, bob):
    bob.role = Role.objects.get(name="viewer")
    bob.save()
    assert re.search(r"effective role viewer, limited by the permissions of the owner", admin_browser.get(page_of(pipeline)).text)


def test_an_account_is_disabled_enabled_and_deleted(admin_browser, pipeline):
    _, token = make_token(pipeline)
    assert "You can enable the account again." in admin_browser.get(page_of(pipeline, "disable")).text
    admin_browser.post(page_of(pipeline, "disable"))
    assert not works(token)
    admin_browser.post(page_of(pipeline, "enable"))
    assert works(token)
    assert "all of its tokens are deleted permanently" in admin_browser.get(page_of(pipeline, "delete")).text
    assert admin_browser.post(page_of(pipeline, "delete"))["Location"] == LIST
    assert not ServiceAccount.objects.exists()
    assert admin_browser.get(page_of(pipeline)).status_code == 404


def test_tokens_are_grouped_by_expiry(admin_browser, pipeline, django_assert_max_num_queries):
    for days in (-5, 0.5, 5, 20, 200, None):
        make_token(pipeline, days=days, name=f"in {days}")
    make_token(pipeline, revoked_at=timezone.now(), name="gone")
    with django_assert_max_num_queries(12):
        text = admin_browser.get(f"{LIST}/timeline").text
    titles = [html.unescape(" ".join(title.split())) for title in re.findall(r'<h2 id="group-\d">([^<]+)<', text)]
    assert titles == [
        "Expired in the last 30 days",
        "Expires within a day",
        "Expires within a week",
        "Expires within 30 days",
        "Expires later",
        "Never expires",
    ]
    assert "gone" not in text
    assert text.count("<meter") == 5


def test_the_expiry_page_has_an_empty_state(admin_browser):
    assert "No tokens" in admin_browser.get(f"{LIST}/timeline").text


def test_promise_36_a_form_without_the_csrf_token_is_refused(visit, alice, pipeline):
    browser = visit(alice, enforce_csrf_checks=True)
    for address in (f"{LIST}/new", page_of(pipeline, "delete"), page_of(pipeline, "enable"), page_of(pipeline, "token")):
        assert browser.post(address, {}).status_code == 403
