"""Which roles and routes a list shows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from django_filters import CharFilter, FilterSet

from core.filters import SearchFilter, StrictBooleanFilter
from core.paths import AmbiguousPath, Segments, split_path
from rbac.models import Role, Route
from rbac.patterns import BadPattern
from rbac.routes import ANY_METHOD


class RoleFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the list of roles."""

    search = SearchFilter("name__icontains", "description__icontains", label="Words to find in the name or the description.")
    builtin = StrictBooleanFilter(label="Whether the role came with SkyAuth.")

    class Meta:
        model = Role
        fields: ClassVar[list[str]] = []


class RouteFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the route table."""

    search = SearchFilter("path__icontains", "note__icontains", label="Words to find in the path or the note.")
    host = CharFilter(label="The exact host of the route.")
    permission = CharFilter(label="The permission that the route requires.")

    class Meta:
        model = Route
        fields: ClassVar[list[str]] = []


def matching_routes(rows: Sequence[Route], filters: Mapping[str, str]) -> list[Route]:
    """Return the routes that match the filters `q`, `host`, `method` and `permission`, for a page that shows the whole table.

    A text matches routes that contain it and, as a path, routes that match it. A host matches routes for any host, too.
    """
    text = filters["q"].strip()
    path: Segments | None = None
    if text.startswith("/") and "*" not in text:
        with suppress(AmbiguousPath):
            path = split_path(text)
    return [
        row
        for row in rows
        if (not text or _contains(row, text.lower()) or (path is not None and _matches(row, path)))
        and (not filters["host"] or row.host in {"", filters["host"]})
        and (not filters["method"] or filters["method"] in row.methods or ANY_METHOD in row.methods)
        and (not filters["permission"] or row.permission == filters["permission"])
    ]


def _contains(row: Route, text: str) -> bool:
    return any(text in value.lower() for value in (f"{row.host}{row.path}", row.note))


def _matches(row: Route, path: Segments) -> bool:
    try:
        return row.compiled().pattern.matches(path)
    except BadPattern:
        return False
