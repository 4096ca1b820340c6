from ...settings import *

INSTALLED_APPS += ["waffle"]
