"""The backend that Django loads: PostgreSQL's own, after it has started the server."""

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
        """Start the server if it isn't running, and return the parameters of its connections.

        Django calls this before it connects. So do pools, and the jobs' worker.
        """
        use_server(self.settings_dict["HOME"])
        return super().get_connection_params()


def use_server(home: str) -> None:
    """Keep the server of ``home`` running for as long as this process lives.

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
