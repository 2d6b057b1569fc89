"""One function records denied requests, whichever interface denied them."""

import re
from base64 import b64encode
from pathlib import Path

import pytest

from audit.models import Entry
from rbac.denials import record_denial
from rbac.models import Role
from rbac.principals import Kind, Method, Principal
from tests.factories import PASSWORD, UserFactory
from tests.test_house_rules import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
MALLORY = Principal(Kind.USER, "33333333", "mallory@example.com", method=Method.SESSION, peer="203.0.113.9")


@pytest.mark.django_db
def test_a_denial_is_recorded_with_the_caller_the_request_and_the_reason():
    reference = record_denial(MALLORY, "GET /skyauth/users", "This needs users:read.")
    entry = Entry.objects.get()
    assert (entry.event, entry.actor, entry.actor_uid, entry.method, entry.peer, entry.target, entry.reason) == (
        "request.denied",
        MALLORY.name,
        MALLORY.uid,
        "session",
        MALLORY.peer,
        "GET /skyauth/users",
        "This needs users:read.",
    )
    assert (entry.reference, len(reference)) == ("", 12), "without facts, nothing can be looked up by the id"


def test_no_other_module_records_denied_requests():
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    recorders = {name for name, text in texts.items() if re.search(r"record(_refusal)?\(\s*Event\.REQUEST_DENIED", text)}
    assert recorders == {"rbac/denials.py"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/skyauth/users", "/api/v1/users", "/metrics", "/users"])
def test_each_interface_records_a_denied_request_in_the_same_form(client, path):
    mallory = UserFactory(username="mallory@example.com", role=Role.objects.create(name="nobody"))
    credential = b64encode(f"{mallory.username}:{PASSWORD}".encode()).decode()
    response = client.get(path, headers={"Authorization": f"Basic {credential}"})
    assert response.status_code == 403
    entry = Entry.objects.filter(event="request.denied").get()
    assert (entry.actor, entry.method, entry.target) == (mallory.username, "basic", f"GET {path}")
    assert entry.reason
