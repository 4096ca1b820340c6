"""The groups of staff, and what each may do.

Add a new permission to the list, and nowhere else: ``migrate`` gives it to the group. To take one
away from a group, write a migration.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps as all_apps
from django.db import router, transaction

GROUPS = {
    # Products, stock and orders. Not users and groups, and no flash sales: those load the machine.
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
        "experiments.view_flashsale",
        "experiments.view_flashsaleresult",
        "shop.view_order",
        "shop.change_order",
        "shop.view_orderline",
        "shop.view_payment",
        "shop.view_refund",
        "shop.add_refund",
        "shop.view_dispute",
        "shop.view_paymentevent",
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
        "experiments.view_flashsale",
        "experiments.view_flashsaleresult",
        "shop.view_order",
        "shop.view_orderline",
        "shop.view_payment",
        "shop.view_refund",
        "shop.view_dispute",
        "shop.view_paymentevent",
        "shop.view_refusal",
        "shop.view_shopalert",
        "auth.view_user",
        "auth.view_group",
        "admin.view_logentry",
    ],
}


def give_permissions(*, using: str, apps: Any = all_apps, **kwargs: object) -> None:
    """After ``migrate``: make the groups, and give them what they were never given before.

    Once each. Staff change their groups as they like: a permission that they took away stays away,
    one that they added stays, and a group that they deleted isn't made again. A permission that
    isn't there, since its app isn't installed or not migrated so far yet, is given when it is.
    """
    try:
        given_permission = apps.get_model("shop", "GivenPermission")
    except LookupError:  # migrated to a state that had no such model
        return
    if not router.allow_migrate_model(using, given_permission):  # another database
        return
    given_permissions = given_permission.objects.using(using)
    groups = apps.get_model("auth", "Group").objects.using(using)
    there = _permissions_by_name(apps, using)
    with transaction.atomic(using=using):  # given and put on record, or neither
        given = set(given_permissions.values_list("group", "permission"))
        made = {group for group, _ in given}
        for name, listed in GROUPS.items():
            new = [there[each] for each in listed if each in there]
            new = [pk for pk in new if (name, pk) not in given]
            if not new:
                continue
            if name not in made:
                groups.get_or_create(name=name)
            for group in groups.filter(name=name):  # none, if somebody has deleted it
                group.permissions.add(*new)
            given_permissions.bulk_create(
                given_permission(group=name, permission_id=pk) for pk in new
            )


def _permissions_by_name(apps: Any, using: str) -> dict[str, int]:
    """The primary keys of the permissions that are there, such as of ``shop.view_order``."""
    permissions = apps.get_model("auth", "Permission").objects.using(using)
    names = permissions.values_list("content_type__app_label", "codename", "pk")
    return {f"{app}.{codename}": pk for app, codename, pk in names}
