"""Which caller can use which operation of the API: one table with every operation."""

from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIRequestFactory

from accounts.models import User
from api.base import ApiViewSet
from api.docs import openapi_document
from api.urls import router
from tests.api import api_client
from tests.api.api_client import BASE, Api
from tests.api.world import BODIES, QUERIES, filled
from tests.factories import principal

# `{x}` are the rows of the fixture `world`; BODIES has the bodies of the requests.
MATRIX = """
    operation                                               alice  bob  vera  anonymous  pipeline  shared
    GET    /                                                  200  200   200        401       200     401
    GET    /whoami                                            200  200   200        401       200     401
    GET    /permissions                                       200  200   200        401       200     401
    GET    /openapi.json                                      200  200   200        401       200     401
    GET    /openapi.yaml                                      200  200   200        401       200     401
    GET    /docs                                              200  200   200        401       200     401

    GET    /users                                             200  200   200        401       200     401
    POST   /users                                             201  403   403        401       403     401
    GET    /users/{uid}                                       200  200   200        401       200     401
    PATCH  /users/{uid}                                       200  403   403        401       403     401
    DELETE /users/{uid}                                       204  403   403        401       403     401
    POST   /users/bulk-role                                   200  403   403        401       403     401
    POST   /users/import                                      200  403   403        401       403     401
    GET    /users/export                                      200  403   403        401       403     401
    POST   /users/me/password                                 204  204   204        401       403     401
    GET    /jobs/{job}                                        200  403   403        401       403     401
    GET    /deleted-users                                     200  200   200        401       200     401
    GET    /deleted-users/{gone}                              200  200   200        401       200     401
    PATCH  /deleted-users/{gone}                              200  403   403        401       403     401

    GET    /service-accounts                                  200  200   403        401       200     401
    POST   /service-accounts                                  201  201   403        401       201     401
    GET    /service-accounts/{account}                        200  200   403        401       200     401
    PATCH  /service-accounts/{account}                        200  200   403        401       200     401
    DELETE /service-accounts/{account}                        204  204   403        401       204     401
    GET    /service-accounts/{account}/tokens                 200  200   403        401       200     401
    POST   /service-accounts/{account}/tokens                 201  201   403        401       201     401
    GET    /service-accounts/{account}/tokens/{key_id}        200  200   403        401       200     401
    POST   /service-accounts/{account}/tokens/{key_id}/rotate 201  201   403        401       201     401
    POST   /service-accounts/{account}/tokens/{key_id}/revoke 200  200   403        401       200     401

    GET    /roles                                             200  200   200        401       200     401
    POST   /roles                                             201  403   403        401       403     401
    GET    /roles/{name}                                      200  200   200        401       200     401
    PATCH  /roles/{name}                                      200  403   403        401       403     401
    DELETE /roles/{name}                                      204  403   403        401       403     401
    GET    /group-roles                                       200  200   200        401       200     401
    POST   /group-roles                                       201  403   403        401       403     401
    GET    /group-roles/{group}                               200  200   200        401       200     401
    PATCH  /group-roles/{group}                               200  403   403        401       403     401
    DELETE /group-roles/{group}                               204  403   403        401       403     401

    GET    /routes                                            200  403   403        401       403     401
    POST   /routes                                            201  403   403        401       403     401
    GET    /routes/{route}                                    200  403   403        401       403     401
    PATCH  /routes/{route}                                    200  403   403        401       403     401
    DELETE /routes/{route}                                    204  403   403        401       403     401
    POST   /routes/reorder                                    200  403   403        401       403     401
    GET    /policy/packs                                      200  403   403        401       403     401
    GET    /policy/packs/{pack}                               200  403   403        401       403     401
    POST   /policy/packs/{pack}/load                          200  403   403        401       403     401
    GET    /policy/explain                                    200  403   403        401       403     401
    POST   /policy/explain                                    200  403   403        401       403     401
    GET    /policy/decisions/{decision}                       200  404   404        401       404     401

    GET    /audit-events                                      200  403   403        401       403     401
    GET    /audit-events/{entry}                              200  403   403        401       403     401
"""
CALLERS = ("alice", "bob", "vera", "anonymous", "pipeline", "shared")


@dataclass(frozen=True)
class Row:
    """One line of the table: an operation and the status that each caller gets."""

    operation: str
    expected: dict[str, int]

    @property
    def method(self) -> str:
        return self.operation.split()[0]

    @property
    def path(self) -> str:
        return self.operation.split()[1]


def rows() -> list[Row]:
    header, *lines = [line.split() for line in MATRIX.splitlines() if line.strip()]
    assert header[1:] == list(CALLERS)
    return [Row(f"{line[0]} {line[1]}", dict(zip(CALLERS, map(int, line[2:]), strict=True))) for line in lines]


@pytest.fixture
def callers(settings: Any, alice: User, bob: User, vera: User, pipeline_token: str) -> dict[str, Api]:
    settings.AUTH_STRING = "team:$2b$04$Z8LaLNaSAcaDvVq/th5ptOfR2FI2olIenWlY8FDcLPSKvpkapBW4y"
    return {
        "alice": api_client.session(alice),
        "bob": api_client.session(bob),
        "vera": api_client.session(vera),
        "anonymous": api_client.nobody(),
        "pipeline": api_client.bearer(pipeline_token),
        "shared": api_client.basic("team", "sharedpassword"),
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.operation)
def test_each_caller_gets_exactly_what_the_table_says(row: Row, world: dict[str, str], callers: dict[str, Api]) -> None:
    path = filled(row.path, world) + QUERIES.get(row.operation, "")
    body = filled(BODIES.get(row.operation), world)
    if row.path == "/routes/reorder":
        body = {"order": [int(world["route"])]}
    got = {}
    for name, api in callers.items():
        with transaction.atomic():
            response = api.request(row.method, path, body, if_match="*")
            transaction.set_rollback(True)
        got[name] = response.status_code
        if response.status_code >= 400:
            api_client.problem(response, response.status_code)
    assert got == row.expected


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.operation)
def test_an_operation_accepts_every_media_type_that_it_documents(
    row: Row, world: dict[str, str], callers: dict[str, Api]
) -> None:
    path = filled(row.path, world) + QUERIES.get(row.operation, "")
    body = {"order": [int(world["route"])]} if row.path == "/routes/reorder" else filled(BODIES.get(row.operation), world)
    for media_type in documented_media_types(row):
        with transaction.atomic():
            response = callers["alice"].request(row.method, path, body, if_match="*", accept=media_type)
            transaction.set_rollback(True)
        assert response.status_code == row.expected["alice"], media_type


def documented_media_types(row: Row) -> set[str]:
    """Return the media types of all responses of an operation, also of its errors."""
    paths = {_shape(path.removeprefix(BASE)): operations for path, operations in openapi_document()["paths"].items()}
    responses = paths.get(_shape(row.path), {}).get(row.method.lower(), {}).get("responses", {})
    return {media_type for response in responses.values() for media_type in response.get("content", {})}


def test_the_table_names_every_operation_of_the_openapi_document() -> None:
    document = SchemaGenerator().get_schema(request=None, public=True)
    documented = {
        (method.upper(), _shape(path.removeprefix(BASE)))
        for path, operations in document["paths"].items()
        for method in operations
        if method in {"get", "post", "put", "patch", "delete"}
    }
    tabled = {(row.method, _shape(row.path)) for row in rows()}
    assert documented - tabled == set()
    assert {path for _, path in tabled - documented} == {"/openapi.json", "/openapi.yaml", "/docs"}


def _shape(path: str) -> str:
    """Return a path with `{}` for each parameter: the document has other names for them."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


@pytest.mark.parametrize(("prefix", "viewset", "name"), router.registry, ids=lambda value: str(value))
def test_every_action_of_every_resource_declares_what_it_needs(prefix: str, viewset: type[ApiViewSet], name: str) -> None:
    actions = {action for route in router.get_routes(viewset) for action in route.mapping.values() if hasattr(viewset, action)}
    assert actions == set(viewset.needs)


def test_an_action_that_no_table_names_is_denied_to_the_admin_too(alice: User) -> None:
    class Forgotten(ApiViewSet):
        def list(self, request: Any) -> None:
            raise AssertionError("It ran.")

    request = APIRequestFactory().get("/")
    request.principal = principal(alice)
    response = Forgotten.as_view({"get": "list"})(request)
    api_client.problem(response, 403, "forbidden")
