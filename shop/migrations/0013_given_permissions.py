import django.db.models.deletion
from django.db import migrations, models

# As it was when migrations still gave them. Frozen: today's list is in shop.admin.groups.
AUDITOR = {
    "inventory": [
        "view_product",
        "view_stockmovement",
        "view_reservation",
        "view_stockalert",
        "view_flashsale",
        "view_flashsaleresult",
    ],
    "shop": [
        "view_order",
        "view_orderline",
        "view_payment",
        "view_refund",
        "view_refusal",
        "view_shopalert",
    ],
    "auth": ["view_user", "view_group"],
    "admin": ["view_logentry"],
}
MERCHANT = {
    "inventory": [
        *AUDITOR["inventory"],
        "add_product",
        "change_product",
        "delete_product",
        "add_stockmovement",
        "change_reservation",
        "change_stockalert",
    ],
    "shop": [*AUDITOR["shop"], "change_order", "add_refund", "change_shopalert"],
}
MOVED = {"inventory": ["inventory", "experiments"]}  # flash sales, before this or after it


def note_what_was_given(apps, schema_editor):
    """Earlier migrations gave these to the groups; staff may have taken some away since.

    They made both groups. In a database without any, no migration has given anything yet, also if
    the permissions are there since somebody has migrated in several steps.
    """
    using = schema_editor.connection.alias
    groups = apps.get_model("auth", "Group").objects.using(using)
    if not groups.filter(name__in=["merchant", "auditor"]).exists():
        return
    permissions = apps.get_model("auth", "Permission").objects.using(using)
    given = apps.get_model("shop", "GivenPermission").objects.using(using)
    for group, listed in {"merchant": MERCHANT, "auditor": AUDITOR}.items():
        for app, codenames in listed.items():
            there = permissions.filter(
                content_type__app_label__in=MOVED.get(app, [app]), codename__in=codenames
            )
            given.bulk_create(
                given.model(group=group, permission_id=pk)
                for pk in there.values_list("pk", flat=True)
            )


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("shop", "0012_refund_for_oversell"),
    ]

    operations = [
        migrations.CreateModel(
            name="GivenPermission",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "group",
                    models.CharField(max_length=150, help_text="Its name when it was made."),
                ),
                (
                    "permission",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="auth.permission",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("group", "permission"), name="shop_permission_given_once"
                    )
                ],
            },
        ),
        migrations.RunPython(note_what_was_given, migrations.RunPython.noop),
    ]
