"""The OpenAPI document, with every error that an operation can return."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view

from api.base import NUMBER
from api.permissions import AUTHENTICATED
from core.problems import CONTENT_TYPE

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Always `about:blank`."},
        "title": {"type": "string", "description": "The phrase of the HTTP status."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "code": {"type": "string", "description": "A stable identifier of the error, for programs."},
        "detail": {"type": "string", "description": "What is wrong, for the user."},
        "errors": {
            "type": "object",
            "description": "What is wrong with each field: a list of messages by the name of the field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
        "failures": {
            "type": "array",
            "description": "The invalid lines of an import.",
            "items": {
                "type": "object",
                "required": ["line", "username", "error"],
                "properties": {
                    "line": {"type": "integer", "description": "The number of the line; the first is 1."},
                    "username": {"type": "string", "description": "The username in the line, or empty."},
                    "error": {"type": "string", "description": "What is wrong with the line."},
                },
            },
        },
    },
}
_MEANINGS = {
    400: "The request is invalid; `errors` names the fields and parameters, also those that the operation does not have.",
    401: "The credential is missing or invalid. The response does not say which.",
    403: "Your role does not have the permission, or the change would grant more than you have.",
    404: "Not found, or you are not allowed to see it.",
    406: "The `Accept` header names no media type that this operation returns.",
    409: "The change conflicts with the current state: the name is taken, this is the last admin, or the object is in use.",
    412: "The object was changed after you read it.",
    413: "The body is too large.",
    415: "The media type of the body is not accepted here.",
    422: "The `Idempotency-Key` was used with other content.",
    428: "The `If-Match` header is missing.",
    503: "SkyAuth cannot answer right now. Nothing was changed.",
}
PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}
_NUMBER = {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait before the next attempt."}}
_CHALLENGE = {
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "The accepted schemes (RFC 9110 section 11.6.1)."}
}

IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description='The ETag of the version that you have read, such as `"3"`, or `*` to accept any version.',
)
OPTIONAL_IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag that you have read. If it is not the current one, nothing is changed.",
)
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="The version of the object, for `If-Match`."
)
LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[201], description="The path of the created object."
)


def describe_list_and_retrieve(
    plural: str, singular: str, *, of_list: str, of_one: str, tagged: bool = False
) -> Callable[[type], type]:
    """Return the decorator that documents the inherited actions `list` and `retrieve` of a viewset."""
    return extend_schema_view(
        list=extend_schema(summary=f"List {plural}", description=of_list),
        retrieve=extend_schema(summary=f"Get {singular}", description=of_one, parameters=[ETAG] if tagged else None),
    )


def name_nullable_types(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the document with a type wherever a value can be null: `nullable` counts only beside `type` (OpenAPI 3.0.3)."""
    for component in result["components"]["schemas"].values():
        for schema in component.get("properties", {}).values():
            if schema.get("nullable") and "type" not in schema:
                schema["type"] = "object"
    return result


class Schema(AutoSchema):
    """Adds to each operation the errors that it can return, and to each parameter of the path its description."""

    def get_tags(self) -> list[str]:
        """Return the resource, which is the first part of the path after the version."""
        return [self._tokenize_path()[0]] if self._tokenize_path() else ["index"]

    def get_request_serializer(self) -> Any:
        """Return the body of the action, as the view names it in `bodies`."""
        return getattr(self.view, "bodies", {}).get(self._action())

    def get_override_parameters(self) -> list[Any]:
        """Return the parameters of the query of the action, as the view names them in `queries`."""
        query = getattr(self.view, "queries", {}).get(self._action())
        return [] if query is None else [query]

    def get_filter_backends(self) -> list[Any]:
        """Return the filters of a list. No other action has them, even if it returns several objects."""
        return list(getattr(self.view, "filter_backends", ())) if self._action() == "list" else []

    def _get_filter_parameters(self) -> list[dict[str, Any]]:
        """Return the parameters of the filters. An empty text filters by nothing, so it is an error (except in a search)."""
        parameters: list[dict[str, Any]] = super()._get_filter_parameters()  # type: ignore[no-untyped-call]
        for parameter in parameters:
            schema = parameter["schema"]
            if parameter["name"] != "search" and schema.get("type") == "string" and not schema.keys() & {"enum", "format"}:
                schema["minLength"] = 1
        return parameters

    def _action(self) -> str:
        return str(getattr(self.view, "action", ""))

    def _resolve_path_parameters(self, variables: Any) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super()._resolve_path_parameters(variables)  # type: ignore[no-untyped-call]
        descriptions = getattr(self.view, "path_descriptions", {})
        # As in the resource: the type that drf-spectacular derives from a pattern is always a string.
        number = {"schema": _NUMBER} if getattr(self.view, "lookup_value_regex", "") == NUMBER else {}
        return [
            {**parameter, **(number if parameter["name"] == "id" else {}), "description": descriptions.get(parameter["name"], "")}
            for parameter in parameters
        ]

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name="Problem", type=ResolvedComponent.SCHEMA, schema=_PROBLEM, object="Problem"
        )
        self.registry.register_on_missing(component)
        for status in sorted(self._error_statuses()):
            bodies.setdefault(
                str(status),
                {
                    "description": _MEANINGS[status],
                    "content": {CONTENT_TYPE: {"schema": component.ref}},
                    **({"headers": _CHALLENGE} if status == 401 else {"headers": _RETRY_AFTER} if status == 503 else {}),
                },
            )
        return bodies

    def _error_statuses(self) -> set[int]:
        """Return the status of every error that this operation can return."""
        statuses = {400, 401, 406, 503}  # 400: a parameter that the operation does not have, an unreadable header or body
        parameters = self._get_parameters()
        locations = {parameter["in"] for parameter in parameters}
        if "path" in locations or any(parameter["name"] == "page" for parameter in parameters):
            statuses.add(404)
        if self.method != "GET":
            statuses |= {403, 409}  # 403: the CSRF and origin checks
        if self.method in {"POST", "PATCH"}:
            statuses |= {413, 415}
        statuses |= {412 for parameter in parameters if parameter["name"] == "If-Match"}
        statuses |= {428 for parameter in parameters if parameter["name"] == "If-Match" and parameter.get("required")}
        statuses |= {422 for parameter in parameters if parameter["name"] == "Idempotency-Key"}
        needs = getattr(self.view, "needs", {})
        if needs.get(self._action()) is not AUTHENTICATED:
            statuses.add(403)
        return statuses | getattr(self.view, "refusals", frozenset())


class SecuritySchemes(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The sign-in methods of the API."""

    target_class = "api.authentication.PrincipalAuthentication"
    name = ["bearer", "basic", "session"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:  # noqa: ARG002 - its signature
        """Return the schemes, any one of which is enough."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:  # noqa: ARG002 - its signature
        """Return the definitions, in the order of `name`."""
        return [
            {"type": "http", "scheme": "bearer", "description": "The token of a service account."},
            {"type": "http", "scheme": "basic", "description": "The username and password of a user."},
            {
                "type": "apiKey",
                "in": "cookie",
                "name": settings.SESSION_COOKIE_NAME,
                "description": "The session of a browser. Changes also need the CSRF token, in the header `X-CSRFToken`.",
            },
        ]
