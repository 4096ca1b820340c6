from ...settings import *

INSTALLED_APPS += ["mptt", __package__]
