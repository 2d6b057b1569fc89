from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Renames models and fields in the code alone: every table and column keeps its name, and the database is not touched."""

    dependencies = [
        ("accounts", "0007_cli_asker"),
        ("rbac", "0003_recent_request"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.DeleteModel("RecentRequest"),  # rbac has it
                migrations.RenameModel("Generation", "PolicyRevision"),
                migrations.AlterModelTable("PolicyRevision", "accounts_generation"),
                migrations.RenameField("PolicyRevision", "mark", "value"),
                migrations.AlterField("PolicyRevision", "value", models.CharField(db_column="mark", max_length=32)),
                migrations.RenameModel("Handover", "CliAuthorization"),
                migrations.AlterModelTable("CliAuthorization", "accounts_handover"),
                migrations.RenameField("CliAuthorization", "password_mark", "session_auth_hash"),
                migrations.AlterField(
                    "CliAuthorization",
                    "session_auth_hash",
                    models.CharField(db_column="password_mark", editable=False, max_length=64),
                ),
                migrations.RenameField("CliAuthorization", "sealed", "encrypted_cookies"),
                migrations.AlterField(
                    "CliAuthorization",
                    "encrypted_cookies",
                    models.TextField(
                        blank=True,
                        db_column="sealed",
                        default="",
                        editable=False,
                        help_text="The cookies for the CLI, encrypted.",
                    ),
                ),
                migrations.AlterField(
                    "CliAuthorization",
                    "user",
                    models.ForeignKey(
                        on_delete=models.CASCADE, related_name="cli_authorizations", to=settings.AUTH_USER_MODEL
                    ),
                ),
                migrations.RenameModel("CliAsker", "CliLoginRequest"),
                migrations.AlterModelTable("CliLoginRequest", "accounts_cliasker"),
                migrations.RenameModel("ToldRole", "SyncedRole"),
                migrations.AlterModelTable("SyncedRole", "accounts_toldrole"),
                migrations.RemoveConstraint("SyncedRole", "told_role_is_uncertain_in_a_turn"),
                migrations.RenameField("SyncedRole", "turn", "lease"),
                migrations.AlterField(
                    "SyncedRole",
                    "lease",
                    models.CharField(blank=True, db_column="turn", default="", editable=False, max_length=32),
                ),
                migrations.RenameField("SyncedRole", "turn_since", "lease_since"),
                migrations.AlterField(
                    "SyncedRole",
                    "lease_since",
                    models.DateTimeField(blank=True, db_column="turn_since", editable=False, null=True),
                ),
                migrations.AddConstraint(
                    "SyncedRole",
                    models.CheckConstraint(
                        condition=models.Q(lease="") | models.Q(role="", lease_since__isnull=False),
                        name="told_role_is_uncertain_in_a_turn",
                    ),
                ),
            ],
        ),
    ]
