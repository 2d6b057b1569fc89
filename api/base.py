"""What all resources of the API share."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from django.urls import reverse
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers
from rest_framework.filters import OrderingFilter
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from accounts.services.users import find_user
from api.etags import refuse_preconditions
from api.pagination import ApiPagination
from api.parsers import SafeJSONParser, refuse_coding
from api.permissions import Need
from api.strict import RequestSerializer, refuse_body, refuse_empty_parameters, refuse_unknown_parameters
from core.errors import Invalid, NotFound
from core.numbers import whole_number
from core.same_origin import SAFE_METHODS
from core.text import clean
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
NUMBER = "[0-9]{1,18}"  # of a row, in a path
KIND_CHOICES = [(kind.value, _KINDS[kind]) for kind in Kind]
METHOD_CHOICES = [(method.value, _METHODS[method]) for method in Method]


class FilterSetBackend(DjangoFilterBackend):  # type: ignore[misc]
    """Filters by the view's filter set. django-filter's own backend fails if the text of an error has a percent sign."""

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the rows. Raises ValidationError."""
        filterset = self.get_filterset(request, queryset, view)
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise serializers.ValidationError({name: list(texts) for name, texts in filterset.errors.items()})
        return filterset.qs


class StableOrderingFilter(OrderingFilter):
    """Orders by `ordering`, then by primary key, so that no row is on two pages."""

    def get_ordering(self, request: Request, queryset: Any, view: APIView) -> Any:
        ordering = super().get_ordering(request, queryset, view)
        return [*ordering, "pk"] if ordering else ordering

    def remove_invalid_fields(self, queryset: Any, fields: Any, view: APIView, request: Request) -> Any:
        """Return the fields. Raises Invalid instead of removing one."""
        valid = super().remove_invalid_fields(queryset, fields, view, request)
        if invalid := [field for field in fields if field not in valid]:
            choices = ", ".join(cast(Any, view).ordering_fields)
            names = ", ".join(clean(field, 64) for field in invalid[:10])
            text = f"This list cannot be sorted by: {names}. Fields: {choices}. A leading - reverses the order."
            raise Invalid(f"ordering: {text}", fields={"ordering": [text]})
        return valid

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        names = ", ".join(f"`{name}`" for name in view.ordering_fields)
        description = f"The field to sort by: {names}. A leading `-` reverses the order."
        return [{**parameter, "description": description} for parameter in super().get_schema_operation_parameters(view)]


class ApiViewSet(GenericViewSet[Any]):
    """A viewset whose `needs` says which permission each action needs. An action that `needs` does not name is denied.

    `bodies` has the fields of an action's body, and `queries` the parameters of its query. An action that they do not name has
    none. A list also has the parameters of its filters and pages. Every other name in a request is an error (promise 48).
    `versioned` names the actions that read If-Match.
    `path_descriptions` describes the parameters of the path, by name, for the OpenAPI document.
    """

    needs: ClassVar[dict[str, Need]] = {}
    refusals: ClassVar[frozenset[int]] = frozenset()  # statuses of errors besides those that `api.schema` derives
    path_descriptions: ClassVar[dict[str, str]] = {}
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {}
    queries: ClassVar[dict[str, type[RequestSerializer]]] = {}
    versioned: ClassVar[frozenset[str]] = frozenset()
    http_method_names = ["get", "head", "post", "patch", "delete"]
    parser_classes = (SafeJSONParser,)
    filterset_class: Any = None
    filter_backends: Sequence[Any] = (FilterSetBackend, StableOrderingFilter)
    metadata_class = None

    @property
    def principal(self) -> Principal:
        """The caller; `ActionPermission` denies anonymous requests."""
        return cast(Principal, self.request.user)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the caller, the names in the query, and that no body or condition is sent that is not read. Raises Invalid."""
        super().initial(request, *args, **kwargs)
        if not self.action:
            return  # the response is 405
        of_list = self.list_parameters()
        query = self.queries.get(self.action, RequestSerializer)
        refuse_unknown_parameters(request._request, [*of_list, *query().fields], query.renamed)
        refuse_empty_parameters(request._request, [name for name in of_list if name != "search"])
        if request.method not in SAFE_METHODS:
            refuse_preconditions(request.headers, reads_if_match=self.action in self.versioned)
        if self.action in self.bodies:
            refuse_coding(request)
        else:
            refuse_body(request._request)

    def list_parameters(self) -> list[str]:
        """Return the names of the parameters of a list: its filters, order and pages. They are none for other actions."""
        if self.action != "list":
            return []
        names = [*self.filterset_class.base_filters, StableOrderingFilter.ordering_param] if self.filter_backends else []
        return [*names, *ApiPagination.PARAMETERS] if self.pagination_class is not None else names

    def filter_queryset(self, queryset: Any) -> Any:
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def body(self, present: Any = None) -> dict[str, Any]:
        """Return the validated fields of the body. `present` has those of the resource now. Raises ValidationError, Invalid."""
        if not isinstance(self.request.data, Mapping):
            raise Invalid("The body is not a JSON object. Send one, such as {}.")
        resource = {} if self.serializer_class is None else cast(Any, self.serializer_class)().fields
        context = {"resource": resource, "present": present}
        return self._validated(self.bodies[self.action](data=self.request.data, context=context))

    def query(self) -> dict[str, Any]:
        """Return the validated parameters of the query. Raises ValidationError."""
        return self._validated(self.queries[self.action](data=self.request.query_params.dict()))

    def _validated(self, serializer: RequestSerializer) -> dict[str, Any]:
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


class TrueOrFalseField(serializers.BooleanField):
    """A parameter of a query that is `true` or `false`. A misspelt dry run must not change anything."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value. Raises ValidationError."""
        if data not in {"true", "false"}:
            raise serializers.ValidationError("The value must be true or false.")
        return bool(data == "true")


def location(view: str, /, **kwargs: object) -> dict[str, str]:
    """Return the Location header of a created resource (RFC 9110 section 10.2.2)."""
    return {"Location": reverse(f"api:{view}", kwargs=kwargs)}


def user_of_field(name_or_uid: str, field: str) -> User:
    """Return the user whose name or id is in this field of the request. Raises Invalid."""
    try:
        return find_user(name_or_uid.replace("\x00", "\N{REPLACEMENT CHARACTER}"))  # no database takes a NUL
    except NotFound as error:
        raise Invalid.field(field, error.message) from None
