from ...settings import *

INSTALLED_APPS += ["payments", __package__]
PAYMENT_HOST = "shop.example.com"
PAYMENT_VARIANTS = {"default": (f"{__package__}.bank.Bank", {})}
