from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes help texts of fields. The database is not touched."""

    dependencies = [
        ("audit", "0003_entry_reference"),
    ]

    operations = [
        migrations.AlterField(
            model_name="entry",
            name="actor",
            field=models.CharField(
                db_index=True, help_text="The name of the user or service account who did it.", max_length=320
            ),
        ),
        migrations.AlterField(
            model_name="entry",
            name="method",
            field=models.CharField(blank=True, default="", help_text="How the actor was authenticated.", max_length=16),
        ),
        migrations.AlterField(
            model_name="entry",
            name="reference",
            field=models.CharField(
                blank=True, db_index=True, default="", help_text="The decision id that a denied caller received.", max_length=16
            ),
        ),
        migrations.AlterField(
            model_name="entry",
            name="target",
            field=models.CharField(
                blank=True, db_index=True, default="", help_text="The changed object, or the request.", max_length=512
            ),
        ),
    ]
