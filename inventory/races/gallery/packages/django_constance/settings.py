from ...settings import *

INSTALLED_APPS += ["constance"]
CONSTANCE_BACKEND = "constance.backends.database.DatabaseBackend"
CONSTANCE_CONFIG = {"OPEN": (True, "Whether the shop is open")}
