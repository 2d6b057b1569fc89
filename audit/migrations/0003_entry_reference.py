"""A refusal is found by what the caller was told to quote. SQLite rebuilds the table for that, and so loses its trigger."""

import importlib

from django.db import migrations, models

APPEND_ONLY = importlib.import_module("audit.migrations.0002_append_only")


def restore(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        for statement in APPEND_ONLY.SQLITE:
            schema_editor.execute(statement.replace("CREATE TRIGGER", "CREATE TRIGGER IF NOT EXISTS"))


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_append_only")]

    operations = [
        migrations.RunPython(migrations.RunPython.noop, restore),  # last on the way back
        migrations.AddField(
            model_name="entry",
            name="reference",
            field=models.CharField(
                blank=True,
                db_index=True,
                default="",
                help_text="What a refused caller was told to quote.",
                max_length=16,
            ),
        ),
        migrations.RunPython(restore, migrations.RunPython.noop),
    ]
