"""What all resources of the API share."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from django.urls import reverse
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers
from rest_framework.filters import OrderingFilter
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from api.parsers import Json
from api.permissions import Need
from rbac.principals import Principal


class Ordering(OrderingFilter):
    """Orders by `ordering`, and where that leaves two rows equal by their age, so that no row is on two pages."""

    def get_ordering(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the fields to order by, the primary key last."""
        ordering = super().get_ordering(request, queryset, view)
        return [*ordering, "pk"] if ordering else ordering


class Resource(GenericViewSet[Any]):
    """A viewset that names for each of its actions what it needs; an action that `needs` does not name is denied."""

    needs: ClassVar[dict[str, Need]] = {}
    refusals: ClassVar[frozenset[int]] = frozenset()  # what it can answer besides what `api.schema` tells by itself
    http_method_names = ["get", "head", "post", "patch", "delete"]
    parser_classes = (Json,)
    filter_backends: Sequence[Any] = (DjangoFilterBackend, Ordering)
    metadata_class = None

    @property
    def principal(self) -> Principal:
        """Who calls; `Needs` has seen to it that it is somebody."""
        return cast(Principal, self.request.user)

    def given(self, serializer: type[serializers.Serializer[Any]], *, partial: bool = False) -> dict[str, Any]:
        """Return the validated body. Raises ValidationError."""
        body = serializer(data=self.request.data, partial=partial)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the response, which nobody may keep: it is for one caller, and some answers hold a new token."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final.headers.setdefault("Cache-Control", "no-store")
        return final


class Text(serializers.CharField):
    """Text as it was sent: what has blanks around it is refused by whoever minds them, and never repaired."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)


def location(view: str, /, **kwargs: object) -> dict[str, str]:
    """Return the Location header of something new (RFC 9110 section 10.2.2)."""
    return {"Location": reverse(f"api:{view}", kwargs=kwargs)}
