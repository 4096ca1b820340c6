"""The WSGI application: all of the shop. ``shop.asgi`` has a fast lane before it."""

import os

from django.core.wsgi import get_wsgi_application

from shop.deployment import database_timeouts
from shop.deployment.health_checks import HealthChecks
from shop.middleware.request_checks import hide_other_charsets

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = HealthChecks(hide_other_charsets(get_wsgi_application()))
database_timeouts.limit_new_connections()
