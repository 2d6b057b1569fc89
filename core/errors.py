"""The errors that services raise. Each interface turns them into its own response."""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class ServiceError(Exception):
    """An error with a stable `code`, its HTTP `status`, a message for the user and, by field name, the messages of `fields`."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, fields: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = {name: list(texts) for name, texts in (fields or {}).items()}


class Forbidden(ServiceError):
    """The actor lacks the permission (HTTP 403)."""

    code = "forbidden"
    status = 403


class Invalid(ServiceError):
    """The input is invalid (HTTP 400)."""

    code = "invalid"
    status = 400

    @classmethod
    def field(cls, name: str, message: str) -> "Invalid":
        """Return the error of one field."""
        return cls(message, fields={name: [message]})


class NotFound(ServiceError):
    """The object does not exist, or the actor cannot see it (HTTP 404)."""

    code = "not-found"
    status = 404


class Conflict(ServiceError):
    """The change would break a rule: the name is taken, the last admin would be lost, the object is in use (HTTP 409)."""

    code = "conflict"
    status = 409


class Unavailable(ServiceError):
    """Another system that the change needs does not answer; nothing was changed (HTTP 503)."""

    code = "unavailable"
    status = 503


class Stale(ServiceError):
    """The object was changed since it was read (HTTP 412)."""

    code = "stale"
    status = 412
