"""The shop's settings, with the odd jobs."""

from shop.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.shop.deployment.odd_jobs"]  # noqa: F405
