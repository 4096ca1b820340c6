"""The shop as a Django app: its commands, templates and static files."""

from django.apps import AppConfig, apps
from django.conf import settings
from django.db.models.signals import post_migrate


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self) -> None:
        from shop import (
            checks,  # noqa: F401  (registers the system checks)
            search_index,
        )
        from shop.admin import groups
        from shop.logs import sentry

        sentry.start(settings.SENTRY_DSN)

        # Django makes permissions app by app: when it is the last one's turn, all are there.
        *_, last = (config for config in apps.get_app_configs() if config.models_module)
        post_migrate.connect(groups.give_permissions, sender=last)
        post_migrate.connect(search_index.make, sender=last)
