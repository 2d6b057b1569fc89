"""The trust gate: which headers may speak for a client, decided once, on the raw header list.

Trust is the address of the socket's peer and nothing else. Every header of the identity and forwarding families is taken
off the request here, whoever sent it; what a trusted proxy said, in the exact spelling, goes on as one `Proxied`. Nothing
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
_FOR: Final = b"x-forwarded-for"
# What is found out of a name, an address or a list of them is remembered, for every request asks again. Strangers choose
# them, so only so many are remembered, and none that is longer.
_REMEMBERED: Final = 2_048
_SHORT: Final = 64


class Remembering(dict[K, V]):
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

    `taken_as` says what a header's name makes of it: "" when it goes on, None when it is dropped without a look, else the
    name under which it is taken off. `trusts` says whether an address is a trusted proxy's, and `nearest` which address of
    X-Forwarded-For counts, "" for none.
    """

    networks: tuple[Network, ...] = ()
    subject_header: str = ""
    groups_header: str = ""
    subject_name: bytes = field(init=False, repr=False, compare=False)
    groups_name: bytes = field(init=False, repr=False, compare=False)
    taken_as: Mapping[bytes, bytes | None] = field(init=False, repr=False, compare=False)
    trusts: Mapping[str, bool] = field(init=False, repr=False, compare=False)
    nearest: Mapping[bytes, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what does not change."""
        subject, groups = (name.lower().encode("ascii") for name in (self.subject_header, self.groups_header))
        guarded = frozenset(fold(name) for name in (subject, groups) if name)
        trusts = Remembering[str, bool](lambda address: _within(address, self.networks))
        for name, value in (
            ("subject_name", subject),
            ("groups_name", groups),
            ("taken_as", Remembering[bytes, bytes | None](lambda name: _taken_as(name, guarded))),
            ("trusts", trusts),
            ("nearest", Remembering[bytes, str](lambda hops: _nearest_stranger(hops, trusts))),
        ):
            object.__setattr__(self, name, value)


class Proxied(NamedTuple):
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
    repeated: frozenset[str] = frozenset()
    fault: str = ""


UNGATED: Final = Proxied()


class Admitted(NamedTuple):
    """The headers that go on, what was taken off them, and whether the header section is too large to be looked at."""

    headers: RawHeaders
    proxied: Proxied
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


def admit(headers: Iterable[tuple[bytes, bytes]], peer: str | None, policy: TrustPolicy) -> Admitted:
    """Return the request's headers without any that speak for the client, and what a trusted peer said in them."""
    kept: RawHeaders = []
    taken: dict[bytes, list[bytes]] = {}
    fields = size = 0
    taken_as = policy.taken_as
    for line in headers:
        name, value = line
        fields += 1
        size += len(name) + len(value) + 4
        known = taken_as[name]
        if known == b"":
            kept.append(line)
        elif known is not None:
            taken.setdefault(known, []).append(value)
    oversized = fields > MAX_FIELDS or size > MAX_SECTION
    address = peer or ""
    proxied = _believe(taken, address, policy) if policy.trusts[address] else Proxied(peer=address, client=address)
    return Admitted(kept, proxied, oversized)


def _taken_as(name: bytes, guarded: frozenset[bytes]) -> bytes | None:
    folded = fold(name)
    if not (folded in guarded or folded in _SINGLES or folded.startswith(_FAMILIES)):
        return b""
    return folded if folded == name.lower() else None  # an alias spelling is dropped without a look, from anybody


def _believe(taken: Mapping[bytes, list[bytes]], peer: str, policy: TrustPolicy) -> Proxied:
    """Return what the headers of a trusted proxy say."""
    subject, subject_fault = _single(taken, policy.subject_name)
    groups, groups_fault = _single(taken, policy.groups_name)
    fault = subject_fault or groups_fault
    if not fault and subject is not None and "," in subject:
        fault = "the identity header has a comma"  # two values joined by a proxy, or one address that is two
    forwarded: dict[str, str] = {}
    repeated: set[str] = set()
    for name, values in taken.items():
        key = _FORWARDED.get(name)
        if key is None:
            continue
        if len(values) == 1 and values[0].isascii():
            forwarded[key] = values[0].decode("ascii")
        else:
            repeated.add(key)
    return Proxied(
        True,
        peer,
        policy.nearest[b",".join(taken[_FOR])] or peer if _FOR in taken else peer,
        subject or None,
        groups,
        MappingProxyType(forwarded),
        frozenset(repeated),
        fault,
    )


def _single(taken: Mapping[bytes, list[bytes]], name: bytes) -> tuple[str | None, str]:
    """Return the one value of a header, or None, and what is wrong with it."""
    values = taken.get(name)
    if values is None:
        return None, ""
    if len(values) > 1:
        return None, "the identity header is repeated"
    if not values[0].isascii():
        return None, "the identity header is not ASCII"
    return values[0].decode("ascii"), ""


def _nearest_stranger(hops: bytes, trusts: Mapping[str, bool]) -> str:
    """Return the first address, from the right of X-Forwarded-For, that is no trusted proxy; else the last believed, or ""."""
    nearest = ""
    for hop in reversed([text for text in map(str.strip, hops.decode("latin-1").split(",")) if text]):
        try:
            address = ipaddress.ip_address(hop)
        except ValueError:
            break  # written by nobody we trust to write addresses
        if getattr(address, "scope_id", None):
            break  # a zone means something on the machine that wrote it, and may be of any length
        nearest = str(address)
        if not trusts[nearest]:
            break
    return nearest


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether the address lies in one of the networks; an IPv4 address mapped into IPv6 counts as IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)
