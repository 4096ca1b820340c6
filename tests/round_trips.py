"""Round trips to the database: statements, and every BEGIN and COMMIT that travels by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg


class RoundTrips:
    """The number of times that this process has waited for the database."""

    number = 0


@contextmanager
def counted_round_trips() -> Iterator[RoundTrips]:
    """Count the round trips of all connections while the block runs.

    psycopg waits once for whatever it has sent together.
    """
    trips = RoundTrips()
    wait = psycopg.Connection.wait

    def count(connection: Any, *arguments: Any, **options: Any) -> Any:
        trips.number += 1
        return wait(connection, *arguments, **options)

    with patch.object(psycopg.Connection, "wait", count):
        yield trips
