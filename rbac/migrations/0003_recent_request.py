from django.db import migrations, models


class Migration(migrations.Migration):
    """Moves a model from accounts to rbac in the code alone: its table keeps its name, and the database is not touched."""

    dependencies = [
        ("rbac", "0002_seed_roles"),
        ("accounts", "0003_recent_request"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="RecentRequest",
                    fields=[
                        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                        ("key", models.CharField(editable=False, max_length=64, unique=True)),
                        ("caller_kind", models.CharField(max_length=16)),
                        ("caller_uid", models.CharField(blank=True, max_length=300)),
                        ("caller", models.CharField(max_length=300)),
                        ("method", models.CharField(max_length=20)),
                        ("host", models.CharField(blank=True, max_length=260)),
                        ("path", models.CharField(max_length=500)),
                        ("allowed", models.BooleanField()),
                        ("at", models.DateTimeField(db_index=True)),
                    ],
                    options={"db_table": "accounts_recentrequest", "ordering": ("-at", "-id")},
                ),
            ],
        ),
    ]
