"""A project unlike ours: its own users, another database alias, a transaction for each request.

It has Django's admin, and neither Unfold nor import-export, unless they are asked for.
"""

import json
import os

SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    *os.environ.get("FIRST_APPS", "").split(),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "people",
    "pgtrigger",
    "inventory",
    *os.environ.get("MORE_APPS", "").split(),
    "guitars",
]
AUTH_USER_MODEL = "people.Person"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "own_shop.urls"
DATABASES = json.loads(os.environ["DATABASES"])
if "main" in DATABASES:
    DATABASES["main"] |= {"ATOMIC_REQUESTS": True, "TEST": {"DEPENDENCIES": []}}
    DATABASE_ROUTERS = ["own_shop.routers.MainRouter"]
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
