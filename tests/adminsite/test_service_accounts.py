"""Service accounts and tokens in the admin, above all that a new token is shown only once."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import token_format
from accounts.models import ServiceAccount, Session, Token, User
from audit.models import Entry
from authn import nonces
from authn.session_store import SessionStore
from rbac.models import Role
from tests.adminsite.browsing import changed, fill, form_errors, form_of, messages_of
from tests.adminsite.conftest import Visit
from tests.factories import ServiceAccountFactory, make_token, principal

LIST = "/admin/accounts/serviceaccount/"
TOKENS = "/admin/accounts/token/"


def page(account: ServiceAccount, name: str = "change") -> str:
    """Return the URL of an account's page."""
    return reverse(f"admin:accounts_serviceaccount_{name}", args=[account.pk])


def role(name: str) -> Role:
    return Role.objects.get(name=name)


def tokens_on(response) -> list[str]:
    """Return the tokens that a page shows."""
    text = response.content.decode()
    lines = [part.partition("</pre>")[0] for part in text.split('<pre class="secret">')[1:]]
    assert text.count("sky_") == len(lines)
    return lines


def is_stored(secret: str) -> bool:
    """Return whether a secret is in any row that a page can have written."""
    sessions = [SessionStore().decode(row.session_data) for row in Session.objects.all()]
    rows = [*Token.objects.values(), *Entry.objects.values(), *LogEntry.objects.values(), *sessions]
    return secret in str(rows)


def create_token(client: Client, account: ServiceAccount, **typed: object):
    """Create a token on the account's page."""
    return fill(client, f"{LIST}issue-token/?rows={account.pk}", "step-form", **typed)


def test_the_creator_owns_a_new_service_account_unless_the_form_names_another_owner(
    alice_browser: Client, alice: User, bob: User
) -> None:
    for name, typed, owner in (("hers", {}, alice), ("his", {"owner": bob.pk}, bob), ("nobodys", {"owner": ""}, None)):
        response = fill(alice_browser, f"{LIST}add/", "serviceaccount_form", name=name, role=role("viewer").pk, **typed)
        assert response.status_code == 302
        account = ServiceAccount.objects.get(name=name)
        assert (account.owner, account.role.name, account.created_by) == (owner, "viewer", "alice@example.com")


@pytest.mark.parametrize(
    ("typed", "field"),
    [({"name": "Not a name"}, "name"), ({"name": "pipeline"}, "name"), ({"name": "x", "role": "admin"}, "role")],
)
def test_an_invalid_service_account_form_keeps_the_typed_values(
    typed: dict, field: str, alice_browser: Client, bob: User, pipeline: ServiceAccount
) -> None:
    values = {**typed, "role": role(typed.get("role", "user")).pk, "description": "Nightly builds", "owner": bob.pk}
    response = fill(alice_browser, f"{LIST}add/", "serviceaccount_form", **values)
    assert list(form_errors(response)) == [field]
    again = form_of(response, "serviceaccount_form")
    assert (again["name"], again["description"], again["owner"]) == ([typed["name"]], ["Nightly builds"], [str(bob.pk)])
    assert ServiceAccount.objects.count() == 1


def test_an_admin_changes_a_service_account(alice_browser: Client, alice: User, pipeline: ServiceAccount) -> None:
    typed = {"role": role("viewer").pk, "description": "Nightly", "is_active": None, "owner": ""}
    assert fill(alice_browser, page(pipeline), "serviceaccount_form", **typed).status_code == 302
    pipeline.refresh_from_db()
    assert (pipeline.role.name, pipeline.description, pipeline.is_active, pipeline.owner) == ("viewer", "Nightly", False, None)


def test_an_outdated_form_does_not_enable_a_disabled_service_account(alice_browser: Client, pipeline: ServiceAccount) -> None:
    fields = form_of(alice_browser.get(page(pipeline)), "serviceaccount_form")
    ServiceAccount.objects.filter(pk=pipeline.pk).update(is_active=False, owner=None)
    assert alice_browser.post(page(pipeline), changed(fields, description="Nightly")).status_code == 302
    pipeline.refresh_from_db()
    assert (pipeline.is_active, pipeline.owner, pipeline.description) == (False, None, "Nightly")


def test_a_service_account_gets_no_more_than_its_owner_or_the_user_has(
    alice_browser: Client, manager: User, pipeline: ServiceAccount, visit: Visit
) -> None:
    assert "has fewer permissions than" in str(
        form_errors(fill(alice_browser, page(pipeline), "serviceaccount_form", role=role("admin").pk))
    )
    browser, orphan = visit(manager), ServiceAccountFactory(name="orphan")
    asked = fill(browser, f"{LIST}set-role/?rows={orphan.pk}", "step-form", role=role("admin").pk)
    assert "you lack" in str(form_errors(asked))
    assert "you lack" in str(form_errors(create_token(browser, orphan)))
    assert not Token.objects.exists()
    assert not ServiceAccount.objects.filter(role__name="admin").exists()


def test_actions_disable_enable_and_set_the_role_of_service_accounts(alice_browser: Client, pipeline: ServiceAccount) -> None:
    other = ServiceAccountFactory(name="other")
    picked = {"_selected_action": [pipeline.pk, other.pk]}
    alice_browser.post(LIST, {"action": "disable", **picked})
    assert not ServiceAccount.objects.filter(is_active=True).exists()
    alice_browser.post(LIST, {"action": "enable", **picked})
    assert ServiceAccount.objects.filter(is_active=True).count() == 2
    asked = alice_browser.post(LIST, {"action": "set_role", **picked})
    alice_browser.post(f"{LIST}set-role/", changed(form_of(asked, "step-form"), role=role("viewer").pk))
    assert ServiceAccount.objects.filter(role__name="viewer").count() == 2


@pytest.mark.usefixtures("pipeline_token")
def test_the_delete_confirmation_of_a_service_account_lists_its_tokens(alice_browser: Client, pipeline: ServiceAccount) -> None:
    assert "The token ci is deleted and rejected immediately." in alice_browser.get(page(pipeline, "delete")).content.decode()
    assert alice_browser.post(page(pipeline, "delete"), {"post": "yes"}).status_code == 302
    assert not ServiceAccount.objects.exists()
    assert not Token.objects.exists()
    assert Entry.objects.filter(event="service-account.deleted", target="pipeline").exists()


def test_promise_11_a_new_token_is_shown_by_one_response_only(alice_browser: Client, pipeline: ServiceAccount) -> None:
    asked = alice_browser.post(LIST, {"action": "create_token", "_selected_action": pipeline.pk})
    fields = form_of(asked, "step-form")
    assert fields["days"] == ["30"]
    sent = changed(fields, name="nightly")
    response = alice_browser.post(f"{LIST}issue-token/", sent)
    (secret,) = tokens_on(response)
    row = Token.objects.get()
    assert token_format.matches(token_format.parse(secret.encode()).digest, row.digest)
    assert row.name == "nightly"
    assert timedelta(days=29) < row.expires_at - timezone.now() <= timedelta(days=30)
    assert "no-store" in response["Cache-Control"]
    assert secret not in str(response.headers)
    assert not is_stored(secret)
    assert not is_stored(secret.split("_")[2])

    again = alice_browser.post(f"{LIST}issue-token/", sent)
    assert again.status_code == 302, "a reload sends the form again"
    assert "already used" in messages_of(again)
    assert Token.objects.count() == 1, "and must not make another token"
    pages = [f"{LIST}issue-token/", f"{LIST}issue-token/?rows={pipeline.pk}", page(pipeline), LIST, TOKENS, "/admin/"]
    pages += [reverse(f"admin:accounts_token_{name}", args=[row.pk]) for name in ("change", "history")]
    for url in pages:
        assert secret not in alice_browser.get(url, follow=True).content.decode(), url


@pytest.mark.parametrize("nonce", ["", "x", "a" * 32])
def test_promise_11_a_form_with_an_unknown_nonce_creates_no_token(
    nonce: str, alice_browser: Client, pipeline: ServiceAccount
) -> None:
    sent = {"rows": pipeline.pk, "nonce": nonce, "days": 30, "name": ""}
    assert "already used" in messages_of(alice_browser.post(f"{LIST}issue-token/", sent))
    assert not Token.objects.exists()


def test_promise_11_a_nonce_is_valid_once_for_one_user_and_one_purpose(alice: User, bob: User, time_machine) -> None:
    nonce = nonces.issue(principal(alice), "issue-token")
    assert not Session.objects.exists(), "a form that is only opened stores nothing"
    assert not nonces.consume(nonce, principal(bob), "issue-token")
    assert not nonces.consume(nonce, principal(alice), "rotate")
    assert nonces.consume(nonce, principal(alice), "issue-token")
    assert not nonces.consume(nonce, principal(alice), "issue-token")
    time_machine.move_to(timezone.now())
    old = nonces.issue(principal(alice), "issue-token")
    time_machine.shift(timedelta(seconds=nonces.LIFETIME_SECONDS - 1))
    SessionStore.clear_expired()
    assert not nonces.consume(nonce, principal(alice), "issue-token")
    time_machine.shift(timedelta(seconds=2))
    assert not nonces.consume(old, principal(alice), "issue-token")


@pytest.mark.parametrize("nonce", ["", ":", "a:b:c", "\ud800:a:b", "\x00", "é:é:é", "x" * 10_000])
def test_a_malformed_nonce_is_rejected(alice: User, nonce: str) -> None:
    assert not nonces.consume(nonce, principal(alice), "issue-token")


def test_a_nonce_is_not_a_session_key(client: Client, alice: User, settings) -> None:
    client.cookies[settings.SESSION_COOKIE_NAME] = nonces.issue(principal(alice), "issue-token")
    assert client.get("/admin/").status_code == 302


def test_a_form_with_an_error_can_be_sent_again(alice_browser: Client, pipeline: ServiceAccount, settings) -> None:
    settings.TOKEN_MAX_DAYS = 7
    url = f"{LIST}issue-token/?rows={pipeline.pk}"
    assert form_of(alice_browser.get(url), "step-form")["days"] == ["7"]
    refused = fill(alice_browser, url, "step-form", days=30, name="nightly")
    assert list(form_errors(refused)) == ["days"]
    again = form_of(refused, "step-form")
    assert again["name"] == ["nightly"]
    assert len(tokens_on(alice_browser.post(f"{LIST}issue-token/", changed(again, days=7)))) == 1


def test_tokens_for_several_service_accounts_are_created_together_or_not_at_all(
    alice_browser: Client, pipeline: ServiceAccount
) -> None:
    other = ServiceAccountFactory(name="other")
    asked = alice_browser.post(LIST, {"action": "create_token", "_selected_action": [pipeline.pk, other.pk]})
    refused = alice_browser.post(f"{LIST}issue-token/", changed(form_of(asked, "step-form"), days=99_999))
    assert list(form_errors(refused)) == ["days"]
    assert not Token.objects.exists()
    response = alice_browser.post(f"{LIST}issue-token/", form_of(refused, "step-form") | {"days": ["0"]})
    assert len(tokens_on(response)) == 2
    assert list(Token.objects.values_list("expires_at", flat=True)) == [None, None]


def test_promise_11_rotating_shows_the_new_token_once_and_revokes_the_old_one(
    alice_browser: Client, pipeline: ServiceAccount
) -> None:
    old, _ = make_token(pipeline)
    asked = alice_browser.post(TOKENS, {"action": "rotate", "_selected_action": old.pk})
    sent = form_of(asked, "step-form")
    assert sent["grace"] == ["86400"], "the old token stays valid for a day unless somebody decides otherwise"
    sent["grace"] = ["0"]
    response = alice_browser.post(f"{TOKENS}rotate/", sent)
    (secret,) = tokens_on(response)
    assert "no-store" in response["Cache-Control"]
    old.refresh_from_db()
    assert old.state() == "revoked"
    assert old.replaced_by.digest == token_format.digest(secret.encode())
    assert not is_stored(secret)
    assert "already used" in messages_of(alice_browser.post(f"{TOKENS}rotate/", sent))
    assert Token.objects.count() == 2


def test_rotating_with_a_grace_period_keeps_the_old_token_valid_for_that_long(
    alice_browser: Client, pipeline: ServiceAccount
) -> None:
    old, _ = make_token(pipeline)
    tokens_on(fill(alice_browser, f"{TOKENS}rotate/?rows={old.pk}", "step-form", grace=600, days=5))
    old.refresh_from_db()
    assert old.state() == "active"
    assert old.expires_at - timezone.now() <= timedelta(seconds=600)
    assert timedelta(days=4) < old.replaced_by.expires_at - timezone.now() <= timedelta(days=5)


def test_a_revoked_token_cannot_be_rotated(alice_browser: Client, pipeline: ServiceAccount) -> None:
    revoked, _ = make_token(pipeline, revoked_at=timezone.now())
    assert "already revoked or rotated" in str(
        form_errors(fill(alice_browser, f"{TOKENS}rotate/?rows={revoked.pk}", "step-form"))
    )
    assert Token.objects.count() == 1


@pytest.mark.parametrize("way", ["link", "action"])
def test_revoking_needs_a_confirmation_and_applies_immediately(way: str, alice_browser: Client, pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline)
    if way == "link":
        assert f'href="{TOKENS}revoke/?rows={token.pk}"' in alice_browser.get(page(pipeline)).content.decode()
        asked = alice_browser.get(f"{TOKENS}revoke/?rows={token.pk}")
    else:
        asked = alice_browser.post(TOKENS, {"action": "revoke", "_selected_action": token.pk})
    token.refresh_from_db()
    assert token.revoked_at is None, "opening the confirmation changes nothing"
    assert "pipeline/ci" in messages_of(alice_browser.post(f"{TOKENS}revoke/", form_of(asked, "step-form")))
    token.refresh_from_db()
    assert token.state() == "revoked"
    assert Entry.objects.get(event="token.revoked").data == {"key_id": token.key_id}


@pytest.mark.parametrize("state", ["active", "expired", "revoked"])
def test_tokens_are_filtered_by_state(state: str, alice_browser: Client, pipeline: ServiceAccount) -> None:
    make_token(pipeline, name="active")
    make_token(pipeline, name="expired", days=-1)
    make_token(pipeline, name="revoked", days=-1, revoked_at=timezone.now())
    rows = alice_browser.get(TOKENS, {"state": state}).context["cl"].result_list
    assert [(row.name, row.state()) for row in rows] == [(state, state)]


def test_the_list_shows_the_number_of_active_tokens_and_the_next_expiry(alice_browser: Client, pipeline: ServiceAccount) -> None:
    soon, _ = make_token(pipeline, days=2)
    make_token(pipeline, days=9, last_used_at=timezone.now())
    make_token(pipeline, days=-1)
    make_token(pipeline, days=1, revoked_at=timezone.now())
    (row,) = alice_browser.get(LIST).context["cl"].result_list
    assert (row.token_count, row.expiry, row.used is not None) == (2, soon.expires_at, True)


@pytest.mark.parametrize("way", ["add", "change", "delete", "delete_selected"])
def test_a_token_cannot_be_added_changed_or_deleted(way: str, alice_browser: Client, pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline)
    if way == "delete_selected":
        alice_browser.post(TOKENS, {"action": way, "_selected_action": token.pk, "post": "yes"})
    else:
        url = f"{TOKENS}add/" if way == "add" else reverse(f"admin:accounts_token_{way}", args=[token.pk])
        assert alice_browser.post(url, {"name": "x", "account": pipeline.pk, "post": "yes"}).status_code == 403
    assert [row.name for row in Token.objects.all()] == ["ci"]
    assert token.digest not in alice_browser.get(reverse("admin:accounts_token_change", args=[token.pk])).content.decode()


@pytest.mark.usefixtures("pipeline_token")
def test_service_accounts_read_shows_tokens_and_allows_no_change(pipeline: ServiceAccount, bob: User, visit: Visit) -> None:
    Role.objects.filter(name="user").update(permissions=["admin-site:use", "service-accounts:read"])
    browser = visit(bob)
    token = Token.objects.get()
    assert browser.get(TOKENS).status_code == 200
    assert "Create token" not in browser.get(page(pipeline)).content.decode()
    for url in (f"{TOKENS}rotate/", f"{TOKENS}revoke/"):
        assert browser.post(url, {"rows": token.pk, "grace": 0}).status_code == 403
    assert browser.post(f"{LIST}issue-token/", {"rows": pipeline.pk, "days": 30}).status_code == 403
    assert Token.objects.get().revoked_at is None
