"""Optimistic locking: strong entity tags and If-Match (RFC 9110 section 13), so that no change overwrites another unseen."""

from typing import Any, TypeVar

from django.utils.http import parse_etags
from rest_framework.request import Request
from rest_framework.response import Response

from api.errors import PreconditionRequired
from core.errors import Stale

Version = TypeVar("Version", int, str)


def etag(version: object) -> str:
    """Return the strong entity tag of a version."""
    return f'"{version}"'


def expected_version(request: Request, version: Version) -> Version | None:
    """Return the current version if If-Match names it, or None for `If-Match: *`, which accepts any version.

    Raises PreconditionRequired without If-Match, and Stale when it names other versions only. A weak tag never matches.
    """
    header = request.headers.get("If-Match")
    if header is None:
        raise PreconditionRequired
    if header.strip() == "*":
        return None
    if etag(version) not in parse_etags(header):
        raise Stale("This was changed after you read it. Read it again, then repeat your change.")
    return version


def tagged(data: Any, version: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the response with the entity tag of this version."""
    return Response(data, status=status, headers={**(headers or {}), "ETag": etag(version)})
