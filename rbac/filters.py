"""Which roles and routes a list shows."""

from typing import ClassVar

from django_filters import CharFilter, FilterSet

from core.filters import SearchFilter, StrictBooleanFilter
from rbac.models import Role, Route


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
