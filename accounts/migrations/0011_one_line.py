from django.db import migrations, models

import core.one_line

TEXTS = {"User": "display_name", "ServiceAccount": "description", "Token": "name"}


def one_line(apps, schema_editor):
    """Replace control characters of older versions by spaces, so that rows with them can be changed."""
    for model, field in TEXTS.items():
        for row in apps.get_model("accounts", model).objects.exclude(**{field: ""}).only("pk", field).iterator():
            if (text := core.one_line.as_one_line(getattr(row, field))) != getattr(row, field):
                setattr(row, field, text)
                row.save(update_fields=[field])


class Migration(migrations.Migration):
    """Keeps control characters out of names and descriptions."""

    dependencies = [("accounts", "0010_first_admin")]

    operations = [
        migrations.AlterField(
            model_name="grouprole",
            name="group",
            field=models.CharField(max_length=200, unique=True, validators=[core.one_line.check_one_line]),
        ),
        migrations.AlterField(
            model_name="serviceaccount",
            name="description",
            field=models.CharField(blank=True, default="", max_length=200, validators=[core.one_line.check_one_line]),
        ),
        migrations.AlterField(
            model_name="token",
            name="name",
            field=models.CharField(
                blank=True,
                default="",
                help_text="What the token is for.",
                max_length=64,
                validators=[core.one_line.check_one_line],
            ),
        ),
        migrations.AlterField(
            model_name="user",
            name="display_name",
            field=models.CharField(blank=True, default="", max_length=150, validators=[core.one_line.check_one_line]),
        ),
        migrations.RunPython(one_line, migrations.RunPython.noop),
    ]
