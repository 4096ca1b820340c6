"""`inventory` in a project that isn't ours, and its README's account of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
OWN_SHOP = ROOT / "tests" / "own_shop"


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "inventory" / "README.md").read_text()


def test_a_shop_of_ones_own_sells_three_of_three_guitars() -> None:
    server = {key: connection.settings_dict[key] for key in ("USER", "PASSWORD", "HOST", "PORT")}
    database = {"ENGINE": "django.db.backends.postgresql", **server, "NAME": "own_shop"}
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.own_shop.settings",
        "OWN_SHOP_DATABASE": json.dumps(database),
    }
    script = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('makemigrations', 'own_shop', '--check', '--dry-run', verbosity=0)\n"
        "call_command('test', 'tests.own_shop', interactive=False)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "Ran 1 test" in run.stderr


@pytest.mark.parametrize("name", ["models.py", "views.py"])
def test_the_readme_shows_that_code(readme: str, name: str) -> None:
    code = (OWN_SHOP / name).read_text().replace("tests.own_shop", "guitars")
    assert code.strip() in readme
