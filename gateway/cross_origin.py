"""The same-origin check for requests to the upstream: a page of another origin cannot use its visitor's credential (promise 52).

Browsers add a session cookie, a Basic password and the cookie of an auth proxy to requests by themselves, also to those that a
page of a sibling host or of another port starts. Browsers also say which page that is, in headers that no page can set. A client
that sends none of these headers is not a browser. The verify endpoint sees them only if the proxy forwards them.
"""

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from core.same_origin import OWN_SITES, SAFE_METHODS
from gateway.forwarded import AuthRequest, Origin, TargetReader, origin, original_request
from rbac.targets import Target

# RFC 6455 section 4.1, and Fetch Metadata. Proxies do not forward Upgrade with their request, but they do forward these.
_HANDSHAKE: Final = frozenset({b"sec-websocket-key", b"sec-websocket-version"})


def is_foreign(request: AuthRequest, reader: TargetReader, target: Target) -> bool:
    """Return whether a page of another origin sent this request for something that it could use without reading the response.

    That is a write, and the handshake of a WebSocket, through which the page could send and receive.
    """
    origins: list[bytes] = []
    foreign_site = False
    effective = target.method not in SAFE_METHODS
    for name, value in request.headers:
        if name == b"origin":
            origins.append(value)
        elif name == b"sec-fetch-site":
            foreign_site = foreign_site or value not in OWN_SITES
        elif name in _HANDSHAKE or (name == b"upgrade" and b"websocket" in value.lower()) or _is_websocket_mode(name, value):
            effective = True
    if not effective or not (origins or foreign_site):
        return False
    return foreign_site or not all(_is_own(value, request, reader) for value in origins)


def public_origin() -> Origin | None:
    """Return the origin of SkyAuth's own pages."""
    own = urlsplit(settings.PUBLIC_URL)
    return origin(own.scheme, own.netloc)


def _is_websocket_mode(name: bytes, value: bytes) -> bool:
    return name == b"sec-fetch-mode" and value == b"websocket"


def _is_own(value: bytes, request: AuthRequest, reader: TargetReader) -> bool:
    """Return whether an Origin header (RFC 6454 section 7) names the origin of the original request. `null` names none."""
    scheme, _, host = value.decode("latin-1").partition("://")
    sent, original = origin(scheme, host), original_request(request, reader)
    if sent is None:
        return False
    # Where another proxy in front terminates TLS, the proxy sees http and the browser https.
    if sent in (origin(original.proto, original.host), origin("https", original.host)):
        return True
    # A proxy can send the host without its port. PUBLIC_URL has the port.
    return sent == public_origin() and sent[1] == original.host.lower()
