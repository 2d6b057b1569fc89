"""What a proxy says of the request it asks about: one small reader per dialect, and one strict parser behind all of them.

Each dialect has an endpoint of its own, so no header guesses which proxy is talking. Method, host and URI are required, once
each, from a trusted proxy; nothing is guessed or repaired (promises 23 to 26).
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from authn.proxy_headers import ProxyInfo
from rbac.targets import RawTarget, Target, UnreadableTarget, parse_target, split_host


class AuthRequest(NamedTuple):
    """A proxy's request to a verify endpoint.

    `headers` are raw and gated. `method` is the question's own; `rest` is its request target behind the path of the endpoint.
    """

    headers: Sequence[tuple[bytes, bytes]]
    proxied: ProxyInfo
    method: str = "GET"
    rest: str = ""
    endpoint: bytes = b"/authz/verify"


class OriginalRequest(NamedTuple):
    """What the proxy said of the original request, as it came and not judged: to be kept and shown, never to decide by.

    Empty where it was not said, not said once, or said by nobody who is trusted.
    """

    method: str = ""
    host: str = ""
    uri: str = ""
    proto: str = ""

    @property
    def raw(self) -> RawTarget:
        """What is recorded of it: without query and fragment, which may hold secrets."""
        return RawTarget(self.method, self.host, self.uri.partition("?")[0].partition("#")[0])


NOT_TRUSTED: Final = OriginalRequest()


def x_forwarded(question: AuthRequest) -> Target:
    """Return the target from X-Forwarded-Method, -Host and -Uri: Caddy `forward_auth`, Traefik ForwardAuth, our HAProxy script.

    Raises UnreadableTarget.
    """
    return _told(question.proxied, "method", "host", "uri")


def x_original(question: AuthRequest) -> Target:
    """Return the target from X-Original-Method, -Host and -URI: nginx `auth_request`. Raises UnreadableTarget."""
    return _told(question.proxied, "original-method", "original-host", "original-uri")


def envoy(question: AuthRequest) -> Target:
    """Return the target from the question itself: Envoy's ext_authz over HTTP.

    Envoy asks with the original method and Host, and with the original path and query behind `path_prefix`.
    Raises UnreadableTarget.
    """
    _require_trust(question.proxied)
    hosts = [value for name, value in question.headers if name == b"host"]
    if len(hosts) != 1 or not hosts[0].isascii():
        raise UnreadableTarget("Host is missing, repeated or not ASCII.")
    if not question.rest:
        raise UnreadableTarget("The proxy did not send the original path behind the endpoint's.")
    return parse_target(question.method, hosts[0].decode("ascii"), question.rest)


def _told(proxied: ProxyInfo, *keys: str) -> Target:
    """Return the target from the three headers of a family: method, host and URI. Raises UnreadableTarget."""
    _require_trust(proxied)
    told = proxied.forwarded
    for key in keys:
        if not told.get(key):
            raise UnreadableTarget(f"The proxy did not send {_header(key)}.")
    method, host, uri = keys
    return parse_target(told[method], told[host], told[uri])


def _require_trust(proxied: ProxyInfo) -> None:
    if not proxied.trusted:
        raise UnreadableTarget("The request did not come through a trusted proxy. TRUSTED_PROXIES names whom SkyAuth trusts.")
    if proxied.repeated:
        raise UnreadableTarget(f"{_header(min(proxied.repeated))} is repeated or not ASCII.")


def _header(key: str) -> str:
    """Return the name of the header that the gate keeps under this key."""
    family, _, name = key.rpartition("-")
    return f"X-{family.capitalize() or 'Forwarded'}-{name.capitalize()}"


def origin(proto: str, host: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port (RFC 6454 section 4) of what a proxy told, or None when that is no origin."""
    if proto not in _PORTS:
        return None
    try:
        name, port = split_host(host)
    except UnreadableTarget:
        return None
    return proto, name, int(port[:6]) if port else _PORTS[proto]


def told(question: AuthRequest, reader: "Reader") -> OriginalRequest:
    """Return what the proxy said of the original request in the way that this reader reads."""
    proxied = question.proxied
    if not proxied.trusted or proxied.repeated:
        return NOT_TRUSTED
    said = proxied.forwarded
    proto = said.get("proto", "")
    if reader is envoy:
        hosts = [value for name, value in question.headers if name == b"host"]
        return OriginalRequest(question.method, hosts[0].decode("latin-1") if len(hosts) == 1 else "", question.rest, proto)
    family = "original-" if reader is x_original else ""
    return OriginalRequest(said.get(f"{family}method", ""), said.get(f"{family}host", ""), said.get(f"{family}uri", ""), proto)


Reader = Callable[[AuthRequest], Target]
_PORTS: Final = {"http": 80, "https": 443}

# By the exact raw path of the endpoint. One that ends in a slash is a prefix: what stands behind it is the question's `rest`.
# nginx's `auth_request` understands no answer but 2xx, 401 and 403, and drops their bodies: it asks a second time, at
# /authz/nginx/answer, for what a refused client is to be told.
DIALECTS: Final[dict[bytes, Reader]] = {
    b"/authz/verify": x_forwarded,
    b"/authz/nginx": x_original,
    b"/authz/nginx/answer": x_original,
    b"/authz/envoy/": envoy,
}

PLAIN: Final = frozenset({b"/authz/nginx"})  # where no answer is made for people
REFUSED: Final = frozenset({b"/authz/nginx/answer"})  # asked about what was refused a moment ago: no answer lets it through
