"""Users: list, create, change and delete, in bulk and as CSV; and the caller's own password."""

from typing import ClassVar

from django.db import transaction
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.filters import UserFilterSet
from accounts.models import User
from accounts.services import offboarding, user_csv, user_import, users
from accounts.services.user_import_job import SMALL_PASSWORDS, SMALL_ROWS, is_small, start_import
from api.base import ApiViewSet, location, user_of_field
from api.etags import TaggedByContentMixin
from api.jobs import IDEMPOTENCY_KEY, JOB_LOCATION, PREFER, JobSerializer, accepted, idempotency_key, prefers_async
from api.parsers import CSVParser, SafeJSONParser
from api.permissions import Need
from api.schema import ETAG, LOCATION, OPTIONAL_IF_MATCH, describe_list_and_retrieve
from api.strict import RequestSerializer
from api.user_serializers import (
    BulkRoleResultSerializer,
    BulkRoleSerializer,
    ChangedUserSerializer,
    CSVRenderer,
    OwnPasswordSerializer,
    UserCreateSerializer,
    UserDeleteQuerySerializer,
    UserImportQuerySerializer,
    UserImportResultSerializer,
    UserImportSerializer,
    UserSerializer,
    UserUpdateSerializer,
)
from authn import own_password
from core.agreement import asks_first
from core.responses import respond
from rbac.permissions import Permission


@describe_list_and_retrieve("users", "a user", of_list="Returns the users, by username.", of_one="Returns one user.", tagged=True)
class UserViewSet(mixins.ListModelMixin, TaggedByContentMixin, ApiViewSet):
    """Users, by id or name. A name with a slash, and the names of the other paths below (`export`), are found by id alone."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.USERS_READ,
        "retrieve": Permission.USERS_READ,
        "create": Permission.USERS_WRITE,
        "partial_update": Permission.USERS_WRITE,
        "destroy": Permission.USERS_WRITE,
        "bulk_role": Permission.USERS_WRITE,
        "import_csv": Permission.USERS_WRITE,
        "export": Permission.USERS_WRITE,
        "own_password": Permission.PASSWORD_OWN,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {
        "create": UserCreateSerializer,
        "partial_update": UserUpdateSerializer,
        "bulk_role": BulkRoleSerializer,
        "import_csv": UserImportSerializer,
        "own_password": OwnPasswordSerializer,
    }
    queries: ClassVar[dict[str, type[RequestSerializer]]] = {
        "destroy": UserDeleteQuerySerializer,
        "import_csv": UserImportQuerySerializer,
    }
    versioned = frozenset({"partial_update", "destroy"})
    written_by_use = UserUpdateSerializer.written_by_use
    queryset = User.objects.select_related("role").order_by("username")
    serializer_class = UserSerializer
    lookup_field = "uid"
    lookup_value_regex = "[^/]+"
    path_descriptions = {"uid": "The id of the user, or the username."}
    filterset_class = UserFilterSet
    ordering_fields = ("username", "created_at", "last_seen_at", "role")
    ordering = ("username",)

    def get_object(self) -> User:
        """Return the user whom the path names. Raises NotFound."""
        return users.find_user(self.kwargs["uid"].replace("\x00", "\N{REPLACEMENT CHARACTER}"))  # no database takes a NUL

    @extend_schema(
        summary="Create a user",
        description="Creates a user. Without `password` they sign in through single sign-on; "
        "without `role` they get `user`, or less.",
        responses={201: ChangedUserSerializer},
        parameters=[ETAG, LOCATION],
    )
    def create(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        user = users.create_user(actor=self.principal, **self.body())
        headers = location("user-detail", uid=user.uid)
        return self.tagged(user, ChangedUserSerializer(user).data, status=201, headers=headers)

    @extend_schema(
        summary="Update a user",
        description="Changes a user. If one of the fields is rejected, none is changed. A new password ends their sessions. "
        "For a user of single sign-on it needs `sign_in`, `both` or `password`: it is a second way to sign in.",
        responses=ChangedUserSerializer,
        parameters=[ETAG, OPTIONAL_IF_MATCH],
    )
    @asks_first
    @transaction.atomic
    def partial_update(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        user = self.object_to_change(request)
        changes = self.body(ChangedUserSerializer(user).data)
        if "password" in changes:
            users.set_password(actor=self.principal, user=user, password=changes["password"], sign_in=changes.get("sign_in"))
        profile = {name: changes[name] for name in ("email", "display_name", "sign_in") if name in changes}
        if profile:
            users.update_profile(actor=self.principal, user=user, **profile)
        if "active" in changes:
            users.set_active(actor=self.principal, user=user, active=changes["active"])
        # A role that is sent back with its source, as both were read, is nobody's decision: it is still lost with its group.
        is_read = "role_source" in self.request.data and changes.get("role") == user.role.name
        if "role" in changes and not is_read:
            users.set_role(actor=self.principal, user=user, role=changes["role"])
        user = users.get_user(user.uid)
        return self.tagged(user, ChangedUserSerializer(user).data)

    @extend_schema(
        summary="Delete a user",
        description="Deletes a user. Their service accounts are transferred to `transfer_to`, or stay without an owner. At the "
        "next request of the user through single sign-on, SkyAuth creates the user again, with at most the role from before or a "
        "role of their groups. To refuse them, disable the user instead (`PATCH` with `active`), or set `block`.",
        responses={204: None},
        parameters=[OPTIONAL_IF_MATCH],
    )
    @asks_first
    @transaction.atomic
    def destroy(self, request: Request, uid: str) -> Response:  # noqa: ARG002
        user = self.object_to_change(request)
        options = self.query()
        heir_uid = options.get("transfer_to")
        heir = None if heir_uid is None else user_of_field(heir_uid, "transfer_to")
        offboarding.delete_user(actor=self.principal, user=user, transfer_to=heir, block=options.get("block"))
        return Response(status=204)

    @extend_schema(
        summary="Set the role of many users",
        description="Gives each of the users the role. A user who cannot be changed does not stop the others.",
        responses=BulkRoleResultSerializer,
    )
    @action(detail=False, methods=["post"], url_path="bulk-role", pagination_class=None)
    def bulk_role(self, request: Request) -> Response:  # noqa: ARG002
        outcomes = users.bulk_set_role(actor=self.principal, **self.body())
        return Response(
            {
                "succeeded": [outcome.target for outcome in outcomes if outcome.error is None],
                "failed": [{"uid": outcome.target, "error": outcome.error} for outcome in outcomes if outcome.error is not None],
            }
        )

    @extend_schema(
        summary="Import users from CSV",
        description="Creates the users of a CSV file and, with `update`, changes existing ones. If a line is invalid, "
        "nothing is imported and the response lists every invalid line. The body can also be the CSV file itself, with "
        "`Content-Type: text/csv`. "
        f"A file of more than {SMALL_ROWS} users, or with more than {SMALL_PASSWORDS} passwords, is imported by a job: the "
        "response is 202 with the job, whose path is in `Location`, and invalid lines are listed in the problem of the job. The "
        "same applies to a file that is sent with `Prefer: respond-async` or `Idempotency-Key`. A dry run never starts a job.",
        request={"application/json": UserImportSerializer},  # some generators leave out an operation that also takes text/csv
        responses={200: UserImportResultSerializer, 202: JobSerializer},
        parameters=[IDEMPOTENCY_KEY, PREFER, JOB_LOCATION],
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="import",
        parser_classes=(SafeJSONParser, CSVParser),
        pagination_class=None,
    )
    def import_csv(self, request: Request) -> HttpResponseBase:
        options, text, key = self.query(), self.body()["csv"], idempotency_key(request.headers)
        if not options["dry_run"]:
            at_once = not key and not prefers_async(request.headers) and is_small(user_csv.read_rows(text).rows)
            if not at_once:
                return accepted(request, start_import(actor=self.principal, text=text, update=options["update"], key=key))
        report = user_import.import_users(actor=self.principal, text=text, **options)
        return respond(report.as_problem()) if report.errors else Response(report.as_json())

    @extend_schema(
        summary="Export users as CSV",
        description="Returns all users as CSV, without passwords. The import accepts this file.",
        responses={(200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, description="The CSV file, safe for spreadsheets.")},
    )
    @action(detail=False, renderer_classes=(CSVRenderer,), pagination_class=None)
    def export(self, request: Request) -> Response:  # noqa: ARG002
        text = "".join(user_csv.export_users(self.principal))
        return Response(text, headers={"Content-Disposition": 'attachment; filename="skyauth-users.csv"'})

    @extend_schema(
        summary="Change your password",
        description="Changes the caller's own password. All of their sessions end.",
        responses={204: None},
    )
    @action(detail=False, methods=["post"], url_path="me/password", pagination_class=None)
    def own_password(self, request: Request) -> Response:  # noqa: ARG002
        values = self.body()
        own_password.change_own_password(actor=self.principal, current=values["current_password"], password=values["password"])
        return Response(status=204)
