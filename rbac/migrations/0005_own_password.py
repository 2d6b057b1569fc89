from django.db import migrations, models

import core.one_line

SEEDED = ["roles:read", "upstream:read", "users:read"]
ADDED = {"viewer": ["password:own"]}
TEXTS = {"Role": "description", "Route": "note"}


def grant(apps, schema_editor):
    """Let viewers change their own password, which an admin may have typed. A role that an admin has changed stays as it is."""
    Role = apps.get_model("rbac", "Role")
    for role in Role.objects.filter(name="viewer"):
        if role.permissions == SEEDED:
            role.permissions = [*ADDED["viewer"], *SEEDED]
            role.save(update_fields=["permissions"])


def one_line(apps, schema_editor):
    """Replace control characters of older versions by spaces, so that rows with them can be changed."""
    for model, field in TEXTS.items():
        for row in apps.get_model("rbac", model).objects.exclude(**{field: ""}).only("pk", field).iterator():
            if (text := core.one_line.as_one_line(getattr(row, field))) != getattr(row, field):
                setattr(row, field, text)
                row.save(update_fields=[field])


class Migration(migrations.Migration):
    """Gives the built-in role viewer `password:own`, and keeps control characters out of texts."""

    dependencies = [("rbac", "0004_help_texts")]

    operations = [
        migrations.AlterField(
            model_name="role",
            name="description",
            field=models.CharField(blank=True, default="", max_length=200, validators=[core.one_line.check_one_line]),
        ),
        migrations.AlterField(
            model_name="route",
            name="note",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Why the route exists.",
                max_length=200,
                validators=[core.one_line.check_one_line],
            ),
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
        migrations.RunPython(one_line, migrations.RunPython.noop),
    ]
