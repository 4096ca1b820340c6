from ...settings import *

INSTALLED_APPS += ["ordered_model", __package__]
