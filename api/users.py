"""Users: list, create, change, delete, in bulk and as CSV; and one's own password."""

from typing import Any, ClassVar

from django.db import transaction
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import mixins, renderers, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.filters import UserFilterSet
from accounts.models import RoleSource, SignIn, User
from accounts.services import offboarding, user_csv, user_import, users
from api.base import Resource, Text, location
from api.parsers import Csv, Json
from api.permissions import Need
from api.schema import LOCATION
from authn import own_password
from core.errors import Invalid, NotFound
from core.problems import problem
from core.responses import respond
from rbac.permissions import Permission

MAX_BULK = 1_000


class UserOut(serializers.ModelSerializer[User]):
    """A user, as everybody who may read users sees them."""

    email = serializers.CharField(allow_blank=True)
    role = serializers.CharField(source="role.name")
    role_source = serializers.ChoiceField(choices=RoleSource.choices)
    sign_in = serializers.ChoiceField(choices=SignIn.choices)
    active = serializers.BooleanField(source="is_active")

    class Meta:
        model = User
        fields = (
            "uid",
            "username",
            "email",
            "display_name",
            "role",
            "role_source",
            "sign_in",
            "active",
            "created_at",
            "last_seen_at",
        )
        read_only_fields = fields


class UserChange(serializers.Serializer[Any]):
    """What can be changed of a user. Whatever else is sent changes nothing."""

    role = Text(max_length=32, required=False, help_text="A role's name; you must hold all that it gives.")
    active = serializers.BooleanField(required=False)
    password = Text(max_length=1_024, required=False, write_only=True)
    email = Text(max_length=254, required=False, allow_blank=True)
    display_name = Text(max_length=150, required=False, allow_blank=True)
    sign_in = serializers.ChoiceField(choices=SignIn.choices, required=False)


class UserNew(serializers.Serializer[Any]):
    """A new user. Without a password they come by single sign-on; without a role they get the default one."""

    username = Text(max_length=254, help_text="An e-mail address, or a plain name such as alice.")
    password = Text(max_length=1_024, required=False, allow_null=True, write_only=True)
    role = Text(max_length=32, required=False, allow_null=True)
    email = Text(max_length=254, required=False, allow_blank=True, allow_null=True)
    display_name = Text(max_length=150, required=False, allow_blank=True)
    sign_in = serializers.ChoiceField(choices=SignIn.choices, required=False)


class BulkRole(serializers.Serializer[Any]):
    """Which users get which role."""

    uids = serializers.ListField(child=Text(max_length=16), min_length=1, max_length=MAX_BULK)
    role = Text(max_length=32)


class BulkFailure(serializers.Serializer[Any]):
    """A user whose role stayed as it was, and why."""

    uid = serializers.CharField()
    error = serializers.CharField()


class BulkRoleOut(serializers.Serializer[Any]):
    """What became of a bulk change: each user is changed, or not, on their own."""

    succeeded = serializers.ListField(child=serializers.CharField())
    failed = BulkFailure(many=True)


class OwnPassword(serializers.Serializer[Any]):
    """The password one has, and the one it shall be."""

    current_password = Text(max_length=1_024, write_only=True)
    password = Text(max_length=1_024, write_only=True)


class CsvIn(serializers.Serializer[Any]):
    """A CSV file inside JSON."""

    csv = Text(help_text="Columns: username, and where wanted password, role, email, display_name, sign_in, active.")


class CsvReport(serializers.Serializer[Any]):
    """An import that was done, or in a dry run one that could be."""

    applied = serializers.BooleanField()
    created = serializers.ListField(child=serializers.CharField())
    changed = serializers.ListField(child=serializers.CharField(), help_text="Whom `update` made otherwise than before.")


class CsvRenderer(renderers.BaseRenderer):
    """Renders text as CSV (RFC 4180)."""

    media_type = "text/csv"
    format = "csv"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:  # noqa: ARG002
        """Return the text in UTF-8."""
        return str(data).encode("utf-8")


class UserViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Resource):
    """Users, by their id."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.USERS_READ,
        "retrieve": Permission.USERS_READ,
        "create": Permission.USERS_WRITE,
        "partial_update": Permission.USERS_WRITE,
        "destroy": Permission.USERS_WRITE,
        "bulk_role": Permission.USERS_WRITE,
        "import_csv": Permission.USERS_WRITE,
        "export": Permission.USERS_READ,
        "own_password": Permission.PASSWORD_OWN,
    }
    queryset = User.objects.select_related("role").order_by("username")
    serializer_class = UserOut
    lookup_field = "uid"
    lookup_value_regex = "[0-9a-f]{1,16}"
    filterset_class = UserFilterSet
    ordering_fields = ("username", "created_at", "last_seen_at", "role")
    ordering = ("username",)

    @extend_schema(request=UserNew, responses={201: UserOut}, parameters=[LOCATION])
    def create(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        """Create a user."""
        user = users.create_user(actor=self.principal, **self.given(UserNew))
        return Response(UserOut(user).data, status=201, headers=location("user-detail", uid=user.uid))

    @extend_schema(request=UserChange, responses=UserOut)
    @transaction.atomic
    def partial_update(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        """Change a user: everything that is sent, or, when one part of it is refused, nothing."""
        user = self.get_object()
        given = self.given(UserChange)
        if "password" in given:
            users.set_password(actor=self.principal, user=user, password=given["password"])
        profile = {name: given[name] for name in ("email", "display_name", "sign_in") if name in given}
        if profile:
            users.update_profile(actor=self.principal, user=user, **profile)
        if "active" in given:
            users.set_active(actor=self.principal, user=user, active=given["active"])
        if "role" in given:
            users.set_role(actor=self.principal, user=user, role=given["role"])
        return Response(UserOut(users.get_user(uid)).data)

    @extend_schema(
        responses={204: None},
        parameters=[OpenApiParameter("transfer_to", str, description="The id of the user who takes over the service accounts.")],
    )
    def destroy(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        """Delete a user. Their service accounts go to `transfer_to`, or stay without an owner."""
        user = self.get_object()
        heir_uid = request.query_params.get("transfer_to")
        heir = None if heir_uid is None else _named(heir_uid, "transfer_to")
        offboarding.delete_user(actor=self.principal, user=user, transfer_to=heir)
        return Response(status=204)

    @extend_schema(request=BulkRole, responses=BulkRoleOut, filters=False)
    @action(detail=False, methods=["post"], url_path="bulk-role", pagination_class=None, filter_backends=())
    def bulk_role(self, request: Request) -> Response:  # noqa: ARG002
        """Give many users a role, each on their own."""
        given = self.given(BulkRole)
        outcomes = users.bulk_set_role(actor=self.principal, uids=given["uids"], role=given["role"])
        return Response(
            {
                "succeeded": [outcome.target for outcome in outcomes if outcome.error is None],
                "failed": [{"uid": outcome.target, "error": outcome.error} for outcome in outcomes if outcome.error is not None],
            }
        )

    @extend_schema(
        request={"application/json": CsvIn, "text/csv": OpenApiTypes.STR},
        responses=CsvReport,
        parameters=[
            OpenApiParameter("dry_run", bool, description="Only say what would be done."),
            OpenApiParameter(
                "update",
                bool,
                description="Change users who exist, but for their passwords. An empty email or display_name empties it.",
            ),
        ],
        filters=False,
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="import",
        parser_classes=(Json, Csv),
        pagination_class=None,
        filter_backends=(),
    )
    def import_csv(self, request: Request) -> HttpResponseBase:
        """Create the users of a CSV file, or change them: all, or, when one line is bad, none; every bad line is named."""
        dry_run, update = _flag(request, "dry_run"), _flag(request, "update")
        text = self.given(CsvIn)["csv"]
        report = user_import.import_users(actor=self.principal, text=text, dry_run=dry_run, update=update)
        if report.errors:
            return respond(_failed(report))
        return Response({"applied": report.applied, "created": list(report.created), "changed": list(report.changed)})

    @extend_schema(
        responses={(200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, description="Safe to open in a spreadsheet.")},
        filters=False,
    )
    @action(detail=False, renderer_classes=(CsvRenderer,), pagination_class=None, filter_backends=())
    def export(self, request: Request) -> Response:  # noqa: ARG002
        """Return all users as CSV, without passwords."""
        text = "".join(user_csv.export_users(self.principal))
        return Response(text, headers={"Content-Disposition": 'attachment; filename="skyauth-users.csv"'})

    @extend_schema(request=OwnPassword, responses={204: None}, filters=False)
    @action(detail=False, methods=["post"], url_path="me/password", pagination_class=None, filter_backends=())
    def own_password(self, request: Request) -> Response:  # noqa: ARG002
        """Change one's own password. All of one's sessions end."""
        given = self.given(OwnPassword)
        own_password.change_own_password(actor=self.principal, current=given["current_password"], password=given["password"])
        return Response(status=204)


def _named(uid: str, field: str) -> User:
    """Return the user whom a field of a request names. Raises Invalid."""
    try:
        return users.get_user(uid.replace("\x00", "\N{REPLACEMENT CHARACTER}"))
    except NotFound as error:
        raise Invalid.field(field, error.message) from None


def _flag(request: Request, name: str) -> bool:
    """Return a query parameter that is true or false. Raises Invalid: a misspelt dry run must not be a real one."""
    value = request.query_params.get(name, "false")
    if value not in {"true", "false"}:
        raise Invalid.field(name, "Write true or false.")
    return value == "true"


def _failed(report: user_import.ImportReport) -> dict[str, Any]:
    by_line: dict[str, list[str]] = {}
    for failure in report.errors:
        by_line.setdefault(f"line {failure.line}", []).append(failure.error)
    failures = [{"line": f.line, "username": f.username, "error": f.error} for f in report.errors]
    detail = f"Nothing was imported: {len(by_line)} of the lines cannot be accepted."
    return problem(400, "invalid", detail, by_line, failures=failures)
