"""What a service refuses, in words that a door can pass on. Raised by services only; each door maps it to its own shape."""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class ServiceError(Exception):
    """A refusal with a stable `code`, its HTTP `status`, a message for the user and, by field name, the messages of `fields`."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, fields: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = {name: list(texts) for name, texts in (fields or {}).items()}


class Forbidden(ServiceError):
    """The actor may not do this (HTTP 403)."""

    code = "forbidden"
    status = 403


class Invalid(ServiceError):
    """What was sent cannot be accepted as it is (HTTP 400)."""

    code = "invalid"
    status = 400

    @classmethod
    def field(cls, name: str, message: str) -> "Invalid":
        """Return the refusal of one field."""
        return cls(message, fields={name: [message]})


class NotFound(ServiceError):
    """There is no such thing, or the actor may not see it (HTTP 404)."""

    code = "not-found"
    status = 404


class Conflict(ServiceError):
    """It would break what must hold: a taken name, the last admin, something still in use (HTTP 409)."""

    code = "conflict"
    status = 409


class Stale(ServiceError):
    """Somebody else changed it since it was read (HTTP 412)."""

    code = "stale"
    status = 412
