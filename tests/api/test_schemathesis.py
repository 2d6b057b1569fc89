"""Schemathesis sends generated requests to every operation: no response is 5xx or undocumented."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import ServiceAccount, User
from api.docs import openapi_document
from audit.models import Entry
from rbac.models import Role, Route
from tests.examples import LONG, examples
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token

schema = schemathesis.openapi.from_dict(deepcopy(openapi_document()))
schema.app = get_wsgi_application()

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture
def _one_connection() -> Iterator[None]:
    """Keep the connection of the test's transaction at the end of each request, as Django's own test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def there(_one_connection: None, read_write: None, alice: User) -> dict[str, list[str]]:
    """Existing values for parameters of paths, and the token of an admin's service account."""
    account = ServiceAccountFactory(name="machine", role=Role.objects.get(name="admin"))
    pipeline = ServiceAccountFactory(name="pipeline", owner=UserFactory(username="bob@example.com"))
    Role.objects.create(name="ops", permissions=["upstream:read"])
    Entry.objects.create(event="user.created", actor="tests")
    return {
        "token": [make_token(account)[1]],
        "uid": [alice.uid, pipeline.uid],
        "account": [pipeline.uid],
        "key_id": [make_token(pipeline)[0].key_id],
        "name": ["ops", "viewer", "read-write"],
        "id": [str(GroupRoleFactory().pk), str(Route.objects.first().pk), str(Entry.objects.first().pk)],  # type: ignore[union-attr]
    }


@schema.parametrize()
@settings(
    max_examples=examples(3, long=300),
    derandomize=not LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_response_of_every_operation_is_documented_and_none_is_5xx(case: Any, there: dict[str, list[str]]) -> None:
    for name, values in there.items():
        if name in case.path_parameters:
            invented = str(case.path_parameters[name])
            fitting = [value for value in values if value.startswith("sa-") == ("service-accounts" in case.path)] or values
            case.path_parameters[name] = invented if len(invented) % 3 == 0 else fitting[len(invented) % len(fitting)]
    case.call_and_validate(headers={"Authorization": f"Bearer {there['token'][0]}"}, checks=CHECKS)
    assert ServiceAccount.objects.filter(name="machine").exists()
