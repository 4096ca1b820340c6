from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("locking_app", "0002_column_of_product")]
    operations = [
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS locking_row_name ON locking_row (name)",
            "DROP INDEX locking_row_name",
        ),
        migrations.RunSQL(
            "UPDATE locking_row SET name = upper(name) WHERE id = 1", migrations.RunSQL.noop
        ),
    ]
