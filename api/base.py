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

from accounts.models import User
from accounts.services.users import get_user
from api.parsers import SafeJSONParser
from api.permissions import Need
from core.errors import Invalid, NotFound
from core.numbers import whole_number
from rbac.principals import Kind, Method, Principal

_KINDS = {
    Kind.ANONYMOUS: "no credential",
    Kind.USER: "a user",
    Kind.SERVICE_ACCOUNT: "a service account",
    Kind.SHARED: "the shared credential of AUTH_STRING",
    Kind.SYSTEM: "SkyAuth itself",
}
_METHODS = {
    Method.NONE: "no credential",
    Method.BEARER: "a bearer token",
    Method.BASIC: "HTTP Basic",
    Method.PROXY: "headers of a trusted authentication proxy",
    Method.SESSION: "the session of a browser",
    Method.CLI: "the session of a command line (CLI login)",
    Method.SHARED: "the shared credential of AUTH_STRING",
    Method.COMMAND: "a management command",
}
KIND_CHOICES = [(kind.value, _KINDS[kind]) for kind in Kind]
METHOD_CHOICES = [(method.value, _METHODS[method]) for method in Method]


class StableOrderingFilter(OrderingFilter):
    """Orders by `ordering`, then by primary key, so that no row is on two pages."""

    def get_ordering(self, request: Request, queryset: Any, view: APIView) -> Any:
        ordering = super().get_ordering(request, queryset, view)
        return [*ordering, "pk"] if ordering else ordering

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        names = ", ".join(f"`{name}`" for name in view.ordering_fields)
        description = f"The field to sort by: {names}. A leading `-` reverses the order."
        return [{**parameter, "description": description} for parameter in super().get_schema_operation_parameters(view)]


class ApiViewSet(GenericViewSet[Any]):
    """A viewset whose `needs` says which permission each action needs. An action that `needs` does not name is denied.

    `path_descriptions` describes the parameters of the path, by name, for the OpenAPI document.
    """

    needs: ClassVar[dict[str, Need]] = {}
    refusals: ClassVar[frozenset[int]] = frozenset()  # statuses of errors besides those that `api.schema` derives
    path_descriptions: ClassVar[dict[str, str]] = {}
    http_method_names = ["get", "head", "post", "patch", "delete"]
    parser_classes = (SafeJSONParser,)
    filter_backends: Sequence[Any] = (DjangoFilterBackend, StableOrderingFilter)
    metadata_class = None

    @property
    def principal(self) -> Principal:
        """The caller; `ActionPermission` denies anonymous requests."""
        return cast(Principal, self.request.user)

    def validated(self, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the validated fields of the body. Raises ValidationError."""
        serializer = serializer_class(data=self.request.data)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the response, not to be stored: it is for one caller, and some responses hold a new token."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final.headers.setdefault("Cache-Control", "no-store")
        return final


class UntrimmedCharField(serializers.CharField):
    """Text as it was sent. Surrounding blanks are left for the service to reject; they are never removed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)


class NumberField(serializers.IntegerField):
    """A whole number. In a JSON string, its digits are ASCII."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str):
            try:
                data = whole_number(data)
            except ValueError:
                self.fail("invalid")
        number: int = super().to_internal_value(data)
        return number


def location(view: str, /, **kwargs: object) -> dict[str, str]:
    """Return the Location header of a created resource (RFC 9110 section 10.2.2)."""
    return {"Location": reverse(f"api:{view}", kwargs=kwargs)}


def user_of_field(uid: str, field: str) -> User:
    """Return the user whose id is in this field of the request. Raises Invalid."""
    try:
        return get_user(uid.replace("\x00", "\N{REPLACEMENT CHARACTER}"))  # no database takes a NUL
    except NotFound as error:
        raise Invalid.field(field, error.message) from None
