"""The admin's page of flash sales, where the project has Unfold."""

from django.apps import apps

if apps.is_installed("unfold"):
    from inventory.experiments.admin import flash_sales  # noqa: F401  (registers)
