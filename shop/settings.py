"""Settings of the project. All that differs between machines comes from the environment.

``.env.example`` lists the variables, each with a line of explanation. With none of them set the
shop runs on this machine alone, on a PostgreSQL of its own.
"""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from shop.address import EUROPE
from shop.deployment import database, secret_key
from shop.deployment.environment import (
    Environment,
    base_url,
    cache,
    country_codes,
    currency,
    directory,
    email,
    email_addresses,
    host_names,
    listening_address_or_off,
    log_format,
    log_level,
    one_line,
    rate,
    sender,
    sender_on_this_machine,
    shipping_cost,
    time_zone,
    token,
    web_origins,
    webhook,
    whole_number,
    whole_number_or_off,
)
from shop.logs import formats, sentry

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="") or secret_key.of_checkout(BASE_DIR)
ALLOWED_HOSTS = env("ALLOWED_HOSTS", cast=host_names, default=["localhost", "127.0.0.1", "[::1]"])
# The first part of links in e-mails (shop/links.py).
BASE_URL = env("BASE_URL", cast=base_url, default="")

# HTTPS: all or nothing. HSTS starts with an hour, so that you can undo a mistake.
HTTPS = env.bool("HTTPS", default=False)
HSTS_SECONDS = env("HSTS_SECONDS", cast=whole_number(0, 10**9), default=3600)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = HSTS_SECONDS if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
CSRF_TRUSTED_ORIGINS = env("CSRF_TRUSTED_ORIGINS", cast=web_origins, default=[])
# Only behind a proxy that sets this header itself, since any client can send it.
if env.bool("BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.import_export",
    "import_export",
    "axes",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "pgtrigger",
    "inventory",
    "inventory.experiments",  # may be left out
    "shop",  # before procrastinate, whose command it extends
    "shop.demo",
    "shop.load_tests",
    "procrastinate.contrib.django",
]

MIDDLEWARE = [
    "shop.middleware.request_ids.middleware",  # the outermost: also for what the others refuse
    "shop.middleware.cache_control.middleware",  # so is this one
    "shop.middleware.request_metrics.RequestMetricsMiddleware",  # outside of all that answers
    "django.middleware.security.SecurityMiddleware",
    "shop.deployment.static_files.StaticFilesMiddleware",
    "shop.middleware.content_security.middleware",
    "shop.middleware.request_checks.RequestChecksMiddleware",
    "shop.middleware.outages.OutageMiddleware",  # outside of all that uses the database
    "django.contrib.sessions.middleware.SessionMiddleware",
    "shop.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "shop.middleware.buyer.middleware",
    "shop.middleware.rate_limits.RateLimitMiddleware",
    "shop.middleware.provider_waits.middleware",
    "axes.middleware.AxesMiddleware",
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
                "shop.context_processors.basket",
            ],
        },
    },
]

DATABASE_URL = env.str("DATABASE_URL", default="")
DATABASES = {"default": database.configure(DATABASE_URL, BASE_DIR)}
# A read replica for pages that may be a moment old (shop/deployment/replicas.py).
REPLICA_URL = env.str("REPLICA_URL", default="")
REPLICA_MOST_LAG = env.duration("REPLICA_MOST_LAG", "seconds", 1, 3600, default=5)
if REPLICA_URL:
    DATABASES = database.with_replica(DATABASES["default"], REPLICA_URL)
    DATABASE_ROUTERS = ["shop.deployment.replicas.Router"]
# How long a web request's statement, lock or idle transaction may take
# (shop/deployment/database_timeouts.py).
LOCK_TIMEOUT = env.duration("LOCK_TIMEOUT", "seconds", 1, 600, default=5)
STATEMENT_TIMEOUT = env.duration("STATEMENT_TIMEOUT", "seconds", 1, 3600, default=20)
IDLE_TRANSACTION_TIMEOUT = env.duration("IDLE_TRANSACTION_TIMEOUT", "seconds", 1, 3600, default=20)
WEB_THREADS = env("WEB_THREADS", cast=whole_number(1, 1000), default=8)  # gunicorn's, of a process
FAST_LANE = env.bool("FAST_LANE", default=True)  # shop/fast_lane/
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

# After five wrong passwords for a name from an address, its login is closed for 15 minutes.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_HANDLER = "shop.login_attempts.LoginAttempts"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "shop.middleware.rate_limits.client_address"
AXES_LOCKOUT_TEMPLATE = "admin/locked_out.html"
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False  # manage.py axes_reset lets somebody in again
AXES_VERBOSE = False

LANGUAGE_CODE = "en"
TIME_ZONE = env("TIME_ZONE", cast=time_zone, default="UTC")
USE_TZ = True
FORMAT_MODULE_PATH = ["shop.formats"]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / ".static"
STORAGES = {
    "default": {"BACKEND": "shop.deployment.media_files.MediaStorage"},
    "staticfiles": {"BACKEND": "shop.deployment.static_files.HashedIfCollected"},
}
WHITENOISE_USE_FINDERS = True  # a fresh checkout serves its files without collectstatic
MEDIA_URL = "media/"
MEDIA_ROOT = env("MEDIA_ROOT", cast=directory, default=BASE_DIR / "media")

LOG_LEVEL = env("LOG_LEVEL", cast=log_level, default="INFO")
LOG_FORMAT = env("LOG_FORMAT", cast=log_format, default="text")
LOGGING = formats.configure(LOG_LEVEL, LOG_FORMAT)
SENTRY_DSN = env("SENTRY_DSN", cast=sentry.dsn, default="")  # shop/logs/sentry.py
MESSAGE_STORAGE = "shop.notice_storage.NoticeStorage"  # no session rows
SECURE_REDIRECT_EXEMPT = [r"^(livez|healthz)$"]  # our own machines ask by HTTP

# The inventory app

INVENTORY_HOLD_FOR = env.duration("HOLD_MINUTES", "minutes", 1, 7 * 24 * 60, default=10)
INVENTORY_STRATEGY = env.str("STRATEGY", default="combined")
# A nightly job deletes reservations that ended without a sale or an order, after this time.
INVENTORY_KEEP_ENDED_FOR = env.duration("KEEP_ENDED_DAYS", "days", 1, 3650, default=90)
INVENTORY_QUEUE_FLASH_SALE = "shop.jobs.queue_flash_sale"
# Only the checkout uses its own database, so commands make the tables that it lacks.
INVENTORY_COMMANDS_MIGRATE = not DATABASE_URL

# The storefront

SHOP_NAME = env("SHOP_NAME", cast=one_line, default="Stockwell")
SHOP_HEADLINE = env("SHOP_HEADLINE", cast=one_line, default="Good things, some of them few")
# Lines of the postal address, and other facts that e-mails must state about the shop.
SHOP_ADDRESS = env.list("SHOP_ADDRESS", default=[])
SHOP_CURRENCY = env("SHOP_CURRENCY", cast=currency, default="EUR")
SHIPPING_COST = env("SHIPPING_COST", cast=shipping_cost, default=Decimal("4.90"))
# ISO codes of the countries that we send to; the checkout preselects the first.
SHIP_TO_COUNTRIES = env("SHIP_TO_COUNTRIES", cast=country_codes, default=EUROPE)

# Limits against abuse (shop/middleware/rate_limits.py, shop/network_limits.py, shop/basket.py)

IN_EACH_PROCESS = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES = {"default": env("CACHE_URL", cast=cache, default=IN_EACH_PROCESS)}
PAGES_PER_ADDRESS = env("PAGES_PER_ADDRESS", cast=rate, default="600/m")
POSTS_PER_ADDRESS = env("POSTS_PER_ADDRESS", cast=rate, default="60/m")
RATELIMIT_IP_META_KEY = "shop.middleware.rate_limits.client_address"
RATELIMIT_FAIL_OPEN = True  # a cache that is down must not close the shop
PROXIES = env("PROXIES", cast=whole_number(0, 10), default=0)
MOST_FORM_BYTES = 64 * 1024  # the most that a visitor may send at a time
MOST_UPLOAD_BYTES = 1024**2 * env("MOST_UPLOAD_MB", cast=whole_number(1, 1000), default=10)
MOST_UNITS_PER_ADDRESS = env(
    "MOST_UNITS_PER_ADDRESS", cast=whole_number_or_off(1, 10**6), default=60
)
MOST_UNITS_PER_BUYER = env("MOST_UNITS_PER_BUYER", cast=whole_number(1, 10**6), default=20)
MOST_HOLDS_PER_BUYER = env("MOST_HOLDS_PER_BUYER", cast=whole_number(1, 10**4), default=20)

# Orders and payment

# A shop for trying out: no real money, no real goods.
DEMO = env.bool("DEMO", default=False)
# The provider of new payments, and those of earlier ones: names or dotted paths of classes
# (shop/payments/).
PAYMENT_PROVIDER = env.str("PAYMENT_PROVIDER", default="demo")
FORMER_PAYMENT_PROVIDERS = env.list("FORMER_PAYMENT_PROVIDERS", default=[])
# Stripe (shop/payments/stripe.py). Only tests change the address of its API.
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_API_BASE = env("STRIPE_API_BASE", cast=base_url, default="https://api.stripe.com")
# The payment prolongs an order's holds by PAYMENT_TIME. In all they last HOLD_AT_MOST at most.
PAYMENT_TIME = env.duration("PAYMENT_MINUTES", "minutes", 1, 24 * 60, default=15)
HOLD_AT_MOST = env.duration("HOLD_AT_MOST_MINUTES", "minutes", 1, 30 * 24 * 60, default=60)

# E-mails: printed, or in a demo kept and shown as pages (shop/notifications/outbox.py).

EMAIL_CONFIG = env(
    "EMAIL_URL", cast=email, default=email("outbox://" if DEMO else "consolemail://")
)
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env(
    "DEFAULT_FROM_EMAIL", cast=sender, default=sender_on_this_machine(SHOP_NAME)
)
SERVER_EMAIL = DEFAULT_FROM_EMAIL  # of e-mails to the managers
EMAIL_SUBJECT_PREFIX = f"[{SHOP_NAME}] "  # of e-mails to the managers
EMAIL_TIMEOUT = 20  # seconds

# Figures for Prometheus (shop/metrics/). Without a token and an address nothing is counted.

METRICS_TOKEN = env("METRICS_TOKEN", cast=token, default="")
METRICS_ADDRESS = env("METRICS_ADDRESS", cast=listening_address_or_off, default=None)

# The admin (shop/admin/)

LOGIN_REDIRECT_URL = "admin:index"  # only staff log in
UNFOLD = {
    "SITE_TITLE": "shop.admin.unfold.shop_name",
    "SITE_HEADER": "shop.admin.unfold.shop_name",
    "SITE_SUBHEADER": "Administration",
    "SITE_ICON": "shop.admin.unfold.icon",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "shop.admin.unfold.icon"},
    ],
    "SITE_URL": "/",
    "LOGIN": {"form": "shop.forms.LoginForm"},
    "STYLES": ["shop.admin.unfold.styles_of_inventory", "shop.admin.unfold.styles_of_shop"],
    "COLORS": "shop.admin.unfold.colors",
    "SIDEBAR": {"show_search": False, "navigation": "shop.admin.unfold.navigation"},
    "GLOBAL_CALLBACK": "shop.admin.dashboard.banner",
    "DASHBOARD_CALLBACK": "shop.admin.dashboard.context",
}
IMPORT_EXPORT_ESCAPE_FORMULAE_ON_EXPORT = True  # a cell such as =1+1 stays text in a spreadsheet

# Managers get e-mails about orders and alerts. A webhook gets alerts as JSON.

# A demo keeps its e-mails, also those to the managers.
IN_DEMO = ["staff@example.org"] if EMAIL_CONFIG["EMAIL_BACKEND"].startswith("shop.") else []
MANAGERS = [("", address) for address in env("MANAGERS", cast=email_addresses, default=IN_DEMO)]
ALERT_WEBHOOK_URL = env("ALERT_WEBHOOK_URL", cast=webhook, default="")
