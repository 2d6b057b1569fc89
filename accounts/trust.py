"""The trust gate: which headers may speak for a client, decided once, on the raw header list.

Trust is the address of the socket's peer and nothing else. Every header of the identity and forwarding families is taken
off the request here, whoever sent it; what a trusted proxy said, in the exact spelling, goes on as one `Proxied`. Nothing
else in the code base reads those headers (`tests/test_house_rules.py` looks).
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

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
}
_FOR: Final = b"x-forwarded-for"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whom to trust, and the names of the identity headers; `subject_header` empty: no header names a user."""

    networks: tuple[Network, ...] = ()
    subject_header: str = ""
    groups_header: str = ""

    def guarded(self) -> frozenset[bytes]:
        """Return the configured header names, folded."""
        return frozenset(fold(name.encode("ascii")) for name in (self.subject_header, self.groups_header) if name)


@dataclass(frozen=True, slots=True)
class Proxied:
    """What the gate found out about a request's way here.

    `peer` is the socket's address; `client` is the nearest address that is not a trusted proxy. `subject` and `groups` are
    what a trusted proxy said of the user, None when it said nothing. `forwarded` has the original request's method, uri,
    host and proto, as far as a trusted proxy sent them exactly once; `repeated` names those that came more than once.
    `fault` says what is wrong with the identity headers: then the credential is bad.
    """

    trusted: bool = False
    peer: str = ""
    client: str = ""
    subject: str | None = None
    groups: str | None = None
    forwarded: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    repeated: frozenset[str] = frozenset()
    fault: str = ""


UNGATED: Final = Proxied()


@dataclass(frozen=True, slots=True)
class Admitted:
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
    headers = list(headers)
    oversized = len(headers) > MAX_FIELDS or sum(len(name) + len(value) + 4 for name, value in headers) > MAX_SECTION
    guarded = policy.guarded()
    kept: RawHeaders = []
    taken: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        folded = fold(name)
        if folded in guarded or folded in _SINGLES or folded.startswith(_FAMILIES):
            if folded == name.lower():  # an alias spelling is dropped without a look, from anybody
                taken.setdefault(folded, []).append(value)
        else:
            kept.append((name, value))
    address = peer or ""
    if not _within(address, policy.networks):
        return Admitted(kept, Proxied(peer=address, client=address), oversized)
    return Admitted(kept, _believe(taken, address, policy), oversized)


def _believe(taken: Mapping[bytes, list[bytes]], peer: str, policy: TrustPolicy) -> Proxied:
    """Return what the headers of a trusted proxy say."""
    subject, subject_fault = _single(taken, policy.subject_header)
    groups, groups_fault = _single(taken, policy.groups_header)
    fault = subject_fault or groups_fault
    if not fault and subject is not None and "," in subject:
        fault = "the identity header has a comma"  # two values joined by a proxy, or one address that is two
    forwarded: dict[str, str] = {}
    repeated: set[str] = set()
    for name, key in _FORWARDED.items():
        values = taken.get(name, [])
        if len(values) == 1 and values[0].isascii():
            forwarded[key] = values[0].decode("ascii")
        elif values:
            repeated.add(key)
    return Proxied(
        trusted=True,
        peer=peer,
        client=_nearest_stranger(taken.get(_FOR, []), peer, policy.networks),
        subject=subject or None,
        groups=groups,
        forwarded=MappingProxyType(forwarded),
        repeated=frozenset(repeated),
        fault=fault,
    )


def _single(taken: Mapping[bytes, list[bytes]], name: str) -> tuple[str | None, str]:
    """Return the one value of a header, or None, and what is wrong with it."""
    values = taken.get(name.lower().encode("ascii"), []) if name else []
    if len(values) > 1:
        return None, "the identity header is repeated"
    if values and not values[0].isascii():
        return None, "the identity header is not ASCII"
    return (values[0].decode("ascii") if values else None), ""


def _nearest_stranger(values: Iterable[bytes], peer: str, networks: tuple[Network, ...]) -> str:
    """Return the first address, from the right of X-Forwarded-For, that is no trusted proxy; else the last one believed."""
    nearest = peer
    hops = b",".join(values).decode("latin-1").split(",")
    for hop in reversed([text for text in map(str.strip, hops) if text]):
        try:
            address = ipaddress.ip_address(hop)
        except ValueError:
            break  # written by nobody we trust to write addresses
        if getattr(address, "scope_id", None):
            break  # a zone means something on the machine that wrote it, and may be of any length
        nearest = str(address)
        if not _within(nearest, networks):
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
