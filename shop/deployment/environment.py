"""Variables of the environment and of ``.env``, read strictly: a typo is an error, not a no.

A ``cast`` makes a setting of a variable's text. Its ValueError says what would be right.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parseaddr, quote
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from babel.numbers import get_currency_precision, is_currency
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from django.utils.module_loading import import_string
from environ import Env

from shop.address import COUNTRY_NAMES
from shop.logs.formats import FORMATTERS
from shop.money import MOST_SHIPPING

YES = ("true", "yes", "on", "1")
NO = ("false", "no", "off", "0")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
RATE = re.compile(r"[1-9][0-9]{0,8}/[smhd]")
MOST_PORT = 65535
LISTENS_AT = re.compile(r"(?:tcp://)?(?:\[(?P<ipv6>[^\[\]]+)\]|[\w.-]*):(?P<port>[0-9]{1,5})")
HOST_NAME = re.compile(r"\*|\.?[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-fA-F:.]+\]")
TABLE = re.compile(r"\w+")
CACHE_FORM = "it must name a cache, as in dbcache://shop_cache or redis://host:6379/0."
PACKAGES_OF_CACHES = {
    "RedisCache": "redis",
    "PyMemcacheCache": "pymemcache",
    "PyLibMCCache": "pylibmc",
}
TOKEN = re.compile(r"[!-~]{16,}")


class BadSecret(ValueError):
    """Raised by the ``cast`` of a secret: no message may repeat the value."""


class Environment(Env):  # type: ignore[misc]  # it has no types
    """django-environ with four differences. An empty variable is unset. A bad value is an error
    that names the variable. A value that starts with $ stays as it is (secrets may start so).
    And ``outbox://`` is a place for the e-mails of a demo.

    The environment overrides ``file``, which need not exist.

    Raises ImproperlyConfigured if the file is there and can't be read.
    """

    EMAIL_SCHEMES = {**Env.EMAIL_SCHEMES, "outbox": "shop.notifications.outbox.EmailBackend"}
    ENVIRON = {name: value for name, value in os.environ.items() if value.strip()}

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            with file.open(encoding="utf-8") as lines:
                self.read_env(lines)
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(f"{file} can't be read: {error}") from error

    def get_value(
        self, var: str, cast: Any = None, default: Any = Env.NOTSET, parse_default: bool = False
    ) -> Any:
        """Return the variable after ``cast``, or ``default`` unchanged if it is unset.

        Raises ImproperlyConfigured if ``cast`` raises ValueError, whose words it repeats.
        """
        value = self.ENVIRON.get(var, "").strip()
        if not value:
            if default is Env.NOTSET:
                raise ImproperlyConfigured(f"{var} must be set.")
            return default
        try:
            return self.parse_value(value, cast)
        except BadSecret as error:
            raise ImproperlyConfigured(f"{var} can't be used: {error}") from error
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is {without_password(value)!r}: {error}") from error

    def duration(self, var: str, unit: str, least: int, most: int, default: int) -> timedelta:
        """Return the variable, a whole number of ``unit`` (one of those that timedelta takes)."""
        return timedelta(**{unit: self(var, cast=whole_number(least, most), default=default)})

    @classmethod
    def parse_value(cls, value: str, cast: Any) -> Any:
        if cast is bool:
            return _boolean(value)
        if cast is list:
            return [word.strip() for word in value.split(",") if word.strip()]
        return super().parse_value(value, cast)


def without_password(value: str) -> str:
    """The value for messages: without the user name and password of a URL."""
    return re.sub(r"^([\w+.-]*://)?.*@", r"\1…@", value)


def _boolean(value: str) -> bool:
    if value.lower() not in YES + NO:
        raise ValueError("it must be true or false.")
    return value.lower() in YES


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A ``cast`` for whole numbers from ``least`` to ``most``."""

    def cast(value: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(value) <= most:
                return int(value)
        raise ValueError(f"it must be a whole number from {least} to {most}.")

    return cast


def whole_number_or_off(least: int, most: int) -> Callable[[str], int | None]:
    """A ``cast`` for whole numbers from ``least`` to ``most``; ``off`` is no limit."""
    number = whole_number(least, most)

    def cast(value: str) -> int | None:
        if value == "off":
            return None
        try:
            return number(value)
        except ValueError:
            raise ValueError(f"it must be a whole number from {least} to {most}, or off.") from None

    return cast


def log_level(value: str) -> str:
    """A ``cast`` for the least level of log lines, such as INFO."""
    if value.upper() not in LOG_LEVELS:
        raise ValueError(f"it must be {', '.join(LOG_LEVELS[:-1])} or {LOG_LEVELS[-1]}.")
    return value.upper()


def log_format(value: str) -> str:
    """A ``cast`` for the form of log lines."""
    if value.lower() not in FORMATTERS:
        raise ValueError(f"it must be {' or '.join(FORMATTERS)}.")
    return value.lower()


def time_zone(value: str) -> str:
    """A ``cast`` for the name of a time zone."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("it must be the name of a time zone, such as Europe/Berlin.") from error
    return value


def base_url(value: str) -> str:
    """A ``cast`` for the shop's address, which ends after the host."""
    parts = urlsplit(web_address(value))
    if parts.username is not None:
        raise ValueError("it must be an address such as https://shop.example.org.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it must end after the host, as in https://shop.example.org.")
    return f"{parts.scheme}://{parts.netloc}"


def web_address(value: str) -> str:
    """A ``cast`` for the address of something on the web."""
    if not has_host(value) or urlsplit(value).scheme not in ("http", "https"):
        raise ValueError("it must be an address such as https://shop.example.org.")
    return value


def webhook(value: str) -> str:
    """A ``cast`` for the web address of a receiver of alerts, whose path may be a secret."""
    try:
        return web_address(value)
    except ValueError as error:
        raise BadSecret(str(error)) from None


def has_host(url: str) -> bool:
    """Whether the URL names a host, and has no wrong port."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def listening_address_or_off(value: str) -> tuple[str, int] | None:
    """A ``cast`` for the address and the port at which a server listens; ``off`` is none."""
    if value == "off":
        return None
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{value}")
        host = str(ip_address(parts.hostname or ""))
        if parts.port and parts.netloc == value and "@" not in value:
            return host, parts.port
    raise ValueError(
        "it must be an IP address and a port, such as 127.0.0.1:9100 or [::1]:9100, or off."
    )


def listening_addresses(value: str) -> str:
    """A ``cast`` for the addresses at which gunicorn listens, comma-separated."""
    if not all(map(_can_be_bound, value.split(","))):
        raise ValueError(
            "it must be an address and a port from 0 to 65535, such as 127.0.0.1:8000 or "
            "[::1]:8000, or unix: and a file in a directory that is there."
        )
    return value


def _can_be_bound(address: str) -> bool:
    if address.startswith("unix:"):
        return Path(address.removeprefix("unix:")).absolute().parent.is_dir()
    if address.startswith("fd://"):
        return address.removeprefix("fd://").isdecimal()
    with contextlib.suppress(ValueError):
        found = LISTENS_AT.fullmatch(address)
        if found and found["ipv6"]:
            ip_address(found["ipv6"])
        return found is not None and int(found["port"]) <= MOST_PORT
    return False


def host_names(value: str) -> list[str]:
    """A ``cast`` for the names that a request may call the shop by, comma-separated."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    wrong = [name for name in names if not HOST_NAME.fullmatch(name)]
    if wrong or not names:
        named = f"; wrong: {', '.join(wrong)}" if wrong else ""
        raise ValueError(
            "it must be names without http:// and port, such as shop.example.org,[::1]" + named
        )
    return names


def web_origins(value: str) -> list[str]:
    """A ``cast`` for schemes with hosts, comma-separated; ``*.`` may stand for subdomains."""
    origins = [origin.strip() for origin in value.split(",") if origin.strip()]
    for origin in origins:
        try:
            base_url(origin.replace("://*.", "://", 1))
        except ValueError:
            raise ValueError(
                f"it must be addresses such as https://shop.example.org; wrong: {origin}"
            ) from None
    return origins


def one_line(value: str) -> str:
    """A ``cast`` for a text that is part of headings and of e-mails' headers."""
    if not value.isprintable():
        raise ValueError("it must be one line, without control characters.")
    return value


def directory(value: str) -> Path:
    """A ``cast`` for a directory, which need not be there yet."""
    path = Path(value)
    if not path.is_absolute() or "\0" in value or (path.exists() and not path.is_dir()):
        raise ValueError("it must be the absolute path of a directory, such as /var/lib/shop.")
    return path


def token(value: str) -> str:
    """A ``cast`` for a secret that clients send in a header."""
    if not TOKEN.fullmatch(value):
        raise BadSecret("it must be at least 16 ASCII letters, digits or signs, without blanks.")
    return value


def currency(value: str) -> str:
    """A ``cast`` for the ISO code of a currency with two decimal places.

    Prices are stored with two decimal places. A currency with none or three would show an
    amount that differs from the one charged.
    """
    code = value.upper()
    if not is_currency(code):
        raise ValueError("it must be the ISO code of a currency, such as EUR.")
    if get_currency_precision(code) != 2:
        raise ValueError("it must be a currency with two decimal places: prices have two.")
    return code


def shipping_cost(value: str) -> Decimal:
    """A ``cast`` for an amount of money, zero or more, such as 4.90."""
    with contextlib.suppress(InvalidOperation):
        amount = Decimal(value)
        if 0 <= amount <= MOST_SHIPPING and amount == amount.quantize(Decimal("0.01")):
            return amount.quantize(Decimal("0.01"))
    raise ValueError("it must be an amount such as 4.90.")


def country_codes(value: str) -> list[str]:
    """A ``cast`` for ISO codes of countries, comma-separated; each is kept once."""
    codes = [code.strip().upper() for code in value.split(",") if code.strip()]
    unknown = [code for code in codes if code not in COUNTRY_NAMES]
    if unknown or not codes:
        named = f"; unknown: {', '.join(unknown)}" if unknown else ""
        raise ValueError(f"it must be ISO codes of countries, such as DE,AT{named}.")
    return list(dict.fromkeys(codes))


def rate(value: str) -> str | None:
    """A ``cast`` for a rate such as 60/m; ``off`` is no limit."""
    if value == "off":
        return None
    if not RATE.fullmatch(value):
        raise ValueError("it must be a number per s, m, h or d, such as 60/m, or off.")
    return value


def cache(url: str) -> dict[str, Any]:
    """A ``cast`` for Django's settings of the cache at ``url``."""
    try:
        settings: dict[str, Any] = Environment.cache_url_config(url)
        import_string(settings["BACKEND"])  # Environment knows some that Django hasn't any more
        is_whole = _names_whole_cache(url)
    except (ImportError, KeyError, ValueError, ImproperlyConfigured) as error:
        raise ValueError(CACHE_FORM) from error
    if not is_whole:
        raise ValueError(CACHE_FORM)
    package = PACKAGES_OF_CACHES.get(settings["BACKEND"].rpartition(".")[2])
    if package and not find_spec(package):
        raise ValueError(f"it needs a package that isn't there (pip install {package}).")
    return settings


def _names_whole_cache(url: str) -> bool:
    """Whether all is there that a cache of this kind needs. Raises ValueError for a wrong port."""
    parts = urlsplit(url)
    if parts.scheme == "dbcache":
        return TABLE.fullmatch(parts.netloc) is not None and not parts.path.strip("/")
    if parts.scheme == "filecache":
        return not parts.netloc and parts.path not in ("", "/")
    if parts.scheme.startswith(("redis", "valkey")):
        if not parts.netloc:  # a socket
            return parts.path not in ("", "/")
        hosts = [urlsplit(f"//{host}") for host in parts.netloc.split(",")]
        number = parts.path.strip("/")
        return all(each.hostname and each.port != 0 for each in hosts) and (
            not number or number.isdecimal()
        )
    return True


def email(url: str) -> dict[str, Any]:
    """A ``cast`` for Django's settings of sending e-mails."""
    try:
        settings: dict[str, Any] = Environment.email_url_config(url)
    except (KeyError, ValueError, ImproperlyConfigured) as error:
        raise ValueError(
            "it must say how e-mails are sent, as in smtp+tls://user:password@host:587."
        ) from error
    if settings["EMAIL_BACKEND"].endswith("smtp.EmailBackend") and not has_host(url):
        raise ValueError("it must name a host, as in smtp+tls://user:password@host:587.")
    is_kept = settings["EMAIL_BACKEND"].endswith("filebased.EmailBackend")
    if is_kept and not urlsplit(url).path.strip("/"):
        raise ValueError("it must name a directory, as in filemail:///var/mail/shop.")
    return settings


def sender(value: str) -> str:
    """A ``cast`` for an e-mail address, with or without a name before it."""
    if not _is_mailbox(value):
        raise ValueError(
            "it must be an e-mail address, such as orders@shop.example.org or "
            "Shop <orders@shop.example.org>. A name with a comma needs quotes."
        )
    return value


def sender_on_this_machine(name: str) -> str:
    """The sender of a shop of that name that has no address of its own."""
    address = "shop@localhost"
    plain = f"{name} <{address}>"
    return plain if parseaddr(plain) == (name, address) else f'"{quote(name)}" <{address}>'


def email_addresses(value: str) -> list[str]:
    """A ``cast`` for e-mail addresses, comma-separated."""
    addresses = [word.strip() for word in value.split(",") if word.strip()]
    wrong = [address for address in addresses if not _is_mailbox(address)]
    if wrong or not addresses:
        named = f"; wrong: {', '.join(wrong)}" if wrong else ""
        raise ValueError(
            f"it must be e-mail addresses, such as me@example.org,you@example.org{named}."
        )
    return addresses


def _is_mailbox(value: str) -> bool:
    """Whether it is an address that an e-mail can come from or go to, maybe with a name."""
    _, address = parseaddr(value)
    try:
        validate_email(address)
    except ValidationError:
        return False
    return value == address or value.endswith(f"<{address}>")
