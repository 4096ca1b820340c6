"""Errors that nobody catches, and warnings, are lines of the log: scrubbed, and in its format."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.shop.programs import ROOT

PROGRAM = """
import django, threading, warnings
from shop.logs.failures import log_uncaught

django.setup()
log_uncaught()
warnings.warn("It is old: zed@example.org")

def fail():
    raise ValueError("no such name: 'zed@example.org'")

class Odd:
    def __del__(self):
        fail()

Odd()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


@pytest.mark.slow
def test_errors_and_warnings_are_logged() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "SECRET_KEY": "x",
            "LOG_FORMAT": "json",
        },
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [(each["level"], each["logger"]) for each in lines] == [
        ("WARNING", "py.warnings"),
        ("ERROR", "shop"),
        ("ERROR", "shop"),
        ("CRITICAL", "shop"),
    ]
    assert all("ValueError: no such name" in each["traceback"] for each in lines[1:])
    assert "zed" not in run.stderr
    assert run.returncode == 1
