from ...settings import *

INSTALLED_APPS += [__package__]  # the package itself needs to be there for a command only
