"""Web requests wait for a limited time, also for a server that takes calls and never answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.shop.programs import ROOT, SECONDS

CONNECT = """
import shop.wsgi
from django.db import OperationalError, connection
try:
    connection.ensure_connection()
except OperationalError:
    print("gave up")
"""


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgres://shop@127.0.0.1:{silent.getsockname()[1]}/shop"
        done = subprocess.run(
            [sys.executable, "-c", CONNECT],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.stdout == "gave up\n", done.stderr
