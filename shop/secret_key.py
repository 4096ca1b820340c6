"""The SECRET_KEY of a checkout that was given none: made once, and kept in a file."""

import contextlib
import os
import tempfile
from pathlib import Path

from django.core.management.utils import get_random_secret_key


def of_checkout(checkout: Path) -> str:
    """Return the key kept in ``checkout``, made on first use; nobody else can read the file."""
    kept = checkout / ".secret_key"
    if not kept.exists():
        with tempfile.NamedTemporaryFile("w", dir=checkout, prefix=".secret_key.") as made:
            made.write(get_random_secret_key())
            made.flush()
            with contextlib.suppress(FileExistsError):  # another process was first: theirs counts
                os.link(made.name, kept)
    return kept.read_text()
