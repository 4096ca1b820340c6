"""The first lines of a buyer process, which starts from nothing (spawn): set Django up."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection


def main(settings_module: str, database: str, application_name: str, parent: Connection) -> None:
    """Serve jobs from ``parent`` until it hangs up, on connections of that name."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends us
    os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    import django
    from django.db import DEFAULT_DB_ALIAS, connections

    django.setup()
    ours = connections.settings[DEFAULT_DB_ALIAS]
    ours["NAME"] = database  # a test's, perhaps, not the settings'
    ours["OPTIONS"] = {**ours.get("OPTIONS", {}), "application_name": application_name}

    from inventory.flash_sale.buyers import serve

    serve(parent)
