"""A product's time comes from the database's clock, and no longer from a web machine's."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("inventory", "0015_indexes_of_lists")]

    operations = [
        migrations.AlterField(
            model_name="product",
            name="created_at",
            field=models.DateTimeField(db_default=Now(), editable=False),
        ),
    ]
