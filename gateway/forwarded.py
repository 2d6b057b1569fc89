"""Reads the original request from a proxy's request to a verify endpoint: one small reader per proxy dialect, one strict parser.

Each dialect has its own endpoint, so SkyAuth never guesses from headers which proxy is asking. Method, host and URI are required,
once each, from a trusted proxy; nothing is guessed or repaired (promises 23 to 26).
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from authn.proxy_headers import ProxyInfo
from rbac.targets import RawTarget, Target, UnreadableTarget, parse_target, split_host


class AuthRequest(NamedTuple):
    """A proxy's request to a verify endpoint.

    `headers` are the raw headers that the header filter left, and `proxied` what it took from the others. `suffix` is the request
    target after the path of an endpoint that is a prefix: Envoy sends the original path and query there.
    """

    headers: Sequence[tuple[bytes, bytes]]
    proxied: ProxyInfo
    method: str = "GET"
    suffix: str = ""
    endpoint: bytes = b"/authz/verify"


class OriginalRequest(NamedTuple):
    """The original request as the proxy sent it, unchecked: for pages and the audit log, never for a decision.

    A field is empty where the proxy did not send it exactly once, or is not trusted.
    """

    method: str = ""
    host: str = ""
    uri: str = ""
    proto: str = ""

    @property
    def raw(self) -> RawTarget:
        """The part that is recorded: without query and fragment, which can contain secrets."""
        return RawTarget(self.method, self.host, self.uri.partition("?")[0].partition("#")[0])


NOT_TRUSTED: Final = OriginalRequest()
_X_FORWARDED: Final = ("method", "host", "uri")
_X_ORIGINAL: Final = ("original-method", "original-host", "original-uri")


def x_forwarded(request: AuthRequest) -> Target:
    """Return the target from X-Forwarded-Method, -Host and -Uri: Caddy `forward_auth`, Traefik ForwardAuth, our HAProxy script.

    Raises UnreadableTarget.
    """
    return _forwarded_target(request.proxied, _X_FORWARDED)


def x_original(request: AuthRequest) -> Target:
    """Return the target from X-Original-Method, -Host and -URI: nginx `auth_request`. Raises UnreadableTarget."""
    return _forwarded_target(request.proxied, _X_ORIGINAL)


def envoy(request: AuthRequest) -> Target:
    """Return the target from the request to SkyAuth itself: Envoy's ext_authz over HTTP.

    Envoy sends the original method and Host, and the original path and query after `path_prefix`. Raises UnreadableTarget.
    """
    _require_trust(request.proxied)
    hosts = [value for name, value in request.headers if name == b"host"]
    if len(hosts) != 1 or not hosts[0].isascii():
        raise UnreadableTarget("Host is missing, repeated or not ASCII.")
    if not request.suffix:
        raise UnreadableTarget("The proxy did not send the original path after the path of the endpoint.")
    return parse_target(request.method, hosts[0].decode("ascii"), request.suffix)


def _forwarded_target(proxied: ProxyInfo, keys: tuple[str, str, str]) -> Target:
    """Return the target from the three headers of a family: method, host and URI. Raises UnreadableTarget."""
    _require_trust(proxied)
    values = proxied.forwarded
    for key in keys:
        if key in proxied.repeated:
            raise UnreadableTarget(f"{_header(key)} is repeated or not ASCII.")
        if not values.get(key):
            raise UnreadableTarget(f"The proxy did not send {_header(key)}.")
    method, host, uri = keys
    return parse_target(values[method], values[host], values[uri])


def _require_trust(proxied: ProxyInfo) -> None:
    if not proxied.trusted:
        raise UnreadableTarget("The request did not come through a trusted proxy. Add the proxy's address to TRUSTED_PROXIES.")


def _header(key: str) -> str:
    """Return the name of the header whose value is in `ProxyInfo.forwarded` under this key."""
    family, _, name = key.rpartition("-")
    return f"X-{family.capitalize() or 'Forwarded'}-{name.capitalize()}"


Origin = tuple[str, str, int]


def origin(proto: str, host: str) -> Origin | None:
    """Return scheme, host and port (RFC 6454 section 4) of a forwarded scheme and host, or None when they are not an origin."""
    if proto not in _PORTS:
        return None
    try:
        name, port = split_host(host)
    except UnreadableTarget:
        return None
    return proto, name, int(port[:6]) if port else _PORTS[proto]


def original_request(request: AuthRequest, reader: "TargetReader") -> OriginalRequest:
    """Return the original request from the headers that this reader reads."""
    proxied = request.proxied
    if not proxied.trusted:
        return NOT_TRUSTED
    values = proxied.forwarded
    proto = values.get("proto", "")
    if reader is envoy:
        hosts = [value for name, value in request.headers if name == b"host"]
        return OriginalRequest(request.method, hosts[0].decode("latin-1") if len(hosts) == 1 else "", request.suffix, proto)
    keys = _X_ORIGINAL if reader is x_original else _X_FORWARDED
    if not proxied.repeated.isdisjoint(keys):
        return NOT_TRUSTED
    method, host, uri = (values.get(key, "") for key in keys)
    return OriginalRequest(method, host, uri, proto)


TargetReader = Callable[[AuthRequest], Target]
_PORTS: Final = {"http": 80, "https": 443}

# By the exact raw path of the endpoint. One that ends in a slash is a prefix; what follows it is `AuthRequest.suffix`.
# nginx's `auth_request` accepts no status but 2xx, 401 and 403, and drops their bodies. For the response to a refused client it
# therefore sends a second request, to /authz/nginx/answer.
ENDPOINTS: Final[dict[bytes, TargetReader]] = {
    b"/authz/verify": x_forwarded,
    b"/authz/nginx": x_original,
    b"/authz/nginx/answer": x_original,
    b"/authz/envoy/": envoy,
}

WITHOUT_PAGES: Final = frozenset({b"/authz/nginx"})  # never returns an HTML page
REFUSALS_ONLY: Final = frozenset({b"/authz/nginx/answer"})  # asked after a refusal: never returns 200
