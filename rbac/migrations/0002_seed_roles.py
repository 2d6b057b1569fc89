"""The three roles that come with SkyAuth. Literal, so that this migration does the same for ever."""

from django.db import migrations

ROLES = {
    "admin": ("Everything.", []),  # holds everything by its name; see rbac.permissions.granted
    "user": (
        "Uses the protected API, manages own service accounts, reads users and roles.",
        ["password:own", "roles:read", "service-accounts:own", "upstream:read", "upstream:write", "users:read"],
    ),
    "viewer": ("Reads.", ["roles:read", "upstream:read", "users:read"]),
}


def seed(apps, schema_editor):
    Role = apps.get_model("rbac", "Role")
    for name, (description, permissions) in ROLES.items():
        Role.objects.create(name=name, description=description, permissions=permissions, builtin=True)


class Migration(migrations.Migration):
    dependencies = [("rbac", "0001_initial")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
