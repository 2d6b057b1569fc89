from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes help texts of fields. The database is not touched."""

    dependencies = [
        ("accounts", "0008_plain_names"),
    ]

    operations = [
        migrations.AlterField(
            model_name="grouprole",
            name="priority",
            field=models.PositiveIntegerField(default=100, help_text="The group with the lowest number decides."),
        ),
        migrations.AlterField(
            model_name="token",
            name="expires_at",
            field=models.DateTimeField(blank=True, help_text="Empty: the token never expires.", null=True),
        ),
        migrations.AlterField(
            model_name="user",
            name="role_source",
            field=models.CharField(
                choices=[("default", "default"), ("manual", "set by an admin"), ("group", "identity-provider group")],
                default="default",
                max_length=8,
            ),
        ),
        migrations.AlterField(
            model_name="user",
            name="uid",
            field=models.CharField(editable=False, help_text="The id, as SkyPilot derives it.", max_length=16, unique=True),
        ),
        migrations.AlterField(
            model_name="user",
            name="username",
            field=models.CharField(help_text="An e-mail address or a name, in lower case.", max_length=254, unique=True),
        ),
    ]
