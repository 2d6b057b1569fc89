"""Parses a request's method, host and path, once for the gateway and for `explain`."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from core.paths import AmbiguousPath, Segments, split_path

# The IANA registry of HTTP methods, without those with a hyphen, which a request cannot have here, and PRI; and methods of
# caches (Varnish, Squid) and of UPnP that have no entry there.
KNOWN_METHODS: Final = frozenset(
    """
    ACL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF
    MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT
    UNLINK UNLOCK UPDATE UPDATEREDIRECTREF BAN NOTIFY PURGE REFRESH SUBSCRIBE UNSUBSCRIBE
    """.split()  # noqa: SIM905 - one name on each line is a page
)
_METHOD = re.compile(r"[A-Z]{3,20}\Z")
# RFC 1123 names and IPv4 literals, or a bracketed IPv6 literal; the port is never part of it.
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?)*|\[[0-9a-f:.]+\])\Z")


class UnreadableTarget(ValueError):
    """The method, host or path is missing or can be read in two ways; the message names which of them, and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The parsed method, host and path of a request: `method` in upper case, `host` canonical, `path` as decoded segments."""

    method: str
    host: str
    path: Segments
    text: str  # the path as it was sent, for messages

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.text}"


class RawTarget(NamedTuple):
    """Method, host and path of a request as they were received and not parsed: for records, never for a decision."""

    method: str = ""
    host: str = ""
    path: str = ""


NOT_RECEIVED: Final = RawTarget()


def valid_method(text: str) -> bool:
    """Return whether `text` can be the method of a request: upper-case letters only."""
    return bool(_METHOD.match(text))


def valid_host(text: str) -> bool:
    """Return whether `text` is a canonical host: lower case, no port, no last dot."""
    return len(text) <= 253 and bool(_HOST.match(text))


def parse_target(method: str, host: str, uri: str) -> Target:
    """Return the target of a request's method, Host header and origin-form URI (path and query). Raises UnreadableTarget.

    The query is cut off unread.
    """
    path = uri.partition("?")[0]
    return (_cached if len(host) + len(path) <= _SHORT else _parse)(method, host, path)


def parse_target_on_any_host(method: str, uri: str) -> Target:
    """Return the target of a method and a URI, with an empty host: only routes of any host match it. Raises UnreadableTarget."""
    return replace(parse_target(method, "localhost", uri), host="")


def _parse(method: str, host: str, path: str) -> Target:
    if not valid_method(method):
        raise UnreadableTarget("The method is not a method in upper case.")
    try:
        return Target(method, canonical_host(host), split_path(path), path)
    except AmbiguousPath as error:
        raise UnreadableTarget(str(error)) from None


# Anybody can choose hosts and paths: long ones, which may have thousands of segments, are not cached.
_SHORT: Final = 256
_cached = lru_cache(4_096)(_parse)


def canonical_host(text: str) -> str:
    """Return the host of a Host header, canonical: lower case, no port, no last dot (RFC 9110 section 7.2).

    Raises UnreadableTarget.
    """
    return split_host(text)[0]


def split_host(text: str) -> tuple[str, str]:
    """Return the host of a Host header, made canonical, and its port, or "". Raises UnreadableTarget."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.lower().removesuffix(".")
    if not text.isascii() or not valid_host(host) or (port and not port.isdigit()):
        raise UnreadableTarget("The host is not a host name or address.")
    return host, port
