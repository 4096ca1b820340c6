"""The SECRET_KEY of a checkout without a setting: made once, and kept in a file."""

import contextlib
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from django.utils.functional import SimpleLazyObject


def of_checkout(checkout: Path) -> str:
    """The key kept in ``checkout``, which is read, or made, at its first use.

    Many programs import settings and sign nothing. They must not change the checkout.
    """
    return cast(str, SimpleLazyObject(partial(kept_key, checkout)))


def read() -> None:
    """Read the key now, or make it: as a text, it costs less to use than as a lazy one.

    Raises ImproperlyConfigured if it can't be kept or read.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    settings.SECRET_KEY = str(settings.SECRET_KEY)


def kept_key(checkout: Path) -> str:
    """Return the key kept in ``checkout``, and make it first if need be. Only we can read its file.

    Raises ImproperlyConfigured if it can't be kept or read there.
    """
    kept = checkout / ".secret_key"
    try:
        if not kept.exists():
            _make(kept)
        key = kept.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(
            f"SECRET_KEY isn't set, and none can be kept in {checkout}: {error}. Set SECRET_KEY "
            "(see .env.example), or run this as the user who owns the checkout."
        ) from error
    if not key:
        raise ImproperlyConfigured(f"{kept} is empty: delete it, and a new key will be made.")
    return key


def _make(kept: Path) -> None:
    """Write a new key to a file that others see only when it is complete, and safe on disk."""
    with tempfile.NamedTemporaryFile("w", dir=kept.parent, prefix=".secret_key.") as made:
        made.write(get_random_secret_key())
        made.flush()
        if os.geteuid() == 0:  # the checkout's owner will need it, too
            owner = kept.parent.stat()
            os.fchown(made.fileno(), owner.st_uid, owner.st_gid)
        os.fsync(made.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(made.name, kept)
