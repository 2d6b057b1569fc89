"""One FilterSet for each resource: the REST API and the dashboard find the same rows for the same query."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import DeletedUser, ServiceAccount, User
from audit.models import Entry
from core.filters import MAX_SEARCH, MAX_WORDS, search_words
from rbac.models import Role
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token

PAGES = {
    "/users": ("/skyauth/users", "username"),
    "/service-accounts": ("/skyauth/service-accounts", "name"),
    "/deleted-users": ("/skyauth/users/deleted", "username"),
    "/group-roles": ("/skyauth/access/groups", "group"),
}


def found_by_both(caller: Api, path: str, api_query: dict[str, str], page_query: dict[str, str]) -> list[str]:
    """Return the names that the API finds, after comparing them with those on the dashboard's page."""
    address, field = PAGES[path]
    names = [row[field] for row in caller.get(path, **api_query).json()["results"]]
    response = caller.client.get(address, query_params=page_query)
    assert response.status_code == 200
    assert [getattr(row, field) for row in response.context["page"].rows] == names
    return names


@pytest.fixture
def dana(db: None) -> User:
    return UserFactory(username="dana", email="d.miller@example.org", display_name="Dana Müller (Ops)")


@pytest.mark.parametrize(
    "query",
    [
        "dana",
        "DANA",
        "d.miller",
        "Miller@Example.org",
        "example.org",
        "ops",
        "Dana Müller",
        "Ops dana",
        '"(Ops)"',
        "dana,ops",
        " dana ",
    ],
)
def test_the_same_search_finds_the_same_users_by_name_email_and_display_name(
    as_alice: Api, bob: User, dana: User, query: str
) -> None:
    assert found_by_both(as_alice, "/users", {"search": query}, {"q": query}) == ["dana"]


@pytest.mark.parametrize("upper", [False, True])
def test_the_same_search_finds_a_user_by_id(as_alice: Api, bob: User, dana: User, upper: bool) -> None:
    uid = dana.uid.upper() if upper else dana.uid
    assert found_by_both(as_alice, "/users", {"search": uid}, {"q": uid}) == ["dana"]


@pytest.mark.parametrize("query", ["dana bob", '"dana müller bob"', "Ops (dana) x", "%", "_"])
def test_every_word_of_a_search_must_match(as_alice: Api, bob: User, dana: User, query: str) -> None:
    assert found_by_both(as_alice, "/users", {"search": query}, {"q": query}) == []


def test_an_empty_search_finds_every_user(as_alice: Api, bob: User) -> None:
    for query in ("", " ", ","):
        names = found_by_both(as_alice, "/users", {"search": query}, {"q": query})
        assert names == ["alice@example.com", "bob@example.com"]


@pytest.mark.parametrize(
    ("api_query", "page_query", "expected"),
    [
        ({"role": "viewer"}, {"role": "viewer"}, ["vera@example.com"]),
        ({"active": "false"}, {"state": "disabled"}, ["mallory@example.com"]),
        ({"active": "true", "search": "bob"}, {"state": "active", "q": "bob"}, ["bob@example.com"]),
        ({"sign_in": "sso"}, {"sign_in": "sso"}, ["bob@example.com"]),
    ],
    ids=str,
)
def test_the_same_filter_finds_the_same_users(
    as_alice: Api, bob: User, vera: User, api_query: dict[str, str], page_query: dict[str, str], expected: list[str]
) -> None:
    UserFactory(username="mallory@example.com", is_active=False)
    User.objects.filter(pk=bob.pk).update(sign_in="sso")
    assert found_by_both(as_alice, "/users", api_query, page_query) == expected


@pytest.mark.parametrize(
    ("api_query", "page_query", "expected"),
    [
        ({"search": "PIPE"}, {"q": "PIPE"}, ["pipeline"]),
        ({"search": "nightly"}, {"q": "nightly"}, ["sweeper"]),
        ({"search": "bob@example.com"}, {"q": "bob@example.com"}, ["pipeline"]),
        ({"search": "bob@example"}, {"q": "bob@example"}, []),
        ({"role": "viewer"}, {"role": "viewer"}, ["sweeper"]),
        ({"active": "false"}, {"state": "disabled"}, ["stopped"]),
        ({"unowned": "true"}, {"owner": "nobody"}, ["stopped", "sweeper"]),
        ({"tokens": "never"}, {"tokens": "never"}, ["sweeper"]),
        ({"tokens": "none"}, {"tokens": "none"}, ["pipeline", "stopped"]),
        ({"tokens": "none", "unowned": "false"}, {"tokens": "none", "q": "pipeline"}, ["pipeline"]),
    ],
    ids=str,
)
def test_the_same_filter_finds_the_same_service_accounts(
    as_alice: Api, pipeline: ServiceAccount, api_query: dict[str, str], page_query: dict[str, str], expected: list[str]
) -> None:
    ServiceAccountFactory(name="stopped", is_active=False)
    sweeper = ServiceAccountFactory(name="sweeper", description="Nightly sweep", role=Role.objects.get(name="viewer"))
    make_token(sweeper, expires_at=None)
    assert found_by_both(as_alice, "/service-accounts", api_query, page_query) == expected


def test_a_service_account_is_found_by_id_and_by_its_owner(as_alice: Api, pipeline: ServiceAccount, alice: User) -> None:
    own = ServiceAccountFactory(name="own", owner=alice)
    assert found_by_both(as_alice, "/service-accounts", {"search": pipeline.uid}, {"q": pipeline.uid}) == ["pipeline"]
    assert found_by_both(as_alice, "/service-accounts", {"owner": alice.uid}, {"owner": "me"}) == [own.name]


def test_the_same_search_finds_the_same_groups(as_alice: Api) -> None:
    GroupRoleFactory(group="/Engineering/Backend")
    GroupRoleFactory(group="sales")
    for query in ("backend", "ENGIN", "backend engineering"):
        assert found_by_both(as_alice, "/group-roles", {"search": query}, {"q": query}) == ["/Engineering/Backend"]


def test_the_same_search_finds_the_same_audit_entries(as_alice: Api) -> None:
    Entry.objects.create(event="user.created", actor="tests", target="dana", reason="import", reference="abcDEF123456")
    Entry.objects.create(event="user.created", actor="tests", target="erin")
    for query in ("dana", "TESTS import", "abcDEF123456"):
        names = [row["target"] for row in as_alice.get("/audit-events", search=query).json()["results"]]
        page = as_alice.client.get("/skyauth/audit", query_params={"q": query})
        assert [entry.target for entry in page.context["page"].rows] == names == ["dana"]


def test_a_search_that_is_too_long_is_refused(as_alice: Api) -> None:
    words = "x " * MAX_SEARCH
    problem = api_client.problem(as_alice.get("/users", search=words), 400, "invalid")
    assert set(problem["errors"]) == {"search"}
    assert as_alice.get("/users", search=words[:MAX_SEARCH]).json()["count"] == 1


def test_a_search_has_a_limited_number_of_words(as_alice: Api) -> None:
    words = [f"e{n}" for n in range(MAX_WORDS + 1)]
    problem = api_client.problem(as_alice.get("/users", search=" ".join(words)), 400, "invalid")
    assert problem["errors"] == {"search": [f"The search has {MAX_WORDS + 1} words. It can have {MAX_WORDS}."]}
    assert as_alice.get("/users", search=" ".join(words[1:])).status_code == 200


def test_a_word_that_is_repeated_is_looked_for_once(as_alice: Api) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert as_alice.get("/users", search="e " * 200).json()["count"] == 1
    assert max(query["sql"].count("LIKE") for query in queries) <= 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" , ", []),
        ("one two", ["one", "two"]),
        ("one,two", ["one", "two"]),
        ('"one two" three', ["one two", "three"]),
        ("'one two'", ["one two"]),
        ('"', ['"']),
        ('"one', ['"one']),
    ],
)
def test_blanks_and_commas_separate_words_except_between_quotes(text: str, words: Any) -> None:
    assert list(search_words(text)) == words


@pytest.mark.parametrize(("query", "expected"), [("eve", ["eve@example.com"]), ("EVE@", ["eve@example.com"]), ("zoe", [])])
def test_the_same_search_finds_the_same_deleted_users(as_alice: Api, query: str, expected: list[str]) -> None:
    for name in ("eve", "dan"):
        DeletedUser.objects.create(username=f"{name}@example.com", role="user", blocked=name == "eve")
    assert found_by_both(as_alice, "/deleted-users", {"search": query}, {"q": query}) == expected
    assert as_alice.get("/deleted-users", blocked="true").json()["count"] == 1
