from django.db import migrations


class Migration(migrations.Migration):
    """Once gave the groups of staff a permission; shop.admin.groups does, after each ``migrate``."""

    dependencies = [("shop", "0003_groups")]
