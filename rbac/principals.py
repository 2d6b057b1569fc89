"""Who is calling, as every door sees them: one frozen value, never a model, never the request."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from rbac.permissions import EVERYTHING, PUBLIC, UPSTREAM


class Kind(StrEnum):
    """What sort of caller a principal is. The name spaces of the kinds never mix."""

    ANONYMOUS = "anonymous"
    USER = "user"
    SERVICE_ACCOUNT = "service-account"
    SHARED = "shared"  # whoever knows the password in AUTH_STRING; nobody in particular
    SYSTEM = "system"  # manage.py and SkyAuth's own steps


class Method(StrEnum):
    """How a principal was recognised."""

    NONE = "none"
    BEARER = "bearer"
    BASIC = "basic"
    PROXY = "proxy"
    SESSION = "session"
    CLI = "cli"  # by the session that a person gave their command line
    SHARED = "shared"  # by the password in AUTH_STRING
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller with the permissions they effectively hold.

    `uid` is stable and unique over all kinds; `name` is for people. `identity` is what an upstream is told: a user's
    name, a service account's `name@uid`, nothing for anybody else. `pk` is the row behind it, `owner` the row of the
    user whose service accounts it may manage as its own. `peer` is the client's address.
    """

    kind: Kind
    uid: str
    name: str
    role: str = ""
    permissions: frozenset[str] = PUBLIC
    method: Method = Method.NONE
    peer: str = ""
    pk: int | None = None
    owner: int | None = None
    display_name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    token_key_id: str = ""

    @property
    def identity(self) -> str:
        """The name an upstream hears, or "" for nobody in particular."""
        match self.kind:
            case Kind.USER:
                return self.name
            case Kind.SERVICE_ACCOUNT:
                return f"{self.name}@{self.uid}"
            case _:
                return ""

    @property
    def is_authenticated(self) -> bool:
        """Whether anybody was recognised; the name is Django's."""
        return self.kind is not Kind.ANONYMOUS

    def holds(self, permission: str) -> bool:
        """Return whether the principal holds the permission."""
        return permission in self.permissions


ANONYMOUS: Final = Principal(Kind.ANONYMOUS, "", "anonymous")


def anonymous(peer: str) -> Principal:
    """Return the principal of a request without a credential."""
    return replace(ANONYMOUS, peer=peer)


def claimed(name: str, method: str, peer: str) -> Principal:
    """Return the actor of a refused sign-in: the name claimed, proven by nothing, with no permission at all."""
    known = Method(method) if method in list(Method) else Method.NONE
    return Principal(Kind.ANONYMOUS, "", name or "unknown", permissions=frozenset(), method=known, peer=peer)


def shared(name: str, peer: str) -> Principal:
    """Return whoever knows the shared password: all of the upstreams, nothing of SkyAuth's own management."""
    return Principal(Kind.SHARED, f"shared:{name}", name, permissions=UPSTREAM, method=Method.SHARED, peer=peer)


def system(name: str) -> Principal:
    """Return SkyAuth itself, or the operator at the command line: everything, under the name of the step."""
    return Principal(Kind.SYSTEM, "system", name, permissions=EVERYTHING, method=Method.COMMAND)
