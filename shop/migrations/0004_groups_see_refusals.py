from django.db import migrations

from shop.migrations._groups import grant


def let_see_refusals(apps, schema_editor):
    grant(apps, {"merchant": ["shop.view_refusal"], "auditor": ["shop.view_refusal"]})


class Migration(migrations.Migration):
    dependencies = [("shop", "0003_groups")]

    operations = [migrations.RunPython(let_see_refusals, migrations.RunPython.noop)]
