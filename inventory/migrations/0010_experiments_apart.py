from django.apps import apps as installed
from django.db import migrations


def drop_unless_wanted(apps, schema_editor):
    """Drop the tables of flash sales where nobody asks for them, and there is nothing in them."""
    FlashSale = apps.get_model("inventory", "FlashSale")
    Result = apps.get_model("inventory", "FlashSaleResult")
    if installed.is_installed("inventory.experiments"):
        return
    if FlashSale.objects.using(schema_editor.connection.alias).exists():
        return
    schema_editor.delete_model(Result)
    schema_editor.delete_model(FlashSale)


def make_again(apps, schema_editor):
    tables = schema_editor.connection.introspection.table_names()
    for name in ("FlashSale", "FlashSaleResult"):
        model = apps.get_model("inventory", name)
        if model._meta.db_table not in tables:
            schema_editor.create_model(model)


class Migration(migrations.Migration):
    """Flash sales belong to ``inventory.experiments`` from now on, with their tables and rows."""

    dependencies = [("inventory", "0009_flash_sales_once")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop_unless_wanted, make_again)],
            state_operations=[
                migrations.DeleteModel("FlashSaleResult"),
                migrations.DeleteModel("FlashSale"),
            ],
        )
    ]
