"""The settings of a later version of the shop, with one more app and permissions for it."""

from shop.settings import *  # noqa: F403
from shop.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.upgrading.later_app"]
