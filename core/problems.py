"""Problem details (RFC 9457), the body of all error responses: with a stable `code` and, for invalid fields, `errors`."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

CONTENT_TYPE: Final = "application/problem+json"
REALM: Final = "SkyAuth"
RETRY_AFTER_SECONDS: Final = 5


def problem(
    status: int, code: str, detail: str, errors: Mapping[str, Sequence[str]] | None = None, **extra: Any
) -> dict[str, Any]:
    """Return the body of an error response."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        body["errors"] = {name: list(texts) for name, texts in errors.items()}
    return {**body, **extra}


def challenges(*, basic: bool) -> list[str]:
    """Return the WWW-Authenticate challenges of a 401 (RFC 9110 section 11.6.1), one header line each.

    Basic comes first, because Chromium reads only the first challenge of a line with both.
    """
    return [*([f'Basic realm="{REALM}", charset="UTF-8"'] if basic else []), f'Bearer realm="{REALM}"']


NOT_SIGNED_IN: Final = "Sign in, or send a valid credential."
