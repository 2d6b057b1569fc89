"""The same-origin check for writes: pages of other sites cannot change anything (promise 36)."""

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OWN_SITES: Final = frozenset({b"same-origin", b"none"})  # `none`: the user typed the address


def require_same_origin(request: HttpRequest) -> None:
    """Raise PermissionDenied for a write that a browser sends from another site's page (Fetch Metadata, RFC 6454).

    A client that sends neither Sec-Fetch-Site nor Origin is not a current browser, so no other site made it send its credential.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site.encode("latin-1", "replace") not in OWN_SITES:
        raise PermissionDenied("A page of another site must not change anything here.")
    origin = request.headers.get("Origin")
    if origin is not None and _canonical(origin) not in {settings.PUBLIC_URL, f"{request.scheme}://{request.get_host()}".lower()}:
        raise PermissionDenied("A page of another origin must not change anything here.")


def _canonical(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()
