"""The settings of a project that has nothing of ours but `inventory`."""

import json
import os

SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "pgtrigger",
    "inventory",
    "tests.own_shop",
]
ROOT_URLCONF = "tests.own_shop.urls"
DATABASES = {"default": json.loads(os.environ["OWN_SHOP_DATABASE"])}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
