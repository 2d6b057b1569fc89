"""Principals: who is calling, as every interface sees it. A frozen value, never a model and never the request."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from rbac.permissions import EVERYTHING, PUBLIC, UPSTREAM


class Kind(StrEnum):
    """The kind of a caller. Names are unique within one kind only."""

    ANONYMOUS = "anonymous"
    USER = "user"
    SERVICE_ACCOUNT = "service-account"
    SHARED = "shared"  # a client with the shared password in AUTH_STRING
    SYSTEM = "system"  # manage.py, and SkyAuth itself


class Method(StrEnum):
    """By which credential a principal was authenticated."""

    NONE = "none"
    BEARER = "bearer"
    BASIC = "basic"
    PROXY = "proxy"
    SESSION = "session"
    CLI = "cli"  # the session that a user gave to their CLI
    SHARED = "shared"  # the shared password in AUTH_STRING
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller with its effective permissions.

    `uid` is stable and unique over all kinds, `name` is for display. `identity` is the name that an upstream receives: a
    user's name, a service account's `name@uid`, nothing for others. `pk` is the primary key of the user or service account,
    `owner` that of the user whose service accounts it can manage as its own. `peer` is the client's address.
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
    session_digest: str = ""  # the primary key of the session

    @property
    def identity(self) -> str:
        """The name that an upstream receives, or ""."""
        match self.kind:
            case Kind.USER:
                return self.name
            case Kind.SERVICE_ACCOUNT:
                return account_identity(self.name, self.uid)
            case _:
                return ""

    @property
    def is_authenticated(self) -> bool:
        """Whether the caller is authenticated, as for Django's users."""
        return self.kind is not Kind.ANONYMOUS

    def holds(self, permission: str) -> bool:
        return permission in self.permissions


ANONYMOUS: Final = Principal(Kind.ANONYMOUS, "", "anonymous")
UNKNOWN: Final = "unknown"  # the name of an actor who claims none


def account_identity(name: str, uid: str) -> str:
    """Return the name that an upstream receives for a service account; no user can have it."""
    return f"{name}@{uid}"


def anonymous(peer: str) -> Principal:
    """Return the principal of a request without a credential."""
    return replace(ANONYMOUS, peer=peer)


def claimed(name: str, method: str, peer: str) -> Principal:
    """Return the actor of a failed sign-in: the claimed name, without any permission."""
    authenticated_by = Method(method) if method in list(Method) else Method.NONE
    return Principal(Kind.ANONYMOUS, "", name or UNKNOWN, permissions=frozenset(), method=authenticated_by, peer=peer)


def shared(name: str, peer: str) -> Principal:
    """Return the principal of the shared password: it has every upstream permission, and none for SkyAuth itself."""
    return Principal(Kind.SHARED, f"shared:{name}", name, permissions=UPSTREAM, method=Method.SHARED, peer=peer)


def system(name: str) -> Principal:
    """Return the principal of SkyAuth itself or of the operator at the command line, with all permissions."""
    return Principal(Kind.SYSTEM, "system", name, permissions=EVERYTHING, method=Method.COMMAND)
