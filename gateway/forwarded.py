"""What a proxy says of the request it asks about, one small reader per dialect."""

from accounts.trust import Proxied
from rbac.patterns import AmbiguousPath, split_path
from rbac.routes import Target, valid_host, valid_method


class Unreadable(ValueError):
    """The proxy did not say, or not in exactly one way, what is asked for; the text says which part."""


def read(proxied: Proxied) -> Target:
    """Return the target from X-Forwarded-Method, -Host and -Uri, as Caddy's and Traefik's forward auth send them.

    All three are required, once each, from a trusted proxy; nothing is guessed or repaired (promises 23 to 26).
    Raises Unreadable.
    """
    if not proxied.trusted:
        raise Unreadable("The request did not come through a trusted proxy. TRUSTED_PROXIES names whom SkyAuth trusts.")
    if proxied.repeated:
        raise Unreadable(f"X-Forwarded-{min(proxied.repeated).capitalize()} is repeated or not ASCII.")
    method = _required(proxied, "method")
    if not valid_method(method):
        raise Unreadable("X-Forwarded-Method is not a method in upper case.")
    host = canonical_host(_required(proxied, "host"))
    uri = _required(proxied, "uri")
    try:
        return Target(method, host, split_path(uri), uri.partition("?")[0])
    except AmbiguousPath as error:
        raise Unreadable(str(error)) from None


def _required(proxied: Proxied, name: str) -> str:
    value = proxied.forwarded.get(name, "")
    if not value:
        raise Unreadable(f"The proxy did not send X-Forwarded-{name.capitalize()}.")
    return value


def canonical_host(text: str) -> str:
    """Return the host of a Host header in lower case, without port and last dot (RFC 9110 section 7.2). Raises Unreadable."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.lower().removesuffix(".")
    if not text.isascii() or not valid_host(host) or (port and not port.isdigit()):
        raise Unreadable("X-Forwarded-Host is not a host name or address.")
    return host
