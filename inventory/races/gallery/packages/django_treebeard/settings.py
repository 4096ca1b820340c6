from ...settings import *

INSTALLED_APPS += ["treebeard", __package__]
