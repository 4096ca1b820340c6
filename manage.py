#!/usr/bin/env python
"""Django's command line for the shop."""

import os
import signal
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    try:
        from django.core.management import execute_from_command_line

        from shop.deployment.startup_errors import explained
        from shop.logs.failures import log_uncaught

        log_uncaught()
        with explained():
            execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the end is left


if __name__ == "__main__":
    main()
