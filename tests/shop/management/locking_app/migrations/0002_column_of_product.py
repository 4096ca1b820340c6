from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("locking_app", "0001_table")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE locking_row ADD COLUMN half_done int",
            "ALTER TABLE locking_row DROP COLUMN half_done",
        ),
        migrations.RunSQL(
            "ALTER TABLE inventory_product ADD COLUMN later int",
            "ALTER TABLE inventory_product DROP COLUMN later",
        ),
    ]
