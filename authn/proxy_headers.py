"""The trusted-proxy header filter: removes identity and forwarding headers, and returns what a trusted proxy sent in them.

A proxy is trusted by the address of the socket's peer and by nothing else. Every header of these families is removed from the
request of every peer. The values of a trusted proxy, in the exact spelling, are in one `ProxyInfo`. No other module reads
these headers (`tests/test_house_rules.py` checks this).
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

K = TypeVar("K", bytes, str)
V = TypeVar("V")
RawHeaders = list[tuple[bytes, bytes]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# uvicorn accepts header sections of 70 kB and any number of fields, so the limits are set here.
MAX_FIELDS: Final = 100
MAX_SECTION: Final = 32_768

_FAMILIES: Final = (b"x-auth-request-", b"x-forwarded-", b"x-original-", b"x-envoy-")
_SINGLES: Final = frozenset(
    {
        b"forwarded",
        b"x-real-ip",
        b"x-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"remote-user",
        b"x-remote-user",
        b"x-rewrite-url",
    }
)
_FORWARDED: Final = {
    b"x-forwarded-method": "method",
    b"x-forwarded-uri": "uri",
    b"x-forwarded-host": "host",
    b"x-forwarded-proto": "proto",
    b"x-original-method": "original-method",
    b"x-original-uri": "original-uri",
    b"x-original-host": "original-host",
}
READ_HEADERS: Final = frozenset({b"x-forwarded-for", *_FORWARDED})  # no identity header can have one of these names
_URIS: Final = frozenset({"uri", "original-uri"})
_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
# Further classes of headers beside the values of _FORWARDED; see `TrustPolicy.classify`.
_KEPT: Final = ""
_SUBJECT: Final = "subject"
_GROUPS: Final = "groups"
_FOR: Final = "for"
_IGNORED: Final = "ignored"

UNIX: Final = "unix"  # in place of an address: every peer at a Unix socket, whose file's mode decides who can connect
_MAPPED_PREFIX: Final = 96  # ::ffff:0:0/96 (RFC 4291 section 2.5.5.2)
# An address in X-Forwarded-For, which Azure's load balancers send with its port (RFC 3986 section 3.2.2 for the brackets).
_HOP: Final = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")

# Header names, addresses and lists of them repeat from request to request. Clients choose them, so the number of cached
# results is limited, and long keys are not cached.
_MAX_CACHED: Final = 2_048
_MAX_KEY: Final = 64


class CachedFunction(dict[K, V]):
    """A pure function of a text, as a mapping with a bounded cache: `cached[text]` is its value."""

    def __init__(self, function: Callable[[K], V]) -> None:
        super().__init__()
        self._function: Callable[[K], V] = function

    def __missing__(self, text: K) -> V:
        value: V = self._function(text)
        if len(text) <= _MAX_KEY:
            if len(self) >= _MAX_CACHED:
                self.clear()
            self[text] = value
        return value


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The trusted networks and the names of the identity headers; with an empty `subject_header` no header names a user.

    `unix` is whether the peers at a Unix socket are trusted.

    Three mappings are derived. `classify` maps a header name to "" if the header is kept, or to the class that it is removed
    as: a key of `ProxyInfo.forwarded`, the subject, the groups, X-Forwarded-For, or a header that is ignored. `trusts` maps an
    address to whether it is a trusted proxy's. `client_address` maps a value of X-Forwarded-For to the client's address, or "".
    """

    networks: tuple[Network, ...] = ()
    subject_header: str = ""
    groups_header: str = ""
    unix: bool = False
    classify: Mapping[bytes, str] = field(init=False, repr=False, compare=False)
    trusts: Mapping[str, bool] = field(init=False, repr=False, compare=False)
    client_address: Mapping[bytes, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        read = {**_FORWARDED, b"x-forwarded-for": _FOR}
        for name, header_class in ((self.groups_header, _GROUPS), (self.subject_header, _SUBJECT)):
            if name:
                read[name.lower().encode("ascii")] = header_class
        guarded = frozenset(map(fold, read)) | _SINGLES
        trusts = CachedFunction[str, bool](lambda address: self.unix if address == UNIX else _within(address, self.networks))
        for attribute, value in (
            ("classify", CachedFunction[bytes, str](lambda name: _header_class(name, read, guarded))),
            ("trusts", trusts),
            ("client_address", CachedFunction[bytes, str](lambda hops: _client_address(hops, trusts))),
        ):
            object.__setattr__(self, attribute, value)


_NONE: Final[frozenset[str]] = frozenset()


class ProxyInfo(NamedTuple):
    """The values of a trusted proxy's headers, and the addresses of the peer and the client.

    `peer` is the socket's address; `client` is the nearest address that is not a trusted proxy. `subject` and `groups` are the
    user and the groups that a trusted proxy named, None if it named none. `fault` is what is wrong with the user, which makes
    the credential bad, or ""; `claimed` is then what was sent. `groups_fault` is what is wrong with the groups, which are then
    None: they are optional, and the user is authenticated without them.

    `forwarded` has the original request's method, uri, host and proto (from `X-Forwarded-*`), and original-method, original-uri
    and original-host (from `X-Original-*`), as far as a trusted proxy sent them exactly once and, except for the uri, in ASCII;
    `repeated` has the keys of the others. The proto is "http", "https" or, for anything else, "".
    """

    trusted: bool = False
    peer: str = ""
    client: str = ""
    subject: str | None = None
    groups: str | None = None
    forwarded: Mapping[str, str] = MappingProxyType({})
    repeated: frozenset[str] = _NONE
    fault: str = ""
    claimed: str = ""
    groups_fault: str = ""


NO_PROXY_INFO: Final = ProxyInfo()


class FilteredHeaders(NamedTuple):
    """The headers that are kept, the values of those that were removed, and whether the header section exceeds the limits."""

    headers: RawHeaders
    proxied: ProxyInfo
    oversized: bool = False


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of CIDR texts or single addresses, without UNIX. Raises ValueError, which names the bad one."""
    networks: list[Network] = []
    for text in texts:
        if text.strip() == UNIX:
            continue
        try:
            network = ipaddress.ip_network(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is not an address or a network in CIDR form, such as 10.0.0.0/8") from None
        mapped = getattr(network.network_address, "ipv4_mapped", None)
        if mapped is not None and network.prefixlen >= _MAPPED_PREFIX:
            network = ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
        networks.append(network)
    return tuple(networks)


def canonical_address(text: str) -> str:
    """Return an address in its one spelling: IPv6 short and in lower case, IPv4-mapped IPv6 as IPv4. Other text is unchanged."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)


_canonical: Final = CachedFunction[str, str](canonical_address)


def fold(name: bytes) -> bytes:
    """Return a header name as the most lenient upstream reads it: lower case, `_` and `.` as `-` (promise 3)."""
    return name.lower().replace(b"_", b"-").replace(b".", b"-")


def filter_headers(headers: Iterable[tuple[bytes, bytes]], peer: str | None, policy: TrustPolicy) -> FilteredHeaders:
    """Return the request's headers without those of the guarded families, and the values that a trusted peer sent in these."""
    kept: RawHeaders = []
    removed: dict[str, bytes] = {}
    repeats: dict[str, list[bytes]] = {}  # the further values of a class
    fields = size = 0
    classify = policy.classify
    for line in headers:
        name, value = line
        fields += 1
        if fields > MAX_FIELDS:
            break  # the request is refused unread
        size += len(name) + len(value)
        header_class = classify[name]
        if header_class == _KEPT:
            kept.append(line)
        elif header_class in removed:
            repeats.setdefault(header_class, []).append(value)
        else:
            removed[header_class] = value
    oversized = fields > MAX_FIELDS or size + 4 * fields > MAX_SECTION
    address = _canonical[peer or ""]
    if not policy.trusts[address]:
        return FilteredHeaders(kept, ProxyInfo(False, address, address), oversized)
    return FilteredHeaders(kept, _proxy_info(removed, repeats, address, policy), oversized)


def _header_class(name: bytes, read: Mapping[bytes, str], guarded: frozenset[bytes]) -> str:
    folded = fold(name)
    if not (folded in guarded or folded.startswith(_FAMILIES)):
        return _KEPT
    # Another spelling of a header is never read, also not from a trusted proxy.
    return read.get(folded, _IGNORED) if folded == name.lower() else _IGNORED


def _proxy_info(removed: dict[str, bytes], repeats: Mapping[str, list[bytes]], peer: str, policy: TrustPolicy) -> ProxyInfo:
    """Return the values of a trusted proxy's headers."""
    client, identity = peer, _NO_IDENTITY
    repeated: set[str] = set()
    removed.pop(_IGNORED, None)
    if (hops := removed.pop(_FOR, None)) is not None:
        client = policy.client_address[b",".join([hops, *repeats.get(_FOR, ())])] or peer
    if _SUBJECT in removed or _GROUPS in removed:
        identity = _identity(removed, repeats)
    forwarded: dict[str, str] = {}
    for key, value in removed.items():
        # A query can have any byte, because it decides nothing. `core.paths` refuses those in a path.
        if key in repeats or not (value.isascii() or key in _URIS):
            repeated.add(key)
        else:
            forwarded[key] = _scheme(value) if key == "proto" else value.decode("latin-1")
    return ProxyInfo(
        True,
        peer,
        client,
        identity.subject,
        identity.groups,
        MappingProxyType(forwarded),
        frozenset(repeated) if repeated else _NONE,
        identity.fault,
        identity.claimed,
        identity.groups_fault,
    )


def _scheme(proto: bytes) -> str:
    """Return "http" or "https", or "" for anything else in X-Forwarded-Proto.

    Of a list, the first is the client's: each proxy of a chain appends its own. Traefik names a WebSocket's scheme.
    """
    return _SCHEMES.get(proto.partition(b",")[0].strip().lower(), "")


class _Identity(NamedTuple):
    """The part of ProxyInfo that the identity headers are."""

    subject: str | None = None
    groups: str | None = None
    fault: str = ""
    claimed: str = ""
    groups_fault: str = ""


_NO_IDENTITY: Final = _Identity()


def _identity(removed: dict[str, bytes], repeats: Mapping[str, list[bytes]]) -> _Identity:
    """Return the user and the groups of the identity headers, and what is wrong with these headers."""
    sent = [removed.get(_SUBJECT, b""), *repeats.get(_SUBJECT, ())]
    subject, fault = _text(removed, repeats, _SUBJECT, "identity")
    groups, groups_fault = _text(removed, repeats, _GROUPS, "groups")
    if not fault and subject is not None and "," in subject:
        fault = "the identity header has a comma"  # a proxy has joined two values
    claimed = b", ".join(sent).decode("utf-8", "replace") if fault else ""
    return _Identity(subject or None, groups, fault, claimed, groups_fault)


def _text(removed: dict[str, bytes], repeats: Mapping[str, list[bytes]], header_class: str, name: str) -> tuple[str | None, str]:
    """Remove and return the value of a header, and what is wrong with it; then the value is None."""
    value = removed.pop(header_class, None)
    if value is None:
        return None, ""
    if header_class in repeats:
        return None, f"the {name} header is repeated"
    try:
        return value.decode("utf-8"), ""
    except UnicodeDecodeError:
        return None, f"the {name} header is not UTF-8"


def _client_address(hops: bytes, trusts: Mapping[str, bool]) -> str:
    """Return the rightmost address in X-Forwarded-For that is not a trusted proxy's, else the leftmost trusted one, or "".

    Ports are ignored.
    """
    client_address = ""
    for hop in reversed([text for text in map(str.strip, hops.decode("latin-1").split(",")) if text]):
        address = _hop_address(hop)
        if not address:
            break  # not an address, so what is left of it is not trusted either
        client_address = address
        if not trusts[client_address]:
            break
    return client_address


def _hop_address(hop: str) -> str:
    """Return the address of a hop, or "". A zone is none: it has a meaning only on the host that wrote it, and any length."""
    match = _HOP.fullmatch(hop)
    if match is None:
        return ""
    ipv4, bracketed, bare = match.groups()
    try:
        address = ipaddress.IPv4Address(ipv4) if ipv4 else ipaddress.IPv6Address(bracketed or bare)
    except ValueError:
        return ""
    return canonical_address(str(address))


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether the address is in one of the networks; an IPv4-mapped IPv6 address counts as IPv4."""
    try:
        parsed = ipaddress.ip_address(canonical_address(address))
    except ValueError:
        return False
    return any(parsed in network for network in networks)
