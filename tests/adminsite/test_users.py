"""Users in the admin: every write calls the service, and a form with errors keeps the typed values."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import DeletedUser, RoleSource, ServiceAccount, SignIn, User
from audit.models import Entry
from rbac.models import Role
from tests.adminsite.browsing import changed, confirmation_on, fill, form_errors, form_of, messages_of
from tests.adminsite.conftest import Visit
from tests.factories import PASSWORD, UserFactory

LIST = "/admin/accounts/user/"
NEW_PASSWORD = "an entirely new secret"


def page(user: User, name: str = "change") -> str:
    """Return the URL of a user's page."""
    return reverse(f"admin:accounts_user_{name}", args=[user.pk])


def role(name: str) -> Role:
    return Role.objects.get(name=name)


def act(client: Client, action: str, *users: User, **more: str):
    """Run an action on the list."""
    return client.post(LIST, {"action": action, "_selected_action": [user.pk for user in users], **more})


def test_an_admin_creates_a_user_with_a_password(alice_browser: Client) -> None:
    response = fill(
        alice_browser, f"{LIST}add/", "user_form", username="Dora@Example.com", password=NEW_PASSWORD, role=role("viewer").pk
    )
    assert response.status_code == 302
    dora = User.objects.get(username="dora@example.com")
    assert (dora.role.name, dora.sign_in, dora.role_source) == ("viewer", SignIn.PASSWORD, RoleSource.MANUAL)
    assert dora.check_password(NEW_PASSWORD)
    entry = Entry.objects.get(event="user.created")
    assert (entry.actor, entry.method, entry.target) == ("alice@example.com", "session", "dora@example.com")


def test_promise_49_a_user_without_a_role_and_a_password_gets_the_least(alice_browser: Client, settings) -> None:
    settings.RBAC_DEFAULT_ROLE = "admin"
    assert "user (default)" in alice_browser.get(f"{LIST}add/").text
    assert fill(alice_browser, f"{LIST}add/", "user_form", username="dora@example.com").status_code == 302
    dora = User.objects.get(username="dora@example.com")
    assert (dora.sign_in, dora.role.name, dora.has_usable_password()) == (SignIn.SSO, "user", False)


@pytest.mark.parametrize(("sso", "warns"), [("off", True), ("plaintext", False)])
def test_a_user_who_cannot_sign_in_is_saved_with_a_warning(alice_browser: Client, settings, sso: str, warns: bool) -> None:
    settings.AUTH_USER_HEADER_FORMAT = sso
    response = fill(alice_browser, f"{LIST}add/", "user_form", username="dora@example.com")
    assert ("these users cannot sign in: dora@example.com" in messages_of(response)) is warns


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"username": "not a name"}, "username"),
        ({"username": "sa-x"}, "username"),
        ({"username": "alice@example.com"}, "username"),
        ({"username": "plain", "password": ""}, "username"),
        ({"password": "short"}, "password"),
        ({"sign_in": "password", "password": ""}, "password"),
        ({"email": "nonsense"}, "email"),
    ],
)
def test_an_invalid_user_form_keeps_the_typed_values_except_the_password(
    typed: dict[str, str], field: str, alice_browser: Client
) -> None:
    values = {"username": "dora@example.com", "display_name": "Dora D", "password": NEW_PASSWORD, **typed}
    response = fill(alice_browser, f"{LIST}add/", "user_form", **values)
    assert list(form_errors(response)) == [field]
    again = form_of(response, "user_form")
    assert again["display_name"] == ["Dora D"]
    assert again["username"] == [values["username"]]
    assert again["password"] == [""]
    assert NEW_PASSWORD not in response.content.decode()
    assert User.objects.count() == 1


def test_each_change_of_a_user_is_recorded(alice_browser: Client, bob: User) -> None:
    response = fill(alice_browser, page(bob), "user_form", role=role("viewer").pk, display_name="Bob B", is_active=None)
    assert response.status_code == 302
    bob.refresh_from_db()
    assert (bob.role.name, bob.display_name, bob.is_active) == ("viewer", "Bob B", False)
    recorded = [entry.data["new"] for entry in Entry.objects.filter(event="user.updated").order_by("id")]
    assert recorded == [
        {"email": "bob@example.com", "display_name": "Bob B", "sign_in": "both"},
        {"role": "viewer"},
        {"active": False},
    ]


def test_a_form_with_one_error_changes_nothing(alice_browser: Client, alice: User) -> None:
    response = fill(alice_browser, page(alice), "user_form", display_name="Queen", role=role("viewer").pk)
    assert "last active admin" in str(form_errors(response))
    assert form_of(response, "user_form")["display_name"] == ["Queen"]
    alice.refresh_from_db()
    assert (alice.display_name, alice.role.name) == ("", "admin")
    assert not Entry.objects.filter(event="user.updated").exists()


def test_an_outdated_form_does_not_undo_a_change_of_somebody_else(alice_browser: Client, bob: User) -> None:
    fields = form_of(alice_browser.get(page(bob)), "user_form")
    User.objects.filter(pk=bob.pk).update(role=role("viewer"), is_active=False)
    assert alice_browser.post(page(bob), changed(fields, display_name="Bob B")).status_code == 302
    bob.refresh_from_db()
    assert (bob.role.name, bob.is_active, bob.display_name) == ("viewer", False, "Bob B")


@pytest.mark.parametrize("typed", [{"is_active": None}, {"role": "viewer"}])
def test_the_form_cannot_disable_or_demote_the_last_admin(typed: dict, alice_browser: Client, alice: User) -> None:
    values = {name: role(value).pk if name == "role" else value for name, value in typed.items()}
    assert "last active admin" in str(form_errors(fill(alice_browser, page(alice), "user_form", **values)))
    alice.refresh_from_db()
    assert (alice.role.name, alice.is_active) == ("admin", True)


def test_the_disable_action_rejects_a_selection_with_the_last_admin(alice_browser: Client, alice: User, bob: User) -> None:
    assert "last active admin" in messages_of(act(alice_browser, "disable", alice, bob))
    assert User.objects.filter(is_active=True).count() == 2
    assert not Entry.objects.filter(event="user.updated").exists()


def test_the_role_action_cannot_demote_the_last_admin(alice_browser: Client, alice: User, bob: User) -> None:
    asked = act(alice_browser, "set_role", bob, alice)
    response = alice_browser.post(f"{LIST}set-role/", changed(form_of(asked, "step-form"), role=role("viewer").pk))
    assert "last active admin" in str(form_errors(response))
    assert {user.role.name for user in User.objects.all()} == {"admin", "user"}


@pytest.mark.parametrize("way", ["page", "action"])
def test_the_last_admin_cannot_be_deleted(way: str, alice_browser: Client, alice: User) -> None:
    if way == "page":
        response = alice_browser.post(page(alice, "delete"), {"post": "yes"})
    else:
        response = act(alice_browser, "delete_selected", alice, post="yes")
    assert "last active admin" in messages_of(response)
    assert User.objects.filter(pk=alice.pk).exists()


def test_actions_disable_enable_and_set_the_role_of_users(alice_browser: Client, bob: User, vera: User) -> None:
    assert "bob@example.com, vera@example.com" in messages_of(act(alice_browser, "disable", bob, vera))
    assert not User.objects.filter(pk__in=[bob.pk, vera.pk], is_active=True).exists()
    act(alice_browser, "enable", bob)
    asked = act(alice_browser, "set_role", bob, vera)
    assert b"vera@example.com" in asked.content
    asked = alice_browser.post(f"{LIST}set-role/", changed(form_of(asked, "step-form"), role=role("admin").pk))
    assert confirmation_on(asked).startswith("2 of 2: Change the role of bob@example.com from user to admin. This adds")
    alice_browser.post(f"{LIST}set-role/", changed(form_of(asked, "step-form"), confirmation=confirmation_on(asked)))
    assert User.objects.filter(role__name="admin").count() == 3
    assert User.objects.get(pk=bob.pk).is_active
    assert not User.objects.get(pk=vera.pk).is_active


def test_users_cannot_grant_more_than_they_have(manager: User, bob: User, alice: User, visit: Visit) -> None:
    browser = visit(manager)
    refused = fill(browser, page(bob), "user_form", role=role("admin").pk)
    assert "you lack" in str(form_errors(refused))
    refused = fill(browser, f"{LIST}add/", "user_form", username="eve", password=NEW_PASSWORD, role=role("admin").pk)
    assert "you lack" in str(form_errors(refused))
    refused = fill(browser, f"{LIST}set-role/?rows={manager.pk}", "step-form", role=role("admin").pk)
    assert "you lack" in str(form_errors(refused))
    refused = fill(browser, f"{LIST}set-password/?rows={alice.pk}", "step-form", password=NEW_PASSWORD)
    assert "you lack" in str(form_errors(refused))
    assert "you lack" in messages_of(act(browser, "disable", alice))
    assert "you lack" in messages_of(browser.post(page(alice, "delete"), {"post": "yes"}))
    assert list(User.objects.filter(role__name="admin", is_active=True)) == [alice]
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_the_delete_confirmation_of_a_user_lists_the_accounts_that_lose_their_owner(
    alice_browser: Client, bob: User, pipeline: ServiceAccount
) -> None:
    assert "The service account pipeline is kept, without an owner." in alice_browser.get(page(bob, "delete")).content.decode()
    assert "pipeline is kept" in act(alice_browser, "delete_selected", bob).content.decode()
    assert alice_browser.post(page(bob, "delete"), {"post": "yes"}).status_code == 302
    pipeline.refresh_from_db()
    assert pipeline.owner is None
    assert Entry.objects.get(event="user.deleted").data["service_accounts"] == ["pipeline"]


def test_setting_a_password_revokes_the_users_sessions_and_never_shows_it(alice_browser: Client, bob: User, visit: Visit) -> None:
    Role.objects.filter(name="user").update(permissions=[*role("user").permissions, "admin-site:use"])
    theirs = visit(bob)
    assert theirs.get("/admin/").status_code == 200
    url = f"{LIST}set-password/?rows={bob.pk}"
    refused = fill(alice_browser, url, "step-form", password="short")
    assert "password" in form_errors(refused)
    assert "short" not in str(form_of(refused, "step-form"))
    assert fill(alice_browser, url, "step-form", password=NEW_PASSWORD).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password(NEW_PASSWORD)
    assert theirs.get("/admin/").status_code == 302
    assert NEW_PASSWORD not in str(list(Entry.objects.values()))


def test_a_password_for_a_user_of_single_sign_on_asks_how_they_sign_in(alice_browser: Client, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)
    url = f"{LIST}set-password/?rows={bob.pk}"
    refused = fill(alice_browser, url, "step-form", password=NEW_PASSWORD)
    assert list(form_errors(refused)) == ["sign_in"]
    assert fill(alice_browser, url, "step-form", password=NEW_PASSWORD, sign_in="both").status_code == 302
    bob.refresh_from_db()
    assert (bob.sign_in, bob.check_password(NEW_PASSWORD)) == (SignIn.BOTH, True)


def test_a_session_of_a_disabled_user_is_rejected_on_the_next_request(alice_browser: Client, visit: Visit) -> None:
    carol = UserFactory(username="carol@example.com", role=role("admin"))
    theirs = visit(carol)
    assert theirs.get("/admin/").status_code == 200
    act(alice_browser, "disable", carol)
    assert theirs.get("/admin/").status_code == 302


def test_ones_own_password_is_changed_on_the_page_that_asks_for_the_current_one(alice: User, bob: User, visit: Visit) -> None:
    for rows in (f"{alice.pk}", f"{alice.pk},{alice.pk}", f"0{alice.pk}", f"{bob.pk},{alice.pk}"):
        assert visit(alice).get(f"{LIST}set-password/?rows={rows}")["Location"] == "/skyauth/password"
        typed = {"rows": rows, "password": "a-new-password-41", "sign_in": ""}
        assert visit(alice).post(f"{LIST}set-password/", typed)["Location"] == "/skyauth/password"
    assert visit(alice).post(f"{LIST}set-password/", {"rows": alice.pk, "password": NEW_PASSWORD}).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_a_step_without_existing_rows_shows_an_error(alice_browser: Client) -> None:
    for rows in ("", "x", "999", "1;2", "²"):
        assert "no longer exist" in messages_of(alice_browser.get(f"{LIST}set-role/", {"rows": rows}))


@pytest.mark.parametrize("way", ["one", "selected"])
@pytest.mark.parametrize("block", [True, False])
def test_the_confirmation_says_what_follows_at_single_sign_on_and_can_block_the_name(
    alice_browser: Client, bob: User, settings, way: str, block: bool
) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    asked = alice_browser.get(page(bob, "delete")) if way == "one" else act(alice_browser, "delete_selected", bob)
    assert "SkyAuth creates the user again, with at most the role user" in asked.content.decode()
    assert 'name="block"' in asked.content.decode()
    more = {"post": "yes", **({"block": "true"} if block else {})}
    alice_browser.post(page(bob, "delete"), more) if way == "one" else act(alice_browser, "delete_selected", bob, **more)
    assert not User.objects.filter(pk=bob.pk).exists()
    assert DeletedUser.objects.get(username=bob.username).blocked is block
