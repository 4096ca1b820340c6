"""How migrations give permissions to groups. Frozen, as they are: never changed, only added to."""

from django.contrib.auth.management import create_permissions


def grant(apps, groups):
    """Make the groups that aren't there yet, and add these permissions to them.

    Django makes permissions only after the last migration: those that are needed are made here.
    """
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for label in {name.split(".")[0] for names in groups.values() for name in names}:
        config = apps.get_app_config(label)
        if not getattr(config, "models_module", None):  # a migration's apps have none
            config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
    for name, permissions in groups.items():
        group, _ = Group.objects.get_or_create(name=name)
        for permission in permissions:
            label, codename = permission.split(".")
            group.permissions.add(
                Permission.objects.get(content_type__app_label=label, codename=codename)
            )
