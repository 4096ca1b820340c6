from django.db import migrations

from shop.rights import make_groups


def let_see_refusals(apps, schema_editor):
    make_groups(apps, only=["shop.view_refusal"])


class Migration(migrations.Migration):
    dependencies = [("shop", "0003_groups")]

    operations = [migrations.RunPython(let_see_refusals, migrations.RunPython.noop)]
