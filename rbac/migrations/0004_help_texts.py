import rbac.models
from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes help texts of fields. The database is not touched."""

    dependencies = [
        ("rbac", "0003_recent_request"),
    ]

    operations = [
        migrations.AlterField(
            model_name="role",
            name="builtin",
            field=models.BooleanField(default=False, editable=False, help_text="Built in: it cannot be deleted."),
        ),
        migrations.AlterField(
            model_name="role",
            name="version",
            field=models.PositiveIntegerField(default=1, editable=False, help_text="Increases by one with each change."),
        ),
        migrations.AlterField(
            model_name="route",
            name="methods",
            field=models.JSONField(
                default=list,
                help_text='Method names, such as ["GET", "HEAD"], or ["*"] for any method.',
                validators=[rbac.models.check_methods],
            ),
        ),
        migrations.AlterField(
            model_name="route",
            name="note",
            field=models.CharField(blank=True, default="", help_text="Why the route exists.", max_length=200),
        ),
        migrations.AlterField(
            model_name="route",
            name="path",
            field=models.CharField(
                help_text="A path pattern, such as /api/** or /jobs/*/logs.",
                max_length=512,
                validators=[rbac.models.check_pattern],
            ),
        ),
        migrations.AlterField(
            model_name="route",
            name="permission",
            field=models.CharField(
                help_text="The permission that a matching request requires.",
                max_length=64,
                validators=[rbac.models.check_permission],
            ),
        ),
        migrations.AlterField(
            model_name="route",
            name="position",
            field=models.PositiveIntegerField(
                db_index=True, help_text="Routes are matched in ascending order of position. The first match decides."
            ),
        ),
        migrations.AlterField(
            model_name="route",
            name="version",
            field=models.PositiveIntegerField(default=1, editable=False, help_text="Increases by one with each change."),
        ),
    ]
