"""The bodies of requests and responses about users."""

from typing import Any, ClassVar

from rest_framework import renderers, serializers

from accounts.identifiers import MAX_NAME
from accounts.models import RoleSource, SignIn, User
from accounts.services.sign_in_warnings import warning_about
from api.base import TrueOrFalseField, UntrimmedCharField
from api.strict import RequestSerializer

MAX_BULK = 1_000
_EMAIL = "The e-mail address of the user."
_DISPLAY_NAME = "The name that pages show."
_ROLE = "The name of the role. You must have all of its permissions."
LEAST_ROLE = "Default: `user`, or the role of RBAC_DEFAULT_ROLE if that has fewer permissions."
_SIGN_IN = "How the user can sign in. For `both`, you must have all permissions of the roles that groups give."
_NO_SIGN_IN: dict[str, Any] = {"invalid_choice": f"{{input!r}} is not a choice. Choose one of: {', '.join(SignIn.values)}."}
_ACTIVE = "Whether the user is active. Every credential of a disabled user is rejected."


class UserSerializer(serializers.ModelSerializer[User]):
    """A user."""

    email = serializers.CharField(allow_blank=True, help_text=_EMAIL)
    role = serializers.CharField(source="role.name", help_text="The name of the user's role.")
    role_source = serializers.ChoiceField(choices=RoleSource.choices, help_text="Where the role comes from.")
    sign_in = serializers.ChoiceField(choices=SignIn.choices, help_text=_SIGN_IN)
    active = serializers.BooleanField(source="is_active", help_text=_ACTIVE)

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
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "uid": {"help_text": "The id of the user. SkyPilot derives the same id from the username."},
            "username": {"help_text": "An e-mail address or a plain name, in lower case."},
            "display_name": {"help_text": _DISPLAY_NAME},
            "created_at": {"help_text": "When the user was created."},
            "last_seen_at": {"help_text": "When the user last sent a request, to the minute; null: never."},
        }


class ChangedUserSerializer(UserSerializer):
    """A user who was created or changed."""

    warnings = serializers.SerializerMethodField(help_text="What was accepted, but needs attention.")

    class Meta(UserSerializer.Meta):
        fields = (*UserSerializer.Meta.fields, "warnings")  # type: ignore[assignment] # one more than the base class
        read_only_fields = fields  # type: ignore[assignment]

    @staticmethod
    def get_warnings(user: User) -> list[str]:
        """Return the warnings about the user."""
        return list(filter(None, [warning_about(user)]))


class UserUpdateSerializer(RequestSerializer):
    """The fields of a user that can be changed."""

    written_by_use = frozenset({"last_seen_at"})

    role = UntrimmedCharField(max_length=32, required=False, help_text=_ROLE)
    active = serializers.BooleanField(required=False, help_text=_ACTIVE)
    password = UntrimmedCharField(max_length=1_024, required=False, write_only=True, help_text="The new password.")
    email = UntrimmedCharField(max_length=254, required=False, allow_blank=True, help_text=_EMAIL)
    display_name = UntrimmedCharField(max_length=150, required=False, allow_blank=True, help_text=_DISPLAY_NAME)
    sign_in = serializers.ChoiceField(choices=SignIn.choices, required=False, help_text=_SIGN_IN, error_messages=_NO_SIGN_IN)


class UserDeleteQuerySerializer(RequestSerializer):
    """What happens to the service accounts and to the name of a deleted user."""

    transfer_to = UntrimmedCharField(
        required=False, help_text="The id or the name of the user who becomes the owner of the service accounts."
    )
    block = TrueOrFalseField(
        required=False,
        help_text="Whether single sign-on refuses the name of the user from then on. The default is `true` for a disabled user, "
        "and `false` for others. `/api/v1/deleted-users` shows and changes it.",
    )


class UserCreateSerializer(RequestSerializer):
    """A new user."""

    username = UntrimmedCharField(max_length=254, help_text="An e-mail address, or a plain name such as `alice`.")
    password = UntrimmedCharField(
        max_length=1_024,
        required=False,
        allow_null=True,
        write_only=True,
        help_text="The password. Without one the user signs in through single sign-on.",
    )
    role = UntrimmedCharField(max_length=32, required=False, allow_null=True, help_text=f"{_ROLE} {LEAST_ROLE}")
    email = UntrimmedCharField(max_length=254, required=False, allow_blank=True, allow_null=True, help_text=_EMAIL)
    display_name = UntrimmedCharField(max_length=150, required=False, allow_blank=True, help_text=_DISPLAY_NAME)
    sign_in = serializers.ChoiceField(choices=SignIn.choices, required=False, help_text=_SIGN_IN, error_messages=_NO_SIGN_IN)


class BulkRoleSerializer(RequestSerializer):
    """Users and the role that they are to get."""

    uids = serializers.ListField(
        child=UntrimmedCharField(max_length=MAX_NAME),
        min_length=1,
        max_length=MAX_BULK,
        help_text="The ids or names of the users.",
    )
    role = UntrimmedCharField(max_length=32, help_text=_ROLE)


class BulkRoleFailureSerializer(serializers.Serializer[Any]):
    """A user whose role was not changed."""

    uid = serializers.CharField(help_text="The id or name, as it was sent.")
    error = serializers.CharField(help_text="Why the role was not changed.")


class BulkRoleResultSerializer(serializers.Serializer[Any]):
    """The result of a bulk change."""

    succeeded = serializers.ListField(
        child=serializers.CharField(), help_text="The users who have the role now, as they were sent."
    )
    failed = BulkRoleFailureSerializer(many=True, help_text="The users whose role was not changed.")


class OwnPasswordSerializer(RequestSerializer):
    """The caller's current and new password."""

    current_password = UntrimmedCharField(max_length=1_024, write_only=True, help_text="Your current password.")
    password = UntrimmedCharField(max_length=1_024, write_only=True, help_text="Your new password.")


class UserImportSerializer(RequestSerializer):
    """A CSV file in JSON."""

    csv = UntrimmedCharField(
        help_text="The CSV text. Columns: username, and optionally password, role, email, display_name, sign_in, active."
    )


class ImportedUserSerializer(serializers.Serializer[Any]):
    """A user that an import creates or changes."""

    username = serializers.CharField(help_text="The username.")
    role = serializers.CharField(help_text="The role after the import.")
    old_role = serializers.CharField(allow_null=True, help_text="The role before it, if it changes; null otherwise.")


class UserImportQuerySerializer(RequestSerializer):
    """How a CSV file is imported."""

    dry_run = TrueOrFalseField(default=False, help_text="Check the file and return what would change, without changing it.")
    update = TrueOrFalseField(  # type: ignore[assignment] # the metaclass takes the field out of the class
        default=False,
        help_text="Change existing users too, except for their passwords. An empty email or display_name clears it.",
    )


class UserImportResultSerializer(serializers.Serializer[Any]):
    """The result of an import."""

    applied = serializers.BooleanField(help_text="Whether the changes were made: false for a dry run.")
    created = serializers.ListField(child=serializers.CharField(), help_text="The usernames of the new users.")
    changed = serializers.ListField(child=serializers.CharField(), help_text="The usernames of the changed users.")
    users = ImportedUserSerializer(many=True, help_text="The created and changed users with their roles.")
    new_admins = serializers.ListField(child=serializers.CharField(), help_text="The usernames of those who get the role admin.")
    warnings = serializers.ListField(child=serializers.CharField(), help_text="What was accepted, but needs attention.")


class CSVRenderer(renderers.BaseRenderer):
    """CSV (RFC 4180) in UTF-8, from text that is CSV already."""

    media_type = "text/csv"
    format = "csv"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:  # noqa: ARG002
        return str(data).encode("utf-8")
