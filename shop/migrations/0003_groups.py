from django.db import migrations

from shop.migrations._groups import grant

GROUPS = {
    "merchant": [
        "inventory.view_product",
        "inventory.add_product",
        "inventory.change_product",
        "inventory.delete_product",
        "inventory.view_stockmovement",
        "inventory.add_stockmovement",
        "inventory.view_reservation",
        "inventory.change_reservation",
        "inventory.view_stockalert",
        "inventory.change_stockalert",
        "inventory.view_flashsale",
        "inventory.view_flashsaleresult",
        "shop.view_order",
        "shop.change_order",
        "shop.view_orderline",
        "shop.view_payment",
        "shop.view_refund",
        "shop.add_refund",
        "shop.view_refusal",
    ],
    "auditor": [
        "inventory.view_product",
        "inventory.view_stockmovement",
        "inventory.view_reservation",
        "inventory.view_stockalert",
        "inventory.view_flashsale",
        "inventory.view_flashsaleresult",
        "shop.view_order",
        "shop.view_orderline",
        "shop.view_payment",
        "shop.view_refund",
        "shop.view_refusal",
        "auth.view_user",
        "auth.view_group",
        "admin.view_logentry",
    ],
}


def make(apps, schema_editor):
    grant(apps, GROUPS)


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0002_refusals"),
        ("inventory", "0003_alerts"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
