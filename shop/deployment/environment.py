"""Variables of the environment and of ``.env``, read strictly: a typo never passes for a no."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured
from environ import Env

YES = ("true", "yes", "on", "1")
NO = ("false", "no", "off", "0")


class Environment(Env):  # type: ignore[misc]  # it has no types
    """django-environ, with four differences: empty is unset, a bad value is an error that names
    the variable, a value that starts with $ is just that (secrets may), and ``outbox://`` is where
    the e-mails of a demo go.

    What the environment says goes before what ``file`` says, which need not exist.

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
        """Return the variable as ``cast`` makes it, ``default`` as it is if there is none.

        Raises ImproperlyConfigured if ``cast`` raises ValueError, whose words it repeats.
        """
        value = self.ENVIRON.get(var, "").strip()
        if not value:
            if default is Env.NOTSET:
                raise ImproperlyConfigured(f"{var} must be set.")
            return default
        try:
            return self.parse_value(value, cast)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is {value!r}: {error}") from error

    @classmethod
    def parse_value(cls, value: str, cast: Any) -> Any:
        if cast is bool:
            return _boolean(value)
        if cast is list:
            return [word.strip() for word in value.split(",") if word.strip()]
        return super().parse_value(value, cast)


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


def time_zone(value: str) -> str:
    """A ``cast`` for the name of a time zone."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("it must be the name of a time zone, such as Europe/Berlin.") from error
    return value
