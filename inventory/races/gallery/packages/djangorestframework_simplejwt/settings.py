from ...settings import *

INSTALLED_APPS += ["rest_framework", "rest_framework_simplejwt.token_blacklist"]
ROOT_URLCONF = f"{__package__}.urls"
SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}
