"""A change of a user or a service account with If-Match is made only to the version that the client read."""

from typing import Any

import pytest

from accounts.models import ServiceAccount, User
from tests.api import api_client
from tests.api.api_client import Api


@pytest.fixture(params=["user", "service account"])
def path(request: pytest.FixtureRequest, bob: User, pipeline: ServiceAccount) -> str:
    return f"/users/{bob.uid}" if request.param == "user" else f"/service-accounts/{pipeline.uid}"


def test_what_is_sent_back_does_not_undo_a_change_that_the_client_did_not_see(as_alice: Api, path: str) -> None:
    read = as_alice.get(path)
    assert as_alice.patch(path, {"active": False}).json()["active"] is False
    result = api_client.problem(as_alice.patch(path, read.json(), if_match=read.headers["ETag"]), 412, "stale")
    assert result["detail"] == "This was changed after you read it. Read it again, then repeat your change."
    api_client.problem(as_alice.delete(path, if_match=read.headers["ETag"]), 412, "stale")
    again = as_alice.get(path)
    assert again.json()["active"] is False
    assert as_alice.patch(path, {"active": True}, if_match=again.headers["ETag"]).status_code == 200


def test_every_response_has_the_tag_of_the_version(as_alice: Api, path: str) -> None:
    tag = as_alice.get(path).headers["ETag"]
    changed = as_alice.patch(path, {"active": False}, if_match=tag)
    assert changed.headers["ETag"] == as_alice.get(path).headers["ETag"] != tag
    assert as_alice.patch(path, {}, if_match=changed.headers["ETag"]).headers["ETag"] == changed.headers["ETag"]
    assert as_alice.patch(path, {"active": True}).headers["ETag"] == tag
    assert as_alice.delete(path, if_match=tag).status_code == 204


@pytest.mark.parametrize(
    ("resource", "body"), [("/users", {"username": "new@example.com"}), ("/service-accounts", {"name": "another"})]
)
def test_what_was_created_can_be_changed_by_its_tag(as_alice: Api, resource: str, body: dict[str, Any]) -> None:
    created = as_alice.post(resource, body)
    path = created.headers["Location"].removeprefix(api_client.BASE)
    assert created.headers["ETag"] == as_alice.get(path).headers["ETag"]
    assert as_alice.patch(path, {"active": False}, if_match=created.headers["ETag"]).status_code == 200


def test_a_user_who_sends_requests_stays_the_same_version(as_alice: Api, bob: User) -> None:
    tag = as_alice.get(f"/users/{bob.uid}").headers["ETag"]
    User.objects.filter(pk=bob.pk).update(last_seen_at="2026-01-01T00:00:00Z")
    assert as_alice.patch(f"/users/{bob.uid}", {"display_name": "Bob"}, if_match=tag).status_code == 200


def test_a_change_without_if_match_is_made(as_alice: Api, path: str) -> None:
    for headers in ({}, {"if_match": "*"}):
        assert as_alice.patch(path, {"active": False}, **headers).status_code == 200
