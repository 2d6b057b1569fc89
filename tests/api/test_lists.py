"""Lists: pages, filters, search and order; and a longer list needs no more queries."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import DeletedUser, ServiceAccount, User
from audit.models import Entry
from rbac.models import Role, Route
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token


def _users(n: int, role: Role) -> None:
    UserFactory.create_batch(n)


def _accounts(n: int, role: Role) -> None:
    for _ in range(n):
        ServiceAccountFactory(owner=UserFactory())


def _tokens(n: int, role: Role) -> None:
    account = ServiceAccount.objects.get(name="pipeline")
    newest = make_token(account)[0]
    for _ in range(n):
        make_token(account, replaced_by=newest)


def _roles(n: int, role: Role) -> None:
    Role.objects.bulk_create(Role(name=f"role{Role.objects.count() + i}", permissions=["upstream:read"]) for i in range(n))


def _groups(n: int, role: Role) -> None:
    for _ in range(n):
        GroupRoleFactory()


def _deleted(n: int, role: Role) -> None:
    first = DeletedUser.objects.count()
    DeletedUser.objects.bulk_create(DeletedUser(username=f"u{first + i}@example.com", role=role.name) for i in range(n))


def _routes(n: int, role: Role) -> None:
    first = Route.objects.count()
    Route.objects.bulk_create(
        Route(position=first + i, path=f"/{first + i}", methods=["*"], permission="upstream:read") for i in range(n)
    )


def _entries(n: int, role: Role) -> None:
    Entry.objects.bulk_create(Entry(event="user.created", actor="tests") for _ in range(n))


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("/users", _users),
        ("/users/export", _users),
        ("/deleted-users", _deleted),
        ("/service-accounts", _accounts),
        ("/service-accounts/{account}/tokens", _tokens),
        ("/roles", _roles),
        ("/group-roles", _groups),
        ("/routes", _routes),
        ("/audit-events", _entries),
    ],
)
def test_a_list_of_thirty_rows_needs_no_more_queries_than_one_of_three(
    as_alice: Api, pipeline: ServiceAccount, path: str, make: Any
) -> None:
    path = path.format(account=pipeline.uid)
    role = Role.objects.get(name="user")
    counts, lengths = [], []
    as_alice.get(path)  # updates last_seen_at, once a minute
    for more in (3, 27):
        make(more, role)
        with CaptureQueriesContext(connection) as queries:
            response = as_alice.get(path)
        assert response.status_code == 200
        counts.append(len(queries))
        lengths.append(len(response.content))
    assert lengths[1] > lengths[0] + 27 * 20
    assert counts[0] == counts[1]
    assert counts[0] <= 8


def test_following_the_pages_returns_every_row_once(as_alice: Api) -> None:
    UserFactory.create_batch(7)
    first = as_alice.get("/users", page_size=3).json()
    assert first["count"] == 8
    assert first["previous"] is None
    seen = [row["uid"] for row in first["results"]]
    following = first["next"]
    while following:
        page = as_alice.client.get(following).json()
        seen += [row["uid"] for row in page["results"]]
        following = page["next"]
    assert sorted(seen) == sorted(User.objects.values_list("uid", flat=True))


def test_a_page_has_a_thousand_rows_at_most(as_alice: Api) -> None:
    Role.objects.bulk_create(Role(name=f"r{n}") for n in range(1_010))
    assert len(as_alice.get("/roles", page_size=1_000).json()["results"]) == 1_000
    api_client.problem(as_alice.get("/roles", page_size=1_001), 400, "invalid")


@pytest.mark.parametrize("page", ["0", "99", "x", "-1"])
def test_a_page_that_does_not_exist_is_404(as_alice: Api, page: str) -> None:
    result = api_client.problem(as_alice.get("/users", page=page), 404, "not-found")
    assert result["detail"] == "page: There is no such page. The first page is 1; next contains the URL of the following one."


@pytest.mark.parametrize("path", ["/users", "/service-accounts", "/group-roles"])
def test_a_filter_by_a_role_that_does_not_exist_is_an_error_that_lists_the_roles(as_alice: Api, path: str) -> None:
    result = api_client.problem(as_alice.get(path, role="admn"), 400, "invalid")
    assert result["errors"] == {"role": ["There is no role named 'admn'. The roles are: admin, user, viewer."]}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"role": "viewer"}, ["vera@example.com"]),
        ({"active": "false"}, ["mallory@example.com"]),
        ({"active": "true", "role": "user"}, ["bob@example.com"]),
        ({"sign_in": "sso"}, ["vera@example.com"]),
        ({"search": "BUILDER"}, ["bob@example.com"]),
        ({"search": "alice"}, ["alice@example.com"]),
        (
            {"ordering": "-username"},
            ["vera@example.com", "mallory@example.com", "bob@example.com", "alice@example.com"],
        ),
        ({"ordering": "role"}, ["alice@example.com", "bob@example.com", "mallory@example.com", "vera@example.com"]),
    ],
    ids=str,
)
def test_users_are_filtered_searched_and_ordered(
    as_alice: Api, bob: User, vera: User, query: dict[str, str], expected: list[str]
) -> None:
    UserFactory(username="mallory@example.com", is_active=False)
    User.objects.filter(pk=bob.pk).update(display_name="Bob the builder")
    User.objects.filter(pk=vera.pk).update(sign_in="sso")
    assert [row["username"] for row in as_alice.get("/users", **query).json()["results"]] == expected


@pytest.mark.parametrize("query", [{"active": "maybe"}, {"sign_in": "carrier pigeon"}], ids=str)
def test_an_invalid_filter_value_is_an_error_and_not_ignored(as_alice: Api, query: dict[str, str]) -> None:
    result = api_client.problem(as_alice.get("/users", **query), 400, "invalid")
    assert set(result["errors"]) == set(query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"event": "user.created"}, ["one"]),
        ({"actor": "bob@example.com"}, ["two"]),
        ({"target": "x"}, ["two"]),
        ({"peer": "192.0.2.1"}, ["one"]),
        ({"since": "2026-02-01T00:00:00Z"}, ["two"]),
        ({"until": "2026-02-01T00:00:00Z"}, ["one"]),
        ({"search": "two"}, ["two"]),
        ({"ordering": "at"}, ["one", "two"]),
        ({}, ["two", "one"]),
    ],
    ids=str,
)
def test_audit_events_are_filtered(as_alice: Api, query: dict[str, str], expected: list[str]) -> None:
    Entry.objects.prune("2100-01-01T00:00:00Z", 1_000)  # type: ignore[arg-type]
    Entry.objects.create(at="2026-01-01T00:00:00Z", event="user.created", actor="alice", peer="192.0.2.1", reason="one")
    Entry.objects.create(at="2026-03-01T00:00:00Z", event="role.created", actor="bob@example.com", target="x", reason="two")
    assert [row["reason"] for row in as_alice.get("/audit-events", **query).json()["results"]] == expected


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        ("/audit-events", {"event": "user.creatd"}, "There is no event named 'user.creatd'. Did you mean user.created?"),
        ("/audit-events", {"event": "nonsense"}, "There is no event named 'nonsense'."),
        ("/service-accounts", {"owner": "nobody@example.com"}, "There is no user named 'nobody@example.com'."),
    ],
)
def test_a_mistyped_name_in_a_filter_is_an_error_and_no_empty_list(
    as_alice: Api, path: str, query: dict[str, str], text: str
) -> None:
    result = api_client.problem(as_alice.get(path, **query), 400, "invalid")
    assert result["errors"] == {next(iter(query)): [text]}


def test_an_event_that_only_an_older_version_recorded_can_be_filtered(as_alice: Api) -> None:
    Entry.objects.create(event="user.renamed", actor="tests")
    assert as_alice.get("/audit-events", event="user.renamed").json()["count"] == 1


def test_an_invalid_time_is_an_error_that_names_the_format(as_alice: Api) -> None:
    for since in ("yesterday", "2026-11-30T00:00:00 05:30"):  # a + that is not escaped arrives as a blank
        result = api_client.problem(as_alice.get("/audit-events", since=since), 400, "invalid")
        text = "Write the time as in 2026-11-30T13:00:00Z (ISO 8601). In a URL, + is written %2B."
        assert result["errors"] == {"since": [text]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/users", "role"),
        ("/service-accounts", "role"),
        ("/service-accounts", "owner"),
        ("/group-roles", "role"),
        ("/audit-events", "event"),
        ("/users", "sign_in"),
    ],
)
@pytest.mark.parametrize("value", ["%", "%s", "100%", "%(name)s", "%%", "{0}"])
def test_a_filter_that_names_nothing_is_an_error_also_with_a_percent_sign(
    as_alice: Api, path: str, name: str, value: str
) -> None:
    result = api_client.problem(as_alice.get(path, **{name: value}), 400, "invalid")
    assert value in result["errors"][name][0]


def test_a_time_with_an_extreme_offset_is_converted_to_utc(as_alice: Api) -> None:
    Entry.objects.create(event="user.created", actor="zoned", at="2026-03-01T12:00:00Z")
    for until, count in (("2026-02-28T18:00:00-18:09", 1), ("2026-02-28T17:00:00-18:09", 0)):
        assert as_alice.get("/audit-events", actor="zoned", until=until).json()["count"] == count
    api_client.problem(as_alice.get("/audit-events", until="0001-01-01T00:00:00+18:09"), 400, "invalid")
    api_client.problem(as_alice.get("/audit-events", since="9999-12-31T23:00:00-18:09"), 400, "invalid")


def test_service_accounts_are_filtered_by_owner(as_alice: Api, pipeline: ServiceAccount, bob: User) -> None:
    ServiceAccountFactory(name="orphan")
    result = as_alice.get("/service-accounts", owner=bob.uid).json()["results"]
    assert [row["name"] for row in result] == ["pipeline"]
    assert result[0]["owner_name"] == "bob@example.com"
