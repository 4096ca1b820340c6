"""Shared by the small projects. Each adds its package in ``packages/…/settings.py``."""

from __future__ import annotations

import os
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict


def database_at(url: str) -> dict[str, Any]:
    """Django's settings of the server at this URL, as psql takes it."""
    if not url:
        raise ImproperlyConfigured(
            "DATABASE_URL names no PostgreSQL server. The gallery's command starts one: run the "
            "gallery's folder with python3."
        )
    parts: dict[str, Any] = dict(conninfo_to_dict(url))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "postgres"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "OPTIONS": parts,
        "TEST": {"NAME": f"gallery_{os.getpid()}"},
    }


SECRET_KEY = "the gallery serves nobody, and signs nothing that counts"
DATABASES = {"default": database_at(os.environ.get("DATABASE_URL", ""))}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
