"""The trust gate: which headers may speak for a client, decided once, on the raw header list.

Trust is the address of the socket's peer and nothing else. Every header of the identity and forwarding families is taken
off the request here, whoever sent it; what a trusted proxy said, in the exact spelling, goes on as one `ProxyInfo`. Nothing
else in the code base reads those headers (`tests/test_house_rules.py` looks).
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

K = TypeVar("K", bytes, str)
V = TypeVar("V")
RawHeaders = list[tuple[bytes, bytes]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# uvicorn accepts header sections of 70 kB and any number of fields, so the bounds are set here.
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
# What else a header's name makes of it; see `TrustPolicy.classify`.
_ON: Final = ""
_SUBJECT: Final = "the user"
_GROUPS: Final = "the groups"
_FOR: Final = "the way here"
_UNREAD: Final = "unread"

# What is found out of a name, an address or a list of them is remembered, for every request asks again. Strangers choose
# them, so only so many are remembered, and none that is longer.
_REMEMBERED: Final = 2_048
_SHORT: Final = 64


class CachedFunction(dict[K, V]):
    """A pure function of a text as a mapping: `remembering[text]` works a value out once, and again when it was forgotten."""

    def __init__(self, function: Callable[[K], V]) -> None:
        super().__init__()
        self._work_out: Callable[[K], V] = function

    def __missing__(self, text: K) -> V:
        value: V = self._work_out(text)
        if len(text) <= _SHORT:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = value
        return value


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whom to trust, and the names of the identity headers; `subject_header` empty: no header names a user.

    `classify` says what a header's name makes of it: "" when it goes on, else what it is taken off as: a key of
    `ProxyInfo.forwarded`, the user, the groups, the way here, or something that nobody reads. `trusts` says whether an address is
    a trusted proxy's, and `client_address` which address of X-Forwarded-For counts, "" for none.
    """

    networks: tuple[Network, ...] = ()
    subject_header: str = ""
    groups_header: str = ""
    classify: Mapping[bytes, str] = field(init=False, repr=False, compare=False)
    trusts: Mapping[str, bool] = field(init=False, repr=False, compare=False)
    client_address: Mapping[bytes, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what does not change."""
        read = {**_FORWARDED, b"x-forwarded-for": _FOR}
        for name, what in ((self.groups_header, _GROUPS), (self.subject_header, _SUBJECT)):
            if name:
                read[name.lower().encode("ascii")] = what
        guarded = frozenset(map(fold, read)) | _SINGLES
        trusts = CachedFunction[str, bool](lambda address: _within(address, self.networks))
        for attribute, value in (
            ("classify", CachedFunction[bytes, str](lambda name: _taken_as(name, read, guarded))),
            ("trusts", trusts),
            ("client_address", CachedFunction[bytes, str](lambda hops: _nearest_stranger(hops, trusts))),
        ):
            object.__setattr__(self, attribute, value)


_NONE: Final[frozenset[str]] = frozenset()


class ProxyInfo(NamedTuple):
    """What the gate found out about a request's way here.

    `peer` is the socket's address; `client` is the nearest address that is not a trusted proxy. `subject` and `groups` are
    what a trusted proxy said of the user, None when it said nothing. `forwarded` has the original request's method, uri,
    host and proto (from `X-Forwarded-*`), original-method, original-uri and original-host (from `X-Original-*`), as far as
    a trusted proxy sent them exactly once; `repeated` names those that came more than once.
    `fault` says what is wrong with the identity headers: then the credential is bad.
    """

    trusted: bool = False
    peer: str = ""
    client: str = ""
    subject: str | None = None
    groups: str | None = None
    forwarded: Mapping[str, str] = MappingProxyType({})
    repeated: frozenset[str] = _NONE
    fault: str = ""


NO_PROXY_INFO: Final = ProxyInfo()


class FilteredHeaders(NamedTuple):
    """The headers that go on, what was taken off them, and whether the header section is too large to be looked at."""

    headers: RawHeaders
    proxied: ProxyInfo
    oversized: bool = False


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of CIDR texts or single addresses. Raises ValueError naming the bad one."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text.strip()))
        except ValueError:
            raise ValueError(f"{text!r} is not an address or a network in CIDR form, such as 10.0.0.0/8") from None
    return tuple(networks)


def fold(name: bytes) -> bytes:
    """Return a header name as the laxest program behind us may read it: lower case, `_` and `.` as `-` (promise 3)."""
    return name.lower().replace(b"_", b"-").replace(b".", b"-")


def filter_headers(headers: Iterable[tuple[bytes, bytes]], peer: str | None, policy: TrustPolicy) -> FilteredHeaders:
    """Return the request's headers without any that speak for the client, and what a trusted peer said in them."""
    kept: RawHeaders = []
    taken: dict[str, bytes] = {}
    again: dict[str, list[bytes]] = {}  # the further values of what came more than once
    fields = size = 0
    classify = policy.classify
    for line in headers:
        name, value = line
        fields += 1
        if fields > MAX_FIELDS:
            break  # it will not be looked at
        size += len(name) + len(value)
        what = classify[name]
        if what == _ON:
            kept.append(line)
        elif what in taken:
            again.setdefault(what, []).append(value)
        else:
            taken[what] = value
    oversized = fields > MAX_FIELDS or size + 4 * fields > MAX_SECTION
    address = peer or ""
    if not policy.trusts[address]:
        return FilteredHeaders(kept, ProxyInfo(False, address, address), oversized)
    return FilteredHeaders(kept, _believe(taken, again, address, policy), oversized)


def _taken_as(name: bytes, read: Mapping[bytes, str], guarded: frozenset[bytes]) -> str:
    folded = fold(name)
    if not (folded in guarded or folded.startswith(_FAMILIES)):
        return _ON
    # An alias spelling is dropped without a look, from anybody.
    return read.get(folded, _UNREAD) if folded == name.lower() else _UNREAD


def _believe(taken: dict[str, bytes], again: Mapping[str, list[bytes]], peer: str, policy: TrustPolicy) -> ProxyInfo:
    """Return what the headers of a trusted proxy say."""
    client, subject, groups, fault = peer, None, None, ""
    repeated: set[str] = set()
    taken.pop(_UNREAD, None)
    if (hops := taken.pop(_FOR, None)) is not None:
        client = policy.client_address[b",".join([hops, *again.get(_FOR, ())])] or peer
    if _SUBJECT in taken or _GROUPS in taken:
        subject, groups, fault = _identity(taken, again)
    forwarded: dict[str, str] = {}
    for key, value in taken.items():
        if key in again or not value.isascii():
            repeated.add(key)
        else:
            forwarded[key] = value.decode("ascii")
    return ProxyInfo(
        True, peer, client, subject, groups, MappingProxyType(forwarded), frozenset(repeated) if repeated else _NONE, fault
    )


def _identity(taken: dict[str, bytes], again: Mapping[str, list[bytes]]) -> tuple[str | None, str | None, str]:
    """Return what the identity headers say of the user and of the groups, and what is wrong with them."""
    said: list[str | None] = []
    faults = []
    for what in (_SUBJECT, _GROUPS):
        value = taken.pop(what, None)
        good = value is not None and value.isascii() and what not in again
        said.append(value.decode("ascii") if value is not None and good else None)
        if what in again:
            faults.append("the identity header is repeated")
        elif value is not None and not good:
            faults.append("the identity header is not ASCII")
    subject, groups = said
    if not faults and subject is not None and "," in subject:
        faults.append("the identity header has a comma")  # two values joined by a proxy, or one address that is two
    return subject or None, groups, faults[0] if faults else ""


def _nearest_stranger(hops: bytes, trusts: Mapping[str, bool]) -> str:
    """Return the first address, from the right of X-Forwarded-For, that is no trusted proxy; else the last believed, or ""."""
    client_address = ""
    for hop in reversed([text for text in map(str.strip, hops.decode("latin-1").split(",")) if text]):
        try:
            address = ipaddress.ip_address(hop)
        except ValueError:
            break  # written by nobody we trust to write addresses
        if getattr(address, "scope_id", None):
            break  # a zone means something on the machine that wrote it, and may be of any length
        client_address = str(address)
        if not trusts[client_address]:
            break
    return client_address


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether the address lies in one of the networks; an IPv4 address mapped into IPv6 counts as IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)
