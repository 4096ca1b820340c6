"""The shop as a Django app: its commands, templates and static files."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"
