"""The start of one process of the web server: it loads the shop, and looks at the settings."""

from __future__ import annotations

import sys

from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from gunicorn.arbiter import Arbiter


class ChecksSettings:
    """Makes a worker of gunicorn end, with a sentence for each fault, if the settings are wrong.

    So does each command of ``manage.py``. gunicorn then stops, and starts no other process.
    """

    def load_wsgi(self) -> None:
        try:
            super().load_wsgi()  # type: ignore[misc]  # of gunicorn's worker
            faults = [in_words(fault) for fault in run_checks() if is_fault(fault)]
        except ImproperlyConfigured as error:
            faults = [str(error)]
        for fault in faults:
            print(fault, file=sys.stderr, flush=True)  # the log would hide the names in it
        if faults:
            sys.exit(Arbiter.APP_LOAD_ERROR)


def is_fault(message: CheckMessage) -> bool:
    return message.is_serious() and not message.is_silenced()


def in_words(fault: CheckMessage) -> str:
    """The fault, and how to mend it."""
    return f"{fault.msg} {fault.hint or ''}".strip()
