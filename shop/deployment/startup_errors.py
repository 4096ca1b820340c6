"""Errors of the machine or the settings, explained in words instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError, OperationalError, ProgrammingError

from inventory.management.folding import folded
from inventory.postgres_errors import UNDEFINED_TABLE, sqlstate
from shop.deployment.embedded_postgres import EmbeddedPostgresError
from shop.logs.scrubbing import scrub


@contextmanager
def explained() -> Iterator[None]:
    """End the program with a message and exit code 1 for errors that the user can mend."""
    try:
        yield
    except ImproperlyConfigured as error:
        sys.exit(folded(str(error)))
    except NotSupportedError as error:
        if error.__cause__ is not None:  # not Django's own look at the server's version
            raise
        sys.exit(folded(f"{error}\nDATABASE_URL must name a newer server."))
    except OperationalError as error:
        if isinstance(error.__cause__, EmbeddedPostgresError):  # its message says what to do
            sys.exit(folded(str(error)))
        if sqlstate(error) is not None:  # the server answered, so it can be reached
            raise
        why = scrub(str(error))
        sys.exit(
            folded(f"The database can't be reached: {why}\nIs DATABASE_URL right, and is it up?")
        )
    except ProgrammingError as error:
        if sqlstate(error) != UNDEFINED_TABLE:
            raise
        sys.exit(folded(f"A table is missing: {scrub(str(error))}\nRun: python manage.py migrate"))
