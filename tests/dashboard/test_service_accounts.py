"""Service accounts: found, made with a token that is shown once, changed, rotated with overlap, revoked, deleted."""

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
from tests.factories import ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

LIST = "/skyauth/service-accounts"


@pytest.fixture
def office(visit, alice):
    """Alice's browser."""
    return visit(alice)


@pytest.fixture
def desk(visit, bob):
    """Bob's browser."""
    return visit(bob)


def page_of(account, what=""):
    return f"{LIST}/{account.uid}{what and '/' + what}"


def names(answer):
    """Return the names that the list shows, in order."""
    return re.findall(r'<a href="/skyauth/service-accounts/sa-[0-9a-f]{16}">([^<]+)</a>', answer.text)


def send(browser, address, nonce=None, **given):
    """Open a form and send it; it works once."""
    nonce = nonce or re.search(r'name="nonce" value="([^"]+)"', browser.get(address).text)[1]
    return browser.post(address, {"nonce": nonce, **given})


def shown(answer):
    """Return the token that a page shows."""
    assert answer.status_code == 200, answer.text
    return re.search(r'<pre class="secret" id="token">(sky_\w+)</pre>', answer.text)[1]


def works(token):
    client = Client(raise_request_exception=False, headers={"authorization": f"Bearer {token}"})
    return client.get("/api/v1/whoami").status_code == 200


@pytest.mark.parametrize(
    ("query", "found"),
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
def test_the_list_shows_what_is_asked_for(office, alice, pipeline, query, found):
    ServiceAccount.objects.filter(pk=pipeline.pk).update(description="nightly sweeps")
    cron = ServiceAccountFactory(name="cron", owner=alice, role=Role.objects.get(name="viewer"))
    forgotten = ServiceAccountFactory(name="forgotten", is_active=False)
    make_token(pipeline, days=5)
    made = timezone.now() - timedelta(days=200)
    make_token(cron, days=None, created_at=made, last_used_at=made + timedelta(days=1))
    make_token(forgotten, days=-1)
    answer = office.get(f"{LIST}?{query}")
    assert (answer.status_code, names(answer)) == (200, found)


def test_everybody_sees_what_their_role_lets_them_see(office, desk, visit, vera, pipeline):
    ServiceAccountFactory(name="others")
    assert names(office.get(LIST)) == ["others", "pipeline"]
    assert names(desk.get(LIST)) == ["pipeline"]
    assert visit(vera).get(LIST).status_code == 403


def test_a_list_costs_the_same_queries_for_10_and_for_10_000_accounts(office, alice, bob):
    addresses = (LIST, f"{LIST}?page=2", f"{LIST}?tokens=soon&q=many", f"{LIST}?sort=ends&page=3", f"{LIST}?sort=-used")
    many(10, alice)
    office.get(LIST)  # notes that she was here
    few = [queries(office, address) for address in addresses]
    many(9_990, bob, start=10)
    assert [queries(office, address) for address in addresses] == few
    assert "of 10,000 service accounts" in office.get(LIST).text


def test_an_accounts_pages_cost_the_same_queries_for_one_token_and_for_many(office, pipeline):
    addresses = [page_of(pipeline), page_of(pipeline, "delete"), f"{LIST}/timeline"]
    first, _ = make_token(pipeline, days=5)
    office.get(LIST)
    few = [queries(office, address) for address in addresses]
    for _ in range(30):
        make_token(pipeline, days=5, replaced_by=first)
    assert [queries(office, address) for address in addresses] == few


def many(number, owner, start=0):
    """Make so many accounts, each with a token that ends within a week."""
    role, now = Role.objects.get(name="user"), timezone.now()
    accounts = ServiceAccount.objects.bulk_create(
        ServiceAccount(name=f"many-{i}", uid=f"sa-{i:016x}", role=role, owner=owner, created_by="tests")
        for i in range(start, start + number)
    )
    Token.objects.bulk_create(
        Token(account=row, key_id=f"{row.uid[-12:]}", digest=row.uid, created_by="tests", expires_at=now + timedelta(days=5))
        for row in accounts
    )


def queries(browser, address):
    with CaptureQueriesContext(connection) as asked:
        assert browser.get(address).status_code == 200
    return len(asked)


def test_from_an_empty_installation_to_a_pipelines_token(office, alice):
    assert "No service accounts yet" in office.get(LIST).text
    form = office.get(f"{LIST}/new").text
    assert re.search(r'name="days" value="30"', form)
    answer = send(office, f"{LIST}/new", name="Pipeline", description="CI", role="user", owner=alice.username, days="30")
    token = shown(answer)
    assert works(token)
    assert answer["Cache-Control"].count("no-store") == 1
    account = ServiceAccount.objects.get()
    assert (account.name, account.description, account.role.name, account.owner) == ("pipeline", "CI", "user", alice)
    assert Token.objects.get().expires_at - timezone.now() > timedelta(days=29)
    for snippet in (f"Bearer {token}", f"--token {token}", "secrets.SKYAUTH_TOKEN"):
        assert snippet in html.unescape(answer.text)


def test_where_skypilot_stands_behind_the_ready_made_lines_are_skys(office, settings):
    settings.SKYPILOT_URL = "http://127.0.0.1:1"
    answer = send(office, f"{LIST}/new", name="ci", role="user", days="30")
    assert f"sky api login -e {settings.PUBLIC_URL} --token {shown(answer)}" in answer.text
    assert "${{ secrets.SKYPILOT_SERVICE_ACCOUNT_TOKEN }}" in answer.text


def test_promise_11_a_token_is_shown_once_and_a_form_makes_one(office, caplog):
    address = f"{LIST}/new"
    nonce = re.search(r'name="nonce" value="([^"]+)"', office.get(address).text)[1]
    token = shown(send(office, address, nonce, name="ci", role="user", days="30"))
    again = send(office, address, nonce, name="ci2", role="user", days="30")
    assert (again.status_code, "This form was already submitted" in again.text) == (422, True)
    assert token not in again.text
    assert ServiceAccount.objects.count() == Token.objects.count() == 1
    kept = [str(entry.data) + entry.target for entry in Entry.objects.all()]
    kept += [str(SessionStore().decode(row.session_data)) for row in Session.objects.all()]
    kept += [str(row) for row in Token.objects.values_list()]
    secret = token.split("_")[2]
    assert not [text for text in (*kept, caplog.text, page(office)) if secret in text]
    assert token_format.parse(token.encode()).digest == Token.objects.get().digest


def test_a_form_that_was_used_up_can_be_sent_as_a_new_one_with_what_was_typed(office, pipeline):
    address = page_of(pipeline, "token")
    nonce = re.search(r'name="nonce" value="([^"]+)"', office.get(address).text)[1]
    shown(send(office, address, nonce, name="first", days="7"))
    again = send(office, address, nonce, name="second", days="7")
    assert 'value="second"' in again.text
    fresh = re.search(r'name="nonce" value="([^"]+)"', again.text)[1]
    assert fresh != nonce
    assert pipeline.tokens.count() == 1
    assert works(shown(send(office, address, fresh, name="second", days="7")))


def test_a_form_of_somebody_else_or_for_something_else_makes_nothing(office, desk, pipeline):
    row, _ = make_token(pipeline)
    for browser, address in ((office, page_of(pipeline, "token")), (desk, f"{LIST}/new"), (desk, page_of(pipeline, "token"))):
        nonce = re.search(r'name="nonce" value="([^"]+)"', browser.get(address).text)[1]
        given = {"name": "taken", "role": "user", "days": "30", "grace": "0"}
        assert send(desk, f"/skyauth/tokens/{row.key_id}/rotate", nonce, **given).status_code == 422, address
    assert Token.objects.count() == 1


def page(browser):
    return browser.get(LIST).text + browser.get(page_of(ServiceAccount.objects.get())).text


def test_what_was_refused_stands_beside_its_field_and_nothing_is_lost(office, pipeline):
    address = f"{LIST}/new"
    nonce = re.search(r'name="nonce" value="([^"]+)"', office.get(address).text)[1]
    for given, fault in (
        ({"name": "pipeline"}, "already exists"),
        ({"name": "a b"}, "id_name-error"),
        ({"name": "ok", "owner": "nobody-there"}, "There is no user named"),
        ({"name": "ok", "days": "40000"}, "id_days-error"),
        ({"name": "ok", "owner": "bob@example.com", "role": "admin"}, "id_role-error"),
    ):
        answer = send(office, address, nonce, **{"role": "user", "days": "30", "description": "kept", **given})
        assert answer.status_code == 422
        assert fault in html.unescape(answer.text), given
        assert 'value="kept"' in answer.text
    assert shown(send(office, address, nonce, name="ok", role="user", days="30"))


def test_never_is_offered_only_where_it_is_allowed(office, settings):
    assert 'name="never"' in office.get(f"{LIST}/new").text
    shown(send(office, f"{LIST}/new", name="for-ever", role="user", days="30", never="on"))
    assert Token.objects.get().expires_at is None
    settings.TOKEN_MAX_DAYS = 60
    form = office.get(f"{LIST}/new").text
    assert 'name="never"' not in form
    assert "At most 60 days." in form
    answer = send(office, f"{LIST}/new", name="b", role="user", days="61")
    assert (answer.status_code, "id_days-error" in answer.text) == (422, True)
    assert send(office, f"{LIST}/new", name="c", role="user", never="on").status_code == 200
    assert Token.objects.get(account__name="c").expires_at is not None


def test_an_owner_left_empty_is_nobody_for_an_admin_and_oneself_for_everybody_else(office, desk, bob):
    shown(send(office, f"{LIST}/new", name="loose", role="user", owner="", days="30"))
    assert ServiceAccount.objects.get(name="loose").owner is None
    assert 'name="owner"' not in desk.get(f"{LIST}/new").text
    shown(send(desk, f"{LIST}/new", name="mine", role="user", owner="alice@example.com", days="30"))
    assert ServiceAccount.objects.get(name="mine").owner == bob


def test_a_user_is_offered_no_role_above_their_own_and_gets_none(desk):
    form = desk.get(f"{LIST}/new").text
    assert '<option value="admin"' not in form
    assert send(desk, f"{LIST}/new", name="x", role="admin", days="30").status_code == 422
    assert not ServiceAccount.objects.exists()


def test_a_user_manages_their_own_and_reaches_no_other(desk, pipeline):
    other = ServiceAccountFactory(name="others")
    row, _ = make_token(other)
    assert desk.get(page_of(pipeline)).status_code == 200
    for address in (page_of(other), page_of(other, "token"), page_of(other, "delete"), f"/skyauth/tokens/{row.key_id}/rotate"):
        assert desk.get(address).status_code == 404
    for address in (
        page_of(other, "change"),
        page_of(other, "disable"),
        page_of(other, "delete"),
        f"/skyauth/tokens/{row.key_id}/revoke",
    ):
        assert desk.post(address, {"role": "user"}).status_code == 404
    other.refresh_from_db()
    assert (other.is_active, Token.objects.get().revoked_at) == (True, None)


def test_where_they_are_switched_off_nothing_is_offered_that_would_be_refused(office, pipeline, settings):
    row, _ = make_token(pipeline)
    settings.ENABLE_SERVICE_ACCOUNTS = False
    text = office.get(LIST).text + office.get(page_of(pipeline)).text
    assert "Service accounts are disabled" in text
    for control in ("Create service account", "Create token", "Rotate"):
        assert control not in text, control
    assert "Revoke" in text
    assert send(office, page_of(pipeline, "token"), days="30").status_code == 422
    assert Token.objects.get() == row


def test_who_manages_all_but_holds_less_is_offered_what_they_can_do(visit, alice, system):
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


def send_refused(browser, address, **given):
    """Send a form that the page itself does not lead to, and return the status."""
    nonce = re.search(r'name="nonce" value="([^"]+)"', browser.get(address).text)[1]
    return browser.post(address, {"nonce": nonce, **given}).status_code


def test_a_viewer_is_refused_everything_and_told_nothing(visit, vera, pipeline):
    browser = visit(vera)
    row, _ = make_token(pipeline)
    assert "service-accounts" not in browser.get("/skyauth/").text
    addresses = [page_of(pipeline, what) for what in ("", "token", "delete", "disable")]
    for address in (LIST, f"{LIST}/new", f"{LIST}/timeline", f"/skyauth/tokens/{row.key_id}/revoke", *addresses):
        answer = browser.get(address)
        assert (answer.status_code, "pipeline" in answer.text) == (403, False), address
    posts = [page_of(pipeline, what) for what in ("change", "enable", "disable", "delete", "token")]
    for address in (f"{LIST}/new", f"/skyauth/tokens/{row.key_id}/rotate", f"/skyauth/tokens/{row.key_id}/revoke", *posts):
        assert browser.post(address, {"role": "viewer"}).status_code == 403, address
    row.refresh_from_db()
    assert (row.revoked_at, ServiceAccount.objects.count(), Token.objects.count()) == (None, 1, 1)


def test_who_only_reads_sees_no_control_and_is_refused(visit, pipeline, system):
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


def test_a_rotation_with_overlap_says_whether_the_old_one_is_still_used(office, pipeline):
    row, old = make_token(pipeline)
    answer = send(office, f"/skyauth/tokens/{row.key_id}/rotate", grace="3600", days="30")
    new = shown(answer)
    assert works(old)
    assert works(new)
    Token.objects.filter(pk=row.pk).update(last_used_at=None)
    assert "not used since the rotation" in office.get(page_of(pipeline)).text
    Token.objects.filter(pk=row.pk).update(last_used_at=timezone.now() + timedelta(seconds=1), last_used_from="198.51.100.7")
    assert re.search(r"still used after the rotation: .* from 198\.51\.100\.7", office.get(page_of(pipeline)).text)
    row.refresh_from_db()
    assert row.expires_at - timezone.now() < timedelta(hours=1)


def test_a_rotation_without_overlap_ends_the_old_one_at_once(office, pipeline):
    row, old = make_token(pipeline)
    new = shown(send(office, f"/skyauth/tokens/{row.key_id}/rotate", grace="0", days="30"))
    assert (works(old), works(new)) == (False, True)
    refused = send(office, f"/skyauth/tokens/{row.key_id}/rotate", grace="0", days="30")
    assert (refused.status_code, "revoked or rotated already" in refused.text) == (422, True)


def test_a_successor_lives_as_long_as_the_old_one_was_made_for_or_as_is_allowed_now(office, pipeline, settings):
    row, _ = make_token(pipeline, days=90, created_at=timezone.now())
    address = f"/skyauth/tokens/{row.key_id}/rotate"
    assert re.search(r'name="days" value="90"', office.get(address).text)
    settings.TOKEN_MAX_DAYS = 60
    assert re.search(r'name="days" value="60"', office.get(address).text)
    shown(send(office, address, grace="0", days="60"))


def test_what_a_deletion_a_pause_or_a_revocation_stops_is_listed_with_its_last_use(office, pipeline):
    used, _ = make_token(pipeline, name="used", last_used_at=timezone.now(), last_used_from="198.51.100.7")
    idle, _ = make_token(pipeline, name="idle")
    over, _ = make_token(pipeline, name="over", days=-1)
    for what in ("delete", "disable"):
        text = office.get(page_of(pipeline, what)).text
        assert [row.key_id in text for row in (used, idle, over)] == [True, True, False]
        assert "from 198.51.100.7" in text
        assert "never used" in text
    text = office.get(f"/skyauth/tokens/{used.key_id}/revoke").text
    assert [row.key_id in text for row in (used, idle)] == [True, False]


def test_a_token_is_revoked_after_a_question(office, pipeline):
    row, token = make_token(pipeline)
    address = f"/skyauth/tokens/{row.key_id}/revoke"
    assert "Revoke token ci?" in office.get(address).text
    assert works(token)
    answer = office.post(address, follow=True)
    assert "The token ci was revoked." in answer.text
    assert not works(token)


def test_a_second_token_can_be_made(office, pipeline):
    make_token(pipeline)
    assert works(shown(send(office, page_of(pipeline, "token"), name="laptop", days="7")))
    assert pipeline.tokens.count() == 2


def test_role_description_and_owner_can_be_changed(office, pipeline, alice):
    answer = office.post(
        page_of(pipeline, "change"), {"role": "viewer", "description": "new", "owner": alice.username}, follow=True
    )
    assert "The changes to pipeline were saved." in answer.text
    pipeline.refresh_from_db()
    assert (pipeline.role.name, pipeline.description, pipeline.owner) == ("viewer", "new", alice)
    office.post(page_of(pipeline, "change"), {"role": "viewer", "description": "", "owner": ""})
    pipeline.refresh_from_db()
    assert pipeline.owner is None
    refused = office.post(page_of(pipeline, "change"), {"role": "admin", "owner": "bob@example.com"})
    assert (refused.status_code, "change_role-error" in refused.text) == (422, True)


def test_an_account_that_holds_more_than_its_owner_says_what_it_acts_as(office, pipeline, bob):
    bob.role = Role.objects.get(name="viewer")
    bob.save()
    assert re.search(r"effective role viewer, limited by the permissions of the owner", office.get(page_of(pipeline)).text)


def test_an_account_is_disabled_enabled_and_deleted(office, pipeline):
    _, token = make_token(pipeline)
    assert "You can enable the account again." in office.get(page_of(pipeline, "disable")).text
    office.post(page_of(pipeline, "disable"))
    assert not works(token)
    office.post(page_of(pipeline, "enable"))
    assert works(token)
    assert "all of its tokens are deleted permanently" in office.get(page_of(pipeline, "delete")).text
    assert office.post(page_of(pipeline, "delete"))["Location"] == LIST
    assert not ServiceAccount.objects.exists()
    assert office.get(page_of(pipeline)).status_code == 404


def test_the_timeline_groups_tokens_by_when_they_end(office, pipeline, django_assert_max_num_queries):
    for days in (-5, 0.5, 5, 20, 200, None):
        make_token(pipeline, days=days, name=f"in {days}")
    make_token(pipeline, revoked_at=timezone.now(), name="gone")
    with django_assert_max_num_queries(12):
        text = office.get(f"{LIST}/timeline").text
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


def test_a_timeline_without_tokens_says_so(office):
    assert "No tokens" in office.get(f"{LIST}/timeline").text


def test_promise_36_a_form_without_the_csrf_token_is_refused(visit, alice, pipeline):
    browser = visit(alice, enforce_csrf_checks=True)
    for address in (f"{LIST}/new", page_of(pipeline, "delete"), page_of(pipeline, "enable"), page_of(pipeline, "token")):
        assert browser.post(address, {}).status_code == 403
