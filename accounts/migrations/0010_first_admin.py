import django.utils.timezone
from django.db import migrations, models
from django.db.models import Q

# Where entries were deleted, nobody can tell whether there was an admin.
HAD_ADMIN = (
    Q(event="audit.pruned")
    | Q(event__in=["user.created", "user.deleted"], data__role="admin")
    | Q(event="user.updated", data__old__role="admin")
    | Q(event="user.updated", data__new__role="admin")
)


def mark_used(apps, schema_editor):
    """Mark first-admin as used up in an installation that has or had an admin."""
    User = apps.get_model("accounts", "User")
    Entry = apps.get_model("audit", "Entry")
    if User.objects.filter(role__name="admin").exists() or Entry.objects.filter(HAD_ADMIN).exists():
        apps.get_model("accounts", "FirstAdmin").objects.get_or_create(id=1)


class Migration(migrations.Migration):
    """Adds the table that keeps first-admin from making a second admin."""

    dependencies = [
        ("accounts", "0009_help_texts"),
        ("audit", "0001_initial"),
        ("rbac", "0002_seed_roles"),
    ]

    operations = [
        migrations.CreateModel(
            name="FirstAdmin",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="first_admin_is_one_row")],
            },
        ),
        migrations.RunPython(mark_used, migrations.RunPython.noop),
    ]
