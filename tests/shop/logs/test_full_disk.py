"""A log that can't be written, since its disk is full, hurts no request and no job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, environment

pytestmark = pytest.mark.django_db(transaction=True)

FULL = Path("/dev/full")
PROGRAM = """
import logging
import django
django.setup()
from django.test import Client
for number in range(100):
    logging.getLogger("shop").error("%s: %s", number, "x" * 1000)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("shop").exception("It failed.")
answer = Client().get("/no-such-page/", headers={"host": "localhost"})
print(answer.status_code, Client().get("/", headers={"host": "localhost"}).status_code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_shop_goes_on_when_its_log_has_no_room(log_format: str) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={
                **environment(),
                "DJANGO_SETTINGS_MODULE": "shop.settings",
                "LOG_FORMAT": log_format,
                "ALLOWED_HOSTS": "localhost",
                "HTTPS": "false",
            },
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout.split() == ["404", "200"]
