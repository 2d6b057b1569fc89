"""Users: found, changed in place, in bulk, made, disabled and deleted, with what is theirs."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import RoleSource, ServiceAccount, SignIn, Token, User
from audit.models import Entry
from rbac.models import Role
from tests.dashboard.test_pages import HTMX, words
from tests.factories import ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

LIST = "/skyauth/users"


@pytest.fixture
def office(visit, alice):
    """Alice's browser."""
    return visit(alice)


def names(answer):
    """Return the names that the list shows, in order."""
    return re.findall(r'<a href="/skyauth/users/[0-9a-f]+">([^<]+)</a>', answer.text)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["alice", "bob", "carol", "vera"]),
        ("q=CAR", ["carol"]),
        ("q=singer", ["carol"]),
        ("q=elsewhere.example", ["bob"]),
        ("q=nobody", []),
        ("role=viewer", ["vera"]),
        ("state=disabled", ["carol"]),
        ("state=active&role=user", ["bob"]),
        ("sign_in=sso", ["carol"]),
        ("sort=-name", ["vera", "carol", "bob", "alice"]),
        ("sort=created", ["alice", "bob", "vera", "carol"]),
        ("sort=-seen", ["alice", "bob", "carol", "vera"]),
        ("sort=seen", ["vera", "carol", "bob", "alice"]),
        ("sort=nonsense&page=99", ["alice", "bob", "carol", "vera"]),
        ("page=-1", ["alice", "bob", "carol", "vera"]),
        ("role=nonsense", []),
        ("q=%00", []),
    ],
)
def test_the_list_shows_who_is_asked_for(office, bob, vera, query, found):
    UserFactory(username="carol@example.com", display_name="Singer", is_active=False, sign_in=SignIn.SSO)
    User.objects.filter(pk=bob.pk).update(email="bob@elsewhere.example", last_seen_at=timezone.now() - timedelta(hours=2))
    answer = office.get(f"{LIST}?{query}")
    assert answer.status_code == 200
    assert names(answer) == [f"{name}@example.com" for name in found]
    assert ("No users match these filters" in answer.text) == (found == [])


def test_each_row_is_on_one_page_and_turning_pages_keeps_what_was_asked(office):
    people = UserFactory.create_batch(120, is_active=False)
    seen = []
    path = f"{LIST}?state=disabled&sort=-name"
    while path:
        answer = office.get(path)
        seen += names(answer)
        following = re.search(r'rel="next"\s+href="([^"]+)"', answer.text)
        path = following and LIST + following[1].replace("&amp;", "&")
        assert not path or "state=disabled" in path
    assert seen == sorted((person.username for person in people), reverse=True)
    assert "101\N{EN DASH}120 of 120 users" in words(answer)


@pytest.mark.parametrize("query", ["", "sort=-seen", "q=person&page=3"])
def test_the_queries_of_the_list_are_as_many_for_ten_users_as_for_ten_thousand(office, query):
    role = Role.objects.get(name="user")
    UserFactory.create_batch(10)

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert office.get(f"{LIST}?{query}").status_code == 200
        return sum(query["sql"].startswith("SELECT") for query in queries.captured_queries)

    count()
    few = count()
    User.objects.bulk_create(
        [User(username=f"person{n}@big.example", uid=f"f{n:07x}", role=role, sign_in=SignIn.SSO) for n in range(10_000)]
    )
    assert count() == few
    assert few <= 14


def test_who_may_not_change_users_sees_no_control_and_the_server_refuses_it(visit, bob, vera):
    for user in (bob, vera):
        browser = visit(user)
        for path in (LIST, f"{LIST}/{bob.uid}"):
            text = browser.get(path).text
            main = text[text.index("<main") : text.index("<dialog")]
            assert main.count("<form") == len(re.findall("<form[^>]*role=.search", main))
            assert main.count("<button") == len(re.findall("<button[^>]*without-script", main))
            assert "checkbox" not in main
            assert "Delete" not in main
        for path, sent in (
            (f"{LIST}/{bob.uid}/role", {"role": "admin"}),
            (f"{LIST}/role", {"uid": bob.uid, "role": "admin"}),
            (f"{LIST}/new", {"username": "eve@example.com", "role": "viewer"}),
            (f"{LIST}/{bob.uid}/disable", {}),
            (f"{LIST}/{bob.uid}/delete", {}),
            (f"{LIST}/{bob.uid}/password", {"password": "an entirely new secret"}),
        ):
            assert browser.post(path, sent).status_code == 403, path
    bob.refresh_from_db()
    assert (bob.role.name, bob.is_active) == ("user", True)
    assert not User.objects.filter(username="eve@example.com").exists()


def test_a_smaller_admin_is_not_offered_what_is_above_them_and_is_refused_it(visit, alice, bob):
    helper = Role.objects.create(name="helpdesk", permissions=["users:read", "users:write", "upstream:read", "upstream:write"])
    hanna = UserFactory(username="hanna@example.com", role=helper)
    browser = visit(hanna)
    text = browser.get(LIST).text
    assert f'id="role-{alice.uid}"' not in text
    assert '<option value="admin"' not in text.split("<tbody>")[1]
    assert browser.post(f"{LIST}/{alice.uid}/role", {"role": "viewer"}).status_code == 403
    assert browser.post(f"{LIST}/{bob.uid}/role", {"role": "admin"}).status_code == 403
    assert browser.post(f"{LIST}/{alice.uid}/delete", {}).status_code == 403
    assert "has permissions that you do not have" in browser.get(f"{LIST}/{alice.uid}/delete").text
    alice.refresh_from_db()
    assert alice.role.name == "admin"


def test_a_role_is_changed_in_place(office, bob):
    answer = office.post(f"{LIST}/{bob.uid}/role", {"role": "viewer"}, headers=HTMX)
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith("<tr>")
    assert "The role of bob@example.com was changed from user to viewer." in answer.text
    bob.refresh_from_db()
    assert (bob.role.name, bob.role_source) == ("viewer", RoleSource.MANUAL)
    assert Entry.objects.get(event="user.updated").actor == "alice@example.com"


def test_a_role_is_changed_without_javascript_and_one_is_back_in_the_list(office, bob):
    answer = office.post(f"{LIST}/{bob.uid}/role", {"role": "viewer", "back": f"{LIST}?q=b"}, follow=True)
    assert answer.redirect_chain == [(f"{LIST}?q=b", 302)]
    assert "was changed from user to viewer." in answer.text


def test_promise_33_the_last_admin_stays_and_it_is_said_why(office, alice):
    answer = office.post(f"{LIST}/{alice.uid}/role", {"role": "viewer"}, headers=HTMX)
    assert answer.status_code == 409
    assert (
        answer.text.strip()
        == '<p class="message error">alice@example.com is the last active admin. Give another user the admin role first.</p>'
    )
    for path in ("role", "disable", "delete"):
        answer = office.post(f"{LIST}/{alice.uid}/{path}", {"role": "user"}, follow=True)
        assert "is the last active admin" in answer.text
    alice.refresh_from_db()
    assert (alice.role.name, alice.is_active) == ("admin", True)


def test_in_bulk_each_user_is_changed_on_their_own_and_who_was_not_is_named(office, alice, bob, vera):
    answer = office.post(f"{LIST}/role", {"uid": [bob.uid, vera.uid], "role": "viewer", "back": f"{LIST}?q=x"}, follow=True)
    assert answer.redirect_chain == [(f"{LIST}?q=x", 302)]
    assert "2 users now have the role viewer." in answer.text
    answer = office.post(f"{LIST}/role", {"uid": [alice.uid, bob.uid], "role": "user"})
    assert "Some users did not get the role user" in answer.text
    assert re.search(r"alice@example.com.*last active admin.*Changed.*bob@example.com", words(answer))
    roles = dict(User.objects.values_list("username", "role__name"))
    assert roles == {"alice@example.com": "admin", "bob@example.com": "user", "vera@example.com": "viewer"}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"role": "viewer"}, "Select at least one user."),
        ({"uid": "f"}, "no role named"),
        ({"uid": ["f"] * 51, "role": "user"}, "at most 50"),
    ],
)
def test_what_cannot_be_done_in_bulk_is_said_in_the_list(office, sent, said):
    answer = office.post(f"{LIST}/role", sent, follow=True)
    assert answer.redirect_chain == [(LIST, 302)]
    assert said in answer.text


def test_a_user_is_created_and_signs_in(office, client):
    sent = {"username": "Dora@Example.com", "display_name": "Dora", "role": "viewer", "password": "an entirely new secret"}
    answer = office.post(f"{LIST}/new", sent, follow=True)
    assert "The user dora@example.com was created with the role viewer." in answer.text
    made = User.objects.get(username="dora@example.com")
    assert (made.sign_in, made.role.name, made.display_name) == (SignIn.PASSWORD, "viewer", "Dora")
    assert client.post("/sign-in", {"username": made.username, "password": sent["password"]}).status_code == 302


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        ({"username": "bob@example.com"}, "username", "already exists"),
        ({"username": ""}, "username", "required"),
        ({"username": " padded@example.com"}, "username", ""),
        ({"username": "plain"}, "username", "set a password"),
        ({"username": "eve@example.com", "password": "short"}, "password", "too short"),
        ({"username": "eve@example.com", "role": "nonsense"}, "role", "not one of the available"),
    ],
)
def test_what_is_wrong_with_a_new_user_is_said_beside_the_field(office, bob, sent, field, said):
    before = User.objects.count()
    answer = office.post(f"{LIST}/new", {"role": "viewer", **sent})
    assert answer.status_code == 422
    [fault] = re.findall(rf'id="id_{field}-error">(.*?)</p>', answer.text, re.DOTALL)
    assert said in fault
    assert f'aria-describedby="id_{field}-' in answer.text or f'id_{field}-error"' in answer.text
    assert "short" not in answer.text.replace("too short", "")
    assert User.objects.count() == before


def test_profile_and_password_are_changed_on_the_users_page_and_faults_are_beside_their_fields(office, bob):
    page = f"{LIST}/{bob.uid}"
    answer = office.post(
        f"{page}/profile", {"display_name": "Bobby", "email": "bobby@example.com", "sign_in": "both"}, follow=True
    )
    assert answer.redirect_chain == [(page, 302)]
    bob.refresh_from_db()
    assert (bob.display_name, bob.email) == ("Bobby", "bobby@example.com")
    answer = office.post(f"{page}/profile", {"display_name": "B", "email": "no address", "sign_in": "both"})
    assert answer.status_code == 422
    assert 'id="profile_email-error"' in answer.text
    answer = office.post(f"{page}/password", {"password": "short"})
    assert 'id="password_password-error"' in answer.text
    old = bob.password
    office.post(f"{page}/password", {"password": "an entirely new secret"})
    bob.refresh_from_db()
    assert bob.password != old
    assert bob.check_password("an entirely new secret")


def test_who_is_disabled_is_out_at_once_and_comes_back(office, visit, bob, pipeline, pipeline_token):
    his = visit(bob)
    sheet = office.get(f"{LIST}/{bob.uid}/disable")
    for shown in ("pipeline", pipeline_token.split("_")[1], "1 active session"):
        assert shown in words(sheet)
    office.post(f"{LIST}/{bob.uid}/disable", {"fate": "stay"})
    assert his.get("/skyauth/").status_code == 302
    bob.refresh_from_db()
    pipeline.refresh_from_db()
    assert (bob.is_active, pipeline.is_active, pipeline.owner) == (False, True, bob)
    answer = office.post(f"{LIST}/{bob.uid}/enable", follow=True)
    assert "is enabled" in answer.text


@pytest.mark.parametrize("step", ["disable", "delete"])
def test_service_accounts_go_to_another_user_with_their_tokens(office, alice, bob, vera, pipeline, pipeline_token, step):
    office.post(f"{LIST}/{bob.uid}/{step}", {"fate": "transfer", "transfer_to": "alice@example.com"})
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active, pipeline.role.name) == (alice, True, "user")
    assert Token.objects.get(account=pipeline).revoked_at is None
    assert User.objects.filter(pk=bob.pk, is_active=True).exists() is False


@pytest.mark.parametrize("step", ["disable", "delete"])
def test_service_accounts_are_stopped_and_their_tokens_revoked(office, bob, pipeline, pipeline_token, step):
    make_token(pipeline)
    office.post(f"{LIST}/{bob.uid}/{step}", {"fate": "revoke"})
    pipeline.refresh_from_db()
    assert not pipeline.is_active
    assert not Token.objects.filter(revoked_at=None).exists()
    assert Entry.objects.filter(event="token.revoked").count() == 2


def test_deleted_without_more_the_accounts_go_on_without_an_owner(office, bob, pipeline, pipeline_token):
    answer = office.post(f"{LIST}/{bob.uid}/delete", {"fate": "stay"}, follow=True)
    assert "bob@example.com was deleted." in answer.text
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active) == (None, True)


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        ({}, "fate", "required"),
        ({"fate": "transfer"}, "transfer_to", "Name the user"),
        ({"fate": "transfer", "transfer_to": "nobody"}, "transfer_to", "no user named"),
        ({"fate": "transfer", "transfer_to": "bob@example.com"}, "transfer_to", "who leaves"),
        ({"fate": "transfer", "transfer_to": "gone@example.com"}, "transfer_to", "is disabled"),
    ],
)
@pytest.mark.parametrize("step", ["disable", "delete"])
def test_who_takes_over_must_be_somebody_and_until_then_nothing_is_done(office, bob, pipeline, step, sent, field, said):
    UserFactory(username="gone@example.com", is_active=False)
    answer = office.post(f"{LIST}/{bob.uid}/{step}", sent)
    assert answer.status_code == 422
    [fault] = re.findall(rf'id="id_{field}-error">(.*?)</p>', answer.text, re.DOTALL)
    assert said in fault
    assert User.objects.get(pk=bob.pk).is_active


def test_an_account_never_does_more_under_its_new_owner_than_it_did(office, alice, bob, vera):
    above = ServiceAccountFactory(name="above", owner=vera, role=Role.objects.get(name="user"))  # does what a viewer may
    office.post(f"{LIST}/{vera.uid}/disable", {"fate": "transfer", "transfer_to": "alice@example.com"})
    above.refresh_from_db()
    assert (above.owner, above.role.name) == (alice, "viewer")


def test_roles_of_which_neither_contains_the_other_are_not_guessed(office, bob, pipeline):
    other = Role.objects.create(name="auditor", permissions=["audit:read"])
    UserFactory(username="olga@example.com", role=other)
    answer = office.post(f"{LIST}/{bob.uid}/disable", {"fate": "transfer", "transfer_to": "olga@example.com"})
    assert "Neither contains the other" in words(answer)
    pipeline.refresh_from_db()
    assert pipeline.owner == bob


def test_a_long_sheet_is_cut_and_what_is_decided_holds_for_all(office, bob):
    for account in ServiceAccountFactory.create_batch(60, owner=bob):
        make_token(account)
    sheet = words(office.get(f"{LIST}/{bob.uid}/delete"))
    assert "Service accounts of this user (60)" in sheet
    assert "Only the first of each are listed." in sheet
    office.post(f"{LIST}/{bob.uid}/delete", {"fate": "revoke"})
    assert not ServiceAccount.objects.filter(is_active=True).exists()


def test_the_page_of_a_user_shows_others_what_they_may_see(visit, bob, vera, pipeline):
    assert "pipeline" in visit(bob).get(f"{LIST}/{bob.uid}").text
    sheet = visit(vera).get(f"{LIST}/{bob.uid}").text
    assert "pipeline" not in sheet or "service-accounts:read" in vera.permissions
    assert "Recent activity" not in sheet
