"""Settings of the project. All that differs between machines comes from the environment.

``.env.example`` lists the variables, each with a line of explanation. With none of them set the
shop runs on this machine alone, on a PostgreSQL of its own.
"""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from environ import Env

from shop import database, secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="") or secret_key.of_checkout(BASE_DIR)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# HTTPS: all or nothing. HSTS starts with an hour, so that a mistake can be taken back.
HTTPS = env.bool("HTTPS", default=False)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=3600) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Only behind a proxy that sets this header itself: anybody else can send it, too.
if env.bool("BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "procrastinate.contrib.django",
    "pgtrigger",
    "inventory",
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASE_URL = env.str("DATABASE_URL", default="")
DATABASES = {"default": database.configure(DATABASE_URL, BASE_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / ".static"
MEDIA_URL = "media/"
MEDIA_ROOT = Path(env.str("MEDIA_ROOT", default=str(BASE_DIR / "media")))

# The inventory app

INVENTORY_HOLD_FOR = timedelta(minutes=env.int("HOLD_MINUTES", default=10))
INVENTORY_STRATEGY = env.str("STRATEGY", default="single_statement")

# Orders and payment

SHOP_CURRENCY = env.str("SHOP_CURRENCY", default="EUR")
SHIPPING_COST = Decimal(env.str("SHIPPING_COST", default="4.90"))
# A shop that is there to be tried out: no real money, no real goods.
DEMO = env.bool("DEMO", default=False)
# Who takes new payments, and who did before: names or dotted paths of classes (shop/payments/).
PAYMENT_PROVIDER = env.str("PAYMENT_PROVIDER", default="demo")
FORMER_PAYMENT_PROVIDERS = env.list("FORMER_PAYMENT_PROVIDERS", default=[])
# A hold in an order is prolonged for the payment by this much, and lasts at most so long in all.
PAYMENT_TIME = timedelta(minutes=env.int("PAYMENT_MINUTES", default=15))
HOLD_AT_MOST = timedelta(minutes=env.int("HOLD_AT_MOST_MINUTES", default=60))

# E-mails: printed, unless told otherwise.

EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Shop <shop@localhost>")
EMAIL_TIMEOUT = 30  # seconds

# Stock alerts: mailed to the managers, and posted to a webhook as JSON.

MANAGERS = [("", address) for address in env.list("MANAGERS", default=[])]
ALERT_WEBHOOK_URL = env.str("ALERT_WEBHOOK_URL", default="")
