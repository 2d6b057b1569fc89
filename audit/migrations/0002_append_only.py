"""The database itself refuses to change an audit entry."""

from django.db import migrations

SQLITE = [
    """
    CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END
    """
]
POSTGRESQL = [
    """
    CREATE FUNCTION audit_entry_refuse_update() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'audit entries are never changed'; END $$
    """,
    """
    CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_entry_refuse_update()
    """,
]


def forwards(apps, schema_editor):
    for statement in SQLITE if schema_editor.connection.vendor == "sqlite" else POSTGRESQL:
        schema_editor.execute(statement)


def backwards(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER audit_entry_is_append_only")
    else:
        schema_editor.execute("DROP TRIGGER audit_entry_is_append_only ON audit_entry")
        schema_editor.execute("DROP FUNCTION audit_entry_refuse_update")


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunPython(forwards, backwards)]
