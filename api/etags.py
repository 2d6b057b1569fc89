"""Optimistic locking: strong entity tags and If-Match (RFC 9110 section 13), so that no change overwrites another unseen."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, ClassVar, Final, TypeVar

from rest_framework.request import Request
from rest_framework.response import Response

from api.errors import PreconditionRequired
from core.errors import Invalid, Stale
from rbac.services import lock_policy

Version = TypeVar("Version", int, str)

# What is between the quotes is a version. A proxy that compresses a response makes its tag weak (nginx), or appends the coding
# (Caddy, Apache). The client then has the same version, and sends the tag that it received.
_TAG: Final = r'(?:W/)?"([^"]*?)(?:-(?:gzip|br|zstd|deflate))?"'
_TAGS: Final = re.compile(rf"\s*{_TAG}\s*(?:,\s*{_TAG}\s*)*")
_EACH_TAG: Final = re.compile(_TAG)
_MALFORMED: Final = 'Send the ETag that you read, with its quotes, such as "3", or * to accept any version.'


def etag(version: object) -> str:
    """Return the strong entity tag of a version."""
    return f'"{version}"'


def expected_version(request: Request, version: Version) -> Version | None:
    """Return the current version if If-Match names it, or None for `If-Match: *`, which accepts any version.

    Raises PreconditionRequired without If-Match, Stale when it names other versions only, and Invalid when it names none.
    """
    header = request.headers.get("If-Match")
    if header is None:
        raise PreconditionRequired
    if header.strip() == "*":
        return None
    if not _TAGS.fullmatch(header):
        raise _invalid("If-Match", _MALFORMED)
    if str(version) not in _EACH_TAG.findall(header):
        raise Stale("This was changed after you read it. Read it again, then repeat your change.")
    return version


def refuse_preconditions(headers: Mapping[str, str], *, reads_if_match: bool) -> None:
    """Raise Invalid if a change has a condition that the operation does not read: it would be made whether it holds or not.

    `If-Match: *` holds for everything that exists, so it is accepted everywhere.
    """
    unread = [] if reads_if_match or headers.get("If-Match", "*").strip() == "*" else ["If-Match"]
    for name in [*unread, *(["If-None-Match"] if "If-None-Match" in headers else [])]:
        raise _invalid(name, "This operation does not read this header. Leave it out.")


def _invalid(name: str, text: str) -> Invalid:
    return Invalid(f"{name}: {text}", fields={name: [text]})


def tagged(data: Any, version: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the response with the entity tag of this version."""
    return Response(data, status=status, headers={**(headers or {}), "ETag": etag(version)})


class TaggedByContentMixin:
    """A resource whose entity tag is a hash of its fields. A change can have If-Match, and needs none."""

    serializer_class: Any
    get_object: Any
    written_by_use: ClassVar[frozenset[str]] = frozenset()  # fields that are no part of the version

    def retrieve(self, request: Request, **kwargs: str) -> Response:  # noqa: ARG002 - DRF's signature
        row = self.get_object()
        return self.tagged(row, self.serializer_class(row).data)

    def tagged(self, row: Any, data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """Return the response with the entity tag of this row."""
        return tagged(data, self._version(row), status=status, headers=headers)

    def object_to_change(self, request: Request) -> Any:
        """Return the row that the path names. With If-Match it stays as it is until the end of the transaction.

        Raises NotFound, Invalid, and Stale if it is not the version that the caller read.
        """
        if request.headers.get("If-Match", "*").strip() == "*":
            return self.get_object()
        lock_policy()
        row = self.get_object()
        expected_version(request, self._version(row))
        return row

    def _version(self, row: Any) -> str:
        values = self.serializer_class(row).data
        text = json.dumps({name: value for name, value in values.items() if name not in self.written_by_use}, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:16]
