"""The admin's pages for stock, where the project has Unfold (``"unfold"`` in INSTALLED_APPS)."""

from django.apps import apps

if apps.is_installed("unfold"):
    from inventory.admin import (  # noqa: F401  (registers)
        alerts,
        movements,
        products,
        reservations,
    )
