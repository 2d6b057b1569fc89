"""Nobody overwrites unseen what somebody else has changed: strong entity tags and If-Match (RFC 9110 section 13)."""

from django.utils.http import parse_etags
from rest_framework.request import Request

from api.errors import PreconditionRequired
from core.errors import Stale


def etag(version: object) -> str:
    """Return the strong entity tag of a version."""
    return f'"{version}"'


def matched(request: Request, version: object) -> bool:
    """Return whether the caller read this very version, or False for `If-Match: *`, which says "whatever it is".

    Raises PreconditionRequired without If-Match, and Stale when it names other versions only. A weak tag names none.
    """
    header = request.headers.get("If-Match")
    if header is None:
        raise PreconditionRequired
    if header.strip() == "*":
        return False
    if etag(version) not in parse_etags(header):
        raise Stale("It was changed by somebody else since you read it. Read it again and repeat your change.")
    return True
