"""Actions on many rows: at most a page of them, because the transaction holds the lock of all other changes."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import ServiceAccount, Token, User
from adminsite.users import UserAdmin
from rbac.models import Role
from tests.adminsite.browsing import messages_of
from tests.factories import ServiceAccountFactory, UserFactory, make_token

MANY = UserAdmin.list_per_page + 1
TOO_MANY = f"An action applies to at most {UserAdmin.list_per_page} rows."


@pytest.fixture
def crowd(db: None) -> list[User]:
    """More users than a page of the list has."""
    return UserFactory.create_batch(MANY)


@pytest.mark.parametrize("action", ["disable", "set_role", "delete_selected"])
@pytest.mark.parametrize("selected", ["each row", "all pages"])
def test_an_action_on_more_rows_than_a_page_changes_nothing(
    alice_browser: Client, crowd: list[User], action: str, selected: str
) -> None:
    keys = [user.pk for user in crowd]
    chosen = {"_selected_action": keys} if selected == "each row" else {"_selected_action": keys[:1], "select_across": "1"}
    response = alice_browser.post("/admin/accounts/user/", {"action": action, "post": "yes", **chosen})
    assert TOO_MANY in messages_of(response)
    assert User.objects.filter(pk__in=keys, is_active=True).count() == MANY


def test_the_page_of_an_action_accepts_no_more_rows_than_the_list(alice_browser: Client, crowd: list[User]) -> None:
    rows = ",".join(str(user.pk) for user in crowd)
    viewer = Role.objects.get(name="viewer")
    assert TOO_MANY in messages_of(alice_browser.post("/admin/accounts/user/set-role/", {"rows": rows, "role": viewer.pk}))
    assert not User.objects.filter(role=viewer).exists()


def test_an_action_on_a_whole_page_is_made(alice_browser: Client, crowd: list[User]) -> None:
    keys = [user.pk for user in crowd[:-1]]
    assert "Disabled" in messages_of(alice_browser.post("/admin/accounts/user/", {"action": "disable", "_selected_action": keys}))
    assert User.objects.filter(pk__in=keys, is_active=False).count() == len(keys)


def test_the_list_does_not_offer_to_select_all_pages(alice_browser: Client, crowd: list[User]) -> None:
    page = alice_browser.get("/admin/accounts/user/").text
    assert "action-counter" in page  # the script of the page needs it
    assert "across all pages" not in page


def test_tokens_of_a_page_are_revoked_together(alice_browser: Client) -> None:
    account: ServiceAccount = ServiceAccountFactory()
    tokens = [make_token(account)[0] for _ in range(5)]
    rows = ",".join(str(token.pk) for token in tokens)
    assert "Token revoked" in messages_of(alice_browser.post("/admin/accounts/token/revoke/", {"rows": rows}))
    assert Token.objects.exclude(revoked_at=None).count() == len(tokens)


@pytest.mark.parametrize("path", ["audit/entry/", "accounts/serviceaccount/", "accounts/token/", "accounts/user/"])
def test_a_list_reads_no_values_of_the_whole_table(alice_browser: Client, crowd: list[User], path: str) -> None:
    """Counting is cheap, also with 100,000 rows. Choices of a filter, the first date or a join with all tokens are not."""
    with CaptureQueriesContext(connection) as queries:
        assert alice_browser.get(f"/admin/{path}").status_code == 200
    table = path.strip("/").replace("/", "_")
    listed = [query["sql"] for query in queries if f'FROM "{table}"' in query["sql"]]
    assert listed
    assert [sql for sql in listed if "DISTINCT" in sql or "MIN(" in sql or "GROUP BY" in sql] == []
