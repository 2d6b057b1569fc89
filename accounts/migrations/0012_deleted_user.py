import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds the names of deleted users, and two columns of users that can be NULL."""

    dependencies = [
        ("accounts", "0011_one_line"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeletedUser",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("username", models.CharField(editable=False, max_length=254, unique=True)),
                ("role", models.CharField(editable=False, max_length=32)),
                ("blocked", models.BooleanField(default=False)),
                ("deleted_at", models.DateTimeField(db_index=True, default=django.utils.timezone.now, editable=False)),
                ("deleted_by", models.CharField(editable=False, max_length=320)),
            ],
            options={"ordering": ("username",)},
        ),
        migrations.AddField(
            model_name="user",
            name="groups_seen_at",
            field=models.DateTimeField(blank=True, editable=False, help_text="The last request with groups.", null=True),
        ),
        migrations.AddField(
            model_name="user",
            name="role_before_group",
            field=models.CharField(
                blank=True, editable=False, help_text="The role that an admin gave before a group did.", max_length=32, null=True
            ),
        ),
    ]
