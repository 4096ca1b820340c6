from django.db import migrations


class Migration(migrations.Migration):
    operations = [
        migrations.RunSQL(
            "CREATE TABLE locking_row (id int PRIMARY KEY, name text);"
            "INSERT INTO locking_row VALUES (1, 'ada@example.org')",
            "DROP TABLE locking_row",
        )
    ]
