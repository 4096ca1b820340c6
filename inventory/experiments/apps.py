"""The experiments, as an app that a project may leave out."""

from django.apps import AppConfig


class ExperimentsConfig(AppConfig):
    name = "inventory.experiments"
    default_auto_field = "django.db.models.BigAutoField"
    dashboard_card = "inventory.experiments.dashboard.last_flash_sale"
