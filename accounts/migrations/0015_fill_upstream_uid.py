"""Fills the new column in one statement: MD5 as `accounts.identifiers.user_uid` uses it."""

from django.db import migrations
from django.db.models import Value
from django.db.models.functions import MD5, Concat, Left


def fill(apps, schema_editor):
    accounts = apps.get_model("accounts", "ServiceAccount").objects.using(schema_editor.connection.alias)
    accounts.filter(upstream_uid="").update(upstream_uid=Left(MD5(Concat("name", Value("@"), "uid")), 8))


class Migration(migrations.Migration):

    dependencies = [("accounts", "0014_upstream_uid")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
