"""The reusable app."""

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured


class InventoryConfig(AppConfig):
    name = "inventory"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        """Without pgtrigger, Django would end with a TypeError about ``class Meta``."""
        if not apps.is_installed("pgtrigger"):
            raise ImproperlyConfigured("INSTALLED_APPS lacks “pgtrigger”, which “inventory” needs.")
        super().import_models()

    def ready(self) -> None:
        from inventory import checks  # noqa: F401  (registers the system checks)
