"""What Django loads as the backend: PostgreSQL's own, which first has the server running."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from django.db import OperationalError
from django.db.backends.postgresql import base, client

from shop.deployment.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

_starting = threading.Lock()  # threads of a process may open their first connections at once


class DatabaseClient(client.DatabaseClient):
    def runshell(self, parameters: Iterable[str]) -> None:
        use_server(self.connection.settings_dict["HOME"])
        super().runshell(parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Say how to connect to the server, which is running then.

        Not only Django asks this before it connects: so do pools, and the worker of the jobs.
        """
        use_server(self.settings_dict["HOME"])
        return super().get_connection_params()


def use_server(home: str) -> None:
    """Have the server of ``home`` running for as long as this process lives.

    Raises OperationalError, as for any database that can't be reached.
    """
    try:
        with _starting:
            server_in(home).use()
    except EmbeddedPostgresError as error:
        raise OperationalError(str(error)) from error


@cache
def server_in(home: str) -> EmbeddedPostgres:
    """The server of ``home``: one object, so that the process takes its lock once."""
    return EmbeddedPostgres(Path(home))
