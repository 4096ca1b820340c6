"""The groups of staff, and what each may do."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.management import create_permissions

GROUPS = {
    # Products, stock and orders; not who may do what, and no flash sales: those load the machine.
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
        "shop.view_shopalert",
        "shop.change_shopalert",
    ],
    # Reads everything, changes nothing.
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
        "shop.view_shopalert",
        "auth.view_user",
        "auth.view_group",
        "admin.view_logentry",
    ],
}


def make_groups(apps: Any, *, only: Collection[str] = ()) -> None:
    """Make the groups with their permissions; ``apps`` is a migration's, or Django's own.

    ``only`` these permissions: a later one leaves alone what the shop has made of the groups.

    Django makes permissions only after the last migration: those that are needed are made here.
    """
    for label in {name.split(".")[0] for names in GROUPS.values() for name in names}:
        config = apps.get_app_config(label)
        if not getattr(config, "models_module", None):  # a migration's apps have none
            config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, permissions in GROUPS.items():
        group, _ = Group.objects.get_or_create(name=name)
        for permission in permissions:
            if only and permission not in only:
                continue
            label, codename = permission.split(".")
            group.permissions.add(
                Permission.objects.get(content_type__app_label=label, codename=codename)
            )
