"""The OpenAPI document, with every refusal that an operation can answer."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter

from api.permissions import ANYBODY
from core.problems import CONTENT_TYPE

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "A stable word for programs."},
        "detail": {"type": "string", "description": "A sentence for people."},
        "errors": {
            "type": "object",
            "description": "What is wrong with which field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
_MEANINGS = {
    400: "What was sent cannot be accepted; `errors` names the fields.",
    401: "No credential, or a bad one; which, is not told.",
    403: "Your role does not hold what this needs, or you would give away more than you hold.",
    404: "There is no such thing, or you may not see it.",
    406: "The answer has none of the media types that Accept names.",
    409: "It would break what must hold: a taken name, the last admin, something still in use.",
    412: "Somebody else changed it since you read it.",
    413: "The body is too large.",
    415: "The body has a media type that is not accepted here.",
    428: "If-Match is missing.",
    503: "SkyAuth cannot answer right now. Nothing was changed.",
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
_CHALLENGE = {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to sign in (RFC 9110 section 11.6.1)."}}

IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description='The ETag of what you have read, such as "3", or * for whatever there is.',
)
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="The version of this, for If-Match."
)
LOCATION = OpenApiParameter("Location", str, OpenApiParameter.HEADER, response=[201], description="Where the new thing is.")


class Schema(AutoSchema):
    """Adds to every operation the problems that it can answer, by what it is: a list, a change, one that needs If-Match."""

    def get_tags(self) -> list[str]:
        """Return the resource, which is the first part of the path behind the version."""
        return [self._tokenize_path()[0]] if self._tokenize_path() else ["index"]

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name="Problem", type=ResolvedComponent.SCHEMA, schema=_PROBLEM, object="Problem"
        )
        self.registry.register_on_missing(component)
        for status in sorted(self._refusals()):
            bodies.setdefault(
                str(status),
                {
                    "description": _MEANINGS[status],
                    "content": {CONTENT_TYPE: {"schema": component.ref}},
                    **({"headers": _CHALLENGE} if status == 401 else {"headers": _RETRY_AFTER} if status == 503 else {}),
                },
            )
        return bodies

    def _refusals(self) -> set[int]:
        """Return the statuses of every refusal this operation can answer."""
        found = {401, 406, 503}
        parameters = self._get_parameters()
        places = {parameter["in"] for parameter in parameters}
        if "query" in places:
            found.add(400)
        if "path" in places or any(parameter["name"] == "page" for parameter in parameters):
            found.add(404)
        if self.method != "GET":
            found |= {400, 403, 409}  # 400: a header or a body that cannot be read; 403: the CSRF and origin checks
        if self.method in {"POST", "PATCH"}:
            found |= {413, 415}
        if any(parameter["name"] == "If-Match" for parameter in parameters):
            found |= {412, 428}
        needs = getattr(self.view, "needs", {})
        if needs.get(getattr(self.view, "action", None)) is not ANYBODY:
            found.add(403)
        return found | getattr(self.view, "refusals", frozenset())


class Security(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How to sign in, in the words of OpenAPI."""

    target_class = "api.authentication.PrincipalAuthentication"
    name = ["bearer", "basic", "session"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:  # noqa: ARG002 - its signature
        """Return the ways to sign in, any one of which is enough."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:  # noqa: ARG002 - its signature
        """Return what each of the names means, in their order."""
        return [
            {"type": "http", "scheme": "bearer", "description": "A service account's token."},
            {"type": "http", "scheme": "basic", "description": "A user's name and password."},
            {
                "type": "apiKey",
                "in": "cookie",
                "name": settings.SESSION_COOKIE_NAME,
                "description": "A browser's session; changes need the CSRF token too.",
            },
        ]
