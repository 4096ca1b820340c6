from ...settings import *

INSTALLED_APPS += ["simple_history", __package__]
