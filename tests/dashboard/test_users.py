"""Users: the list, role changes, new users, disabling and deleting users with their accounts."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import DeletedUser, RoleSource, ServiceAccount, SignIn, Token, User
from audit.models import Entry
from rbac.models import Role
from tests.dashboard import forms
from tests.dashboard.test_pages import words
from tests.factories import ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

LIST = "/skyauth/users"


@pytest.fixture
def admin_browser(visit, alice):
    """A browser in which the admin alice is signed in."""
    return visit(alice)


def names(response):
    """Return the names in the list, in order."""
    return re.findall(r'<a href="/skyauth/users/[0-9a-f]+">([^<]+)</a>', response.text)


@pytest.mark.parametrize(
    ("query", "expected"),
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
def test_the_list_shows_the_users_that_match(admin_browser, bob, vera, query, expected):
    UserFactory(username="carol@example.com", display_name="Singer", is_active=False, sign_in=SignIn.SSO)
    User.objects.filter(pk=bob.pk).update(email="bob@elsewhere.example", last_seen_at=timezone.now() - timedelta(hours=2))
    response = admin_browser.get(f"{LIST}?{query}")
    assert response.status_code == 200
    assert names(response) == [f"{name}@example.com" for name in expected]
    assert ("No users match these filters" in response.text) == (expected == [])


def test_each_row_is_on_one_page_and_page_links_keep_the_filters(admin_browser):
    people = UserFactory.create_batch(120, is_active=False)
    seen = []
    path = f"{LIST}?state=disabled&sort=-name"
    while path:
        response = admin_browser.get(path)
        seen += names(response)
        following = re.search(r'rel="next"\s+href="([^"]+)"', response.text)
        path = following and LIST + following[1].replace("&amp;", "&")
        assert not path or "state=disabled" in path
    assert seen == sorted((person.username for person in people), reverse=True)
    assert "101\N{EN DASH}120 of 120 users" in words(response)


@pytest.mark.parametrize("query", ["", "sort=-seen", "q=person&page=3"])
def test_the_number_of_queries_is_the_same_for_ten_and_ten_thousand_users(admin_browser, query):
    role = Role.objects.get(name="user")
    UserFactory.create_batch(10)

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert admin_browser.get(f"{LIST}?{query}").status_code == 200
        return sum(query["sql"].startswith("SELECT") for query in queries.captured_queries)

    count()
    few = count()
    User.objects.bulk_create(
        [User(username=f"person{n}@big.example", uid=f"f{n:07x}", role=role, sign_in=SignIn.SSO) for n in range(10_000)]
    )
    assert count() == few
    assert few <= 14


def test_without_users_write_there_are_no_controls_and_posts_are_denied(visit, bob, vera):
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


def test_an_admin_with_fewer_permissions_cannot_manage_users_above(visit, alice, bob):
    helper = Role.objects.create(name="helpdesk", permissions=["users:read", "users:write", "upstream:read", "upstream:write"])
    hanna = UserFactory(username="hanna@example.com", role=helper)
    browser = visit(hanna)
    text = browser.get(LIST).text
    assert f'id="role-{alice.uid}"' not in text
    assert '<option value="admin"' not in text.split("<tbody>")[1]
    for uid, role in ((alice.uid, "viewer"), (bob.uid, "admin")):
        assert browser.post(f"{LIST}/role", {"uid": uid, "role": role}).status_code == 403
        assert browser.get(f"{LIST}/role", {"uid": uid, "role": role}).status_code == 403
    assert browser.post(f"{LIST}/{alice.uid}/delete", {}).status_code == 403
    assert "has permissions that you do not have" in browser.get(f"{LIST}/{alice.uid}/delete").text
    alice.refresh_from_db()
    assert alice.role.name == "admin"


def confirm(browser, uids, role, back=""):
    """Open the page that asks for a role change, and press its button; return the response."""
    asked = browser.get(f"{LIST}/role", {"uid": uids, "role": role, "back": back})
    assert asked.status_code == 200, asked.get("Location")
    return browser.post(f"{LIST}/role", forms.fields_of(asked.text), follow=True)


def test_a_role_change_is_asked_by_name_and_performed_by_the_next_post(admin_browser, bob):
    asked = admin_browser.get(f"{LIST}/role?uid={bob.uid}&role=viewer&back={LIST}?q=b")
    assert "Change the role of bob@example.com from user to viewer?" in words(asked)
    assert "administrative" not in words(asked)
    bob.refresh_from_db()
    assert bob.role.name == "user"
    response = admin_browser.post(f"{LIST}/role", forms.fields_of(asked.text), follow=True)
    assert response.redirect_chain == [(f"{LIST}?q=b", 302)]
    assert "The role of bob@example.com was changed from user to viewer." in response.text
    bob.refresh_from_db()
    assert (bob.role.name, bob.role_source) == ("viewer", RoleSource.MANUAL)
    entry = Entry.objects.get(event="user.updated")
    assert (entry.actor, entry.data) == ("alice@example.com", {"old": {"role": "user"}, "new": {"role": "viewer"}})


def test_an_administrative_role_stands_out_in_every_list_of_roles_and_when_it_is_asked_for(admin_browser, bob, pipeline):
    asked = words(admin_browser.get(f"{LIST}/role?uid={bob.uid}&role=admin"))
    assert "admin is an administrative role." in asked
    assert "Create, change and delete users. users:write" in asked
    for page in (
        LIST,
        f"{LIST}/{bob.uid}",
        f"{LIST}/new",
        f"/skyauth/service-accounts/{pipeline.uid}",
        "/skyauth/access/groups/new",
    ):
        text = admin_browser.get(page).text
        assert re.search(r'<option value="admin"\s*(selected)?>admin \(administrative\)</option>', text), page
        assert re.search(r'<option value="viewer"\s*(selected)?>viewer</option>', text), page


@pytest.mark.parametrize("sent", [{}, {"seen": ""}, {"seen": "0123456789abcdef"}])
def test_promise_55_a_post_that_confirms_nothing_changes_no_role(admin_browser, bob, vera, sent):
    for uids in ([bob.uid], [bob.uid, vera.uid]):
        response = admin_browser.post(f"{LIST}/role", {"uid": uids, "role": "admin", **sent})
        assert "to admin?" in words(response)
    assert not User.objects.filter(pk__in=[bob.pk, vera.pk], role__name="admin").exists()


@pytest.mark.parametrize("late", ["another old role", "another new role", "another user"])
def test_a_confirmation_is_for_what_it_named_and_nothing_else(admin_browser, bob, vera, late):
    sent = forms.fields_of(admin_browser.get(f"{LIST}/role?uid={bob.uid}&role=viewer").text)
    if late == "another old role":
        User.objects.filter(pk=bob.pk).update(role=Role.objects.create(name="other", permissions=["upstream:read"]))
    sent |= {"another new role": {"role": "admin"}, "another user": {"uid": [bob.uid, vera.uid]}}.get(late, {})
    before = dict(User.objects.values_list("username", "role__name"))
    assert "the roles differ from those that you confirmed" in words(admin_browser.post(f"{LIST}/role", sent))
    assert dict(User.objects.values_list("username", "role__name")) == before


def test_promise_55_a_confirmation_is_asked_again_when_the_role_has_got_more_permissions_since(admin_browser, bob):
    helper = Role.objects.create(name="helper", permissions=["upstream:read"])
    sent = forms.fields_of(admin_browser.get(f"{LIST}/role?uid={bob.uid}&role=helper").text)
    helper.permissions = ["upstream:read", "users:write"]
    helper.save()
    assert "users:write" in words(admin_browser.post(f"{LIST}/role", sent))
    bob.refresh_from_db()
    assert bob.role.name == "user"


def test_the_page_says_that_a_user_already_has_the_role(admin_browser, bob):
    asked = words(admin_browser.get(f"{LIST}/role?uid={bob.uid}&role=user"))
    assert "bob@example.com already has the role user" in asked
    assert "from user to user" not in asked


def test_without_a_role_the_page_offers_the_roles(admin_browser, bob):
    asked = admin_browser.get(f"{LIST}/role?uid={bob.uid}")
    assert "Change the role of bob@example.com" in words(asked)
    assert set(re.findall(r'<option value="(\w+)"', asked.text)) == {"admin", "user", "viewer"}


def test_promise_33_the_last_admin_stays_with_an_error_message(admin_browser, alice):
    assert "alice@example.com is the last active admin. Give another user" in confirm(admin_browser, alice.uid, "viewer").text
    for path in ("disable", "delete"):
        response = admin_browser.post(f"{LIST}/{alice.uid}/{path}", {"role": "user"}, follow=True)
        assert "is the last active admin" in response.text
    alice.refresh_from_db()
    assert (alice.role.name, alice.is_active) == ("admin", True)


def test_a_bulk_change_names_every_user_and_lists_those_that_failed(admin_browser, alice, bob, vera):
    asked = words(admin_browser.get(f"{LIST}/role", {"uid": [bob.uid, vera.uid], "role": "admin"}))
    assert "Change the role of 2 users to admin?" in asked
    assert "bob@example.com user admin vera@example.com viewer admin" in asked
    response = confirm(admin_browser, [bob.uid, vera.uid], "viewer", f"{LIST}?q=x")
    assert response.redirect_chain == [(f"{LIST}?q=x", 302)]
    assert "2 users now have the role viewer." in response.text
    response = confirm(admin_browser, [alice.uid, bob.uid], "user")
    assert "Some users did not get the role user" in response.text
    assert re.search(r"alice@example.com.*last active admin.*Changed.*bob@example.com", words(response))
    roles = dict(User.objects.values_list("username", "role__name"))
    assert roles == {"alice@example.com": "admin", "bob@example.com": "user", "vera@example.com": "viewer"}


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"role": "viewer"}, "Select at least one user."),
        ({"uid": "f", "role": "user"}, "does not exist any more"),
        ({"uid": "BOB", "role": "nonsense"}, "no role named"),
        ({"uid": [f"f{n}" for n in range(51)], "role": "user"}, "at most 50"),
    ],
)
def test_an_invalid_role_change_is_a_message_in_the_list(admin_browser, bob, method, sent, message):
    sent = {name: bob.uid if value == "BOB" else value for name, value in sent.items()}
    response = getattr(admin_browser, method)(f"{LIST}/role", sent, follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    assert message in response.text


def test_a_user_is_created_and_signs_in(admin_browser, client):
    sent = {"username": "Dora@Example.com", "display_name": "Dora", "role": "viewer", "password": "an entirely new secret"}
    response = admin_browser.post(f"{LIST}/new", sent, follow=True)
    assert "The user dora@example.com was created with the role viewer." in response.text
    made = User.objects.get(username="dora@example.com")
    assert (made.sign_in, made.role.name, made.display_name) == (SignIn.PASSWORD, "viewer", "Dora")
    assert client.post("/sign-in", {"username": made.username, "password": sent["password"]}).status_code == 302


@pytest.mark.parametrize(("sso", "warns"), [("off", True), ("plaintext", False)])
def test_a_user_who_cannot_sign_in_is_created_with_a_warning(admin_browser, settings, sso, warns):
    settings.AUTH_USER_HEADER_FORMAT = sso
    page = admin_browser.post(f"{LIST}/new", {"username": "eve@example.com", "role": "viewer"}, follow=True)
    assert ("these users cannot sign in: eve@example.com" in words(page)) is warns


@pytest.mark.parametrize(("setting", "selected"), [("admin", "user"), ("first-admin", "user"), ("viewer", "viewer")])
def test_promise_49_the_form_for_a_new_user_preselects_the_least_role(admin_browser, settings, setting, selected):
    settings.RBAC_DEFAULT_ROLE = setting
    form = admin_browser.get(f"{LIST}/new").text
    assert re.findall(r'<option value="(\w+)" selected>', form) == [selected]
    assert admin_browser.post(f"{LIST}/new", {"username": "eve@example.com", "role": ""}).status_code == 422


@pytest.mark.parametrize(
    ("sent", "field", "message"),
    [
        ({"username": "bob@example.com"}, "username", "already exists"),
        ({"username": ""}, "username", "required"),
        ({"username": " padded@example.com"}, "username", ""),
        ({"username": "plain"}, "username", "set a password"),
        ({"username": "eve@example.com", "password": "short"}, "password", "too short"),
        ({"username": "eve@example.com", "role": "nonsense"}, "role", "not one of the available"),
    ],
)
def test_errors_of_a_new_user_are_next_to_their_fields(admin_browser, bob, sent, field, message):
    before = User.objects.count()
    response = admin_browser.post(f"{LIST}/new", {"role": "viewer", **sent})
    assert response.status_code == 422
    [error] = re.findall(rf'id="id_{field}-error">(.*?)</p>', response.text, re.DOTALL)
    assert message in error
    assert f'aria-describedby="id_{field}-' in response.text or f'id_{field}-error"' in response.text
    assert "short" not in response.text.replace("too short", "")
    assert User.objects.count() == before


def test_profile_and_password_forms_save_or_show_errors_next_to_fields(admin_browser, bob):
    page = f"{LIST}/{bob.uid}"
    response = admin_browser.post(
        f"{page}/profile", {"display_name": "Bobby", "email": "bobby@example.com", "sign_in": "both"}, follow=True
    )
    assert response.redirect_chain == [(page, 302)]
    bob.refresh_from_db()
    assert (bob.display_name, bob.email) == ("Bobby", "bobby@example.com")
    response = admin_browser.post(f"{page}/profile", {"display_name": "B", "email": "no address", "sign_in": "both"})
    assert response.status_code == 422
    assert 'id="profile_email-error"' in response.text
    response = admin_browser.post(f"{page}/password", {"password": "short"})
    assert 'id="password_password-error"' in response.text
    old = bob.password
    admin_browser.post(f"{page}/password", {"password": "an entirely new secret"})
    bob.refresh_from_db()
    assert bob.password != old
    assert bob.check_password("an entirely new secret")


def test_a_password_for_a_user_of_single_sign_on_asks_how_they_sign_in(admin_browser, bob):
    page, sent = f"{LIST}/{bob.uid}", {"password": "an entirely new secret"}
    assert "password_sign_in" not in admin_browser.get(page).text
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)
    assert "bob@example.com signs in through single sign-on" in words(admin_browser.get(page))
    refused = admin_browser.post(f"{page}/password", sent)
    assert (refused.status_code, 'id="password_sign_in-error"' in refused.text) == (422, True)
    assert User.objects.get(pk=bob.pk).sign_in == SignIn.SSO
    done = admin_browser.post(f"{page}/password", {**sent, "sign_in": "both"}, follow=True)
    assert "can now sign in by password or single sign-on" in words(done)
    assert User.objects.get(pk=bob.pk).sign_in == SignIn.BOTH


def test_a_disabled_user_is_signed_out_and_can_be_enabled_again(admin_browser, visit, bob, pipeline, pipeline_token):
    his_browser = visit(bob)
    page = admin_browser.get(f"{LIST}/{bob.uid}/disable")
    for text in ("pipeline", pipeline_token.split("_")[1], "1 active session"):
        assert text in words(page)
    admin_browser.post(f"{LIST}/{bob.uid}/disable", {"fate": "stay"})
    assert his_browser.get("/skyauth/").status_code == 302
    bob.refresh_from_db()
    pipeline.refresh_from_db()
    assert (bob.is_active, pipeline.is_active, pipeline.owner) == (False, True, bob)
    response = admin_browser.post(f"{LIST}/{bob.uid}/enable", follow=True)
    assert "is enabled" in response.text


@pytest.mark.parametrize("step", ["disable", "delete"])
def test_service_accounts_are_transferred_with_their_tokens(admin_browser, alice, bob, vera, pipeline, pipeline_token, step):
    admin_browser.post(f"{LIST}/{bob.uid}/{step}", {"fate": "transfer", "transfer_to": "alice@example.com"})
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active, pipeline.role.name) == (alice, True, "user")
    assert Token.objects.get(account=pipeline).revoked_at is None
    assert User.objects.filter(pk=bob.pk, is_active=True).exists() is False


@pytest.mark.parametrize("step", ["disable", "delete"])
def test_service_accounts_are_disabled_and_their_tokens_revoked(admin_browser, bob, pipeline, pipeline_token, step):
    make_token(pipeline)
    admin_browser.post(f"{LIST}/{bob.uid}/{step}", {"fate": "revoke"})
    pipeline.refresh_from_db()
    assert not pipeline.is_active
    assert not Token.objects.filter(revoked_at=None).exists()
    assert Entry.objects.filter(event="token.revoked").count() == 2


def test_accounts_can_stay_active_without_an_owner(admin_browser, bob, pipeline, pipeline_token):
    response = admin_browser.post(f"{LIST}/{bob.uid}/delete", {"fate": "stay"}, follow=True)
    assert "bob@example.com was deleted." in response.text
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active) == (None, True)


@pytest.mark.parametrize(
    ("sent", "field", "message"),
    [
        ({}, "fate", "required"),
        ({"fate": "transfer"}, "transfer_to", "Name the user"),
        ({"fate": "transfer", "transfer_to": "nobody"}, "transfer_to", "no user named"),
        ({"fate": "transfer", "transfer_to": "bob@example.com"}, "transfer_to", "who leaves"),
        ({"fate": "transfer", "transfer_to": "gone@example.com"}, "transfer_to", "is disabled"),
    ],
)
@pytest.mark.parametrize("step", ["disable", "delete"])
def test_an_invalid_new_owner_is_an_error_and_nothing_is_changed(admin_browser, bob, pipeline, step, sent, field, message):
    UserFactory(username="gone@example.com", is_active=False)
    response = admin_browser.post(f"{LIST}/{bob.uid}/{step}", sent)
    assert response.status_code == 422
    [error] = re.findall(rf'id="id_{field}-error">(.*?)</p>', response.text, re.DOTALL)
    assert message in error
    assert User.objects.get(pk=bob.pk).is_active


def test_a_transferred_account_gains_no_permissions(admin_browser, alice, bob, vera):
    above = ServiceAccountFactory(name="above", owner=vera, role=Role.objects.get(name="user"))  # does what a viewer may
    admin_browser.post(f"{LIST}/{vera.uid}/disable", {"fate": "transfer", "transfer_to": "alice@example.com"})
    above.refresh_from_db()
    assert (above.owner, above.role.name) == (alice, "viewer")


def test_a_transfer_between_unrelated_roles_is_an_error(admin_browser, bob, pipeline):
    other = Role.objects.create(name="auditor", permissions=["audit:read"])
    UserFactory(username="olga@example.com", role=other)
    response = admin_browser.post(f"{LIST}/{bob.uid}/disable", {"fate": "transfer", "transfer_to": "olga@example.com"})
    assert "Neither contains the other" in words(response)
    pipeline.refresh_from_db()
    assert pipeline.owner == bob


def test_a_long_list_is_shortened_and_the_choice_applies_to_all(admin_browser, bob):
    for account in ServiceAccountFactory.create_batch(60, owner=bob):
        make_token(account)
    page = words(admin_browser.get(f"{LIST}/{bob.uid}/delete"))
    assert "Service accounts of this user (60)" in page
    assert "Only the first of each are listed." in page
    admin_browser.post(f"{LIST}/{bob.uid}/delete", {"fate": "revoke"})
    assert not ServiceAccount.objects.filter(is_active=True).exists()


def test_the_page_of_a_user_shows_only_what_the_viewer_can_read(visit, bob, vera, pipeline):
    assert "pipeline" in visit(bob).get(f"{LIST}/{bob.uid}").text
    page = visit(vera).get(f"{LIST}/{bob.uid}").text
    assert "pipeline" not in page or "service-accounts:read" in vera.permissions
    assert "Recent activity" not in page


# A deleted user who can return through single sign-on


def test_the_deletion_of_a_user_of_single_sign_on_says_what_follows_and_asks(admin_browser, bob, settings):
    path = f"{LIST}/{bob.uid}/delete"
    assert "single sign-on" not in words(admin_browser.get(path)).lower()
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    page = admin_browser.get(path)
    assert "SkyAuth creates the user again, with at most the role user" in words(page)
    assert f'href="{LIST}/{bob.uid}/disable"' in page.text
    response = admin_browser.post(path, {})
    assert (response.status_code, "This field is required" in words(response)) == (422, True)
    assert User.objects.filter(pk=bob.pk).exists()


@pytest.mark.parametrize(("choice", "blocked"), [("true", True), ("false", False)])
def test_a_deleted_user_can_be_blocked_and_unblocked(admin_browser, visit, bob, vera, settings, choice, blocked):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    response = admin_browser.post(f"{LIST}/{bob.uid}/delete", {"block": choice}, follow=True)
    assert ("Single sign-on refuses the name." in words(response)) is blocked
    row = DeletedUser.objects.get()
    assert (row.username, row.blocked) == ("bob@example.com", blocked)
    page = admin_browser.get(f"{LIST}/deleted")
    assert ("Unblock name" if blocked else "Block name") in page.text
    response = admin_browser.post(f"{LIST}/deleted/{row.pk}", {"blocked": str(not blocked).lower()}, follow=True)
    assert f"The name bob@example.com is {'not ' if blocked else ''}blocked" in words(response)
    assert DeletedUser.objects.get().blocked is not blocked
    reader = visit(vera)
    assert "bob@example.com" in reader.get(f"{LIST}/deleted").text
    assert "lock name</button>" not in re.sub(r"\\s+<", "<", reader.get(f"{LIST}/deleted").text)
    assert reader.post(f"{LIST}/deleted/{row.pk}", {"blocked": "true"}).status_code == 403


def test_the_list_of_deleted_users_can_be_empty(admin_browser):
    assert "No deleted users" in words(admin_browser.get(f"{LIST}/deleted"))
    assert admin_browser.post(f"{LIST}/deleted/7", {"blocked": "true"}).status_code == 404
    DeletedUser.objects.create(username="bob@example.com", role="user")
    assert "No deleted users match this filter" in words(admin_browser.get(f"{LIST}/deleted?q=zzz"))
