"""The command ``races`` in a project that isn't ours: ``ticket_office``, beside this file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

import inventory.races

FOLDER = Path(inventory.races.__file__).parent
OFFICE = Path(__file__).parent / "ticket_office"


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    errors: str


Races = Callable[..., Done]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with the folder as ``races``."""
    project = tmp_path_factory.mktemp("office") / "office"
    shutil.copytree(OFFICE, project, ignore=shutil.ignore_patterns("__pycache__"))
    skipped = shutil.ignore_patterns("__pycache__", "README.md", "gallery")
    shutil.copytree(FOLDER, project / "races", ignore=skipped)
    return project


@pytest.fixture
def start_here(office: Path, transactional_db: None) -> Start:
    """Start Python in the project, on the server of the tests."""
    server = {key: connection.settings_dict[key] for key in ("USER", "PASSWORD", "HOST", "PORT")}
    engine = {"ENGINE": "django.db.backends.postgresql", **server}
    database = {**engine, "NAME": connection.settings_dict["NAME"]}

    def start(*command: str, columns: int = 140, **changed: Any) -> subprocess.Popen[str]:
        databases = {"default": {**database, **changed}, "other": {**database}}
        return subprocess.Popen(
            [sys.executable, "-u", *command],
            cwd=office,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "settings",
                "PYTHONPATH": f"{office}{os.pathsep}{office / 'site-packages'}",
                "TICKET_DATABASES": json.dumps(databases),
                "COLUMNS": str(columns),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def django_here(start_here: Start) -> Callable[..., Done]:
    """Run Python in the project, and see that it leaves no database behind."""

    def run(*command: str, given: str = "", **options: Any) -> Done:
        process = start_here(*command, **options)
        out, errors = process.communicate(given, timeout=120)
        assert "Traceback" not in out + errors, out + errors
        assert scratch_databases(process.pid) == []
        return Done(process.returncode, out, errors)

    return run


@pytest.fixture
def races_in_office(django_here: Callable[..., Done]) -> Races:
    """Run the command in the project."""
    return partial(django_here, "-m", "django", "races")


@pytest.fixture
def each_of(django_here: Callable[..., Done]) -> Callable[[Iterable[list[str]]], list[Done]]:
    """Run the command with each list of arguments, all in one process."""

    def run(many: Iterable[list[str]]) -> list[Done]:
        done = django_here("run_many.py", given=json.dumps(list(many)))
        assert done.code == 0, done.errors
        return [Done(*each) for each in json.loads(done.out)]

    return run


def scratch_databases(process: int) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)",
            [f"races_{process}_"],
        )
        return [name for (name,) in cursor.fetchall()]
