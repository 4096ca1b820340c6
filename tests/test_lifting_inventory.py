"""`inventory` in a project that isn't ours, by the two ways that its README names.

Each environment is made here, and has what the README says and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from shop.deployment.database import url_of

ROOT = Path(__file__).resolve().parent.parent
OWN_SHOP = ROOT / "tests" / "own_shop"
README = (ROOT / "inventory" / "README.md").read_text()
SECONDS = 600  # for a download on a slow day
TRIED = [("3.11", "5.2"), ("3.13", "6")]  # versions of Python and Django
APPS_OF_ADMIN = README.partition("(the extra `admin`)")[2].partition(", before")[0]
RACES = "guitars/races_of_guitars.py"
FLASH_SALES = {"inventory_flashsale", "inventory_flashsaleresult"}


def run(
    *command: str | Path, cwd: Path, fails: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done


def python_of(version: str) -> Path:
    """The interpreter of that version; skips the test where there is none."""
    here = Path(sys.executable) if sys.version.startswith(f"{version}.") else None
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = shutil.which(f"python{version}")
    for each in [here, *pyenv, Path(found) if found else None]:
        if each and subprocess.run([each, "-c", "import venv"], check=False).returncode == 0:
            return each
    pytest.skip(f"There is no Python {version} here.")


@dataclass
class Project:
    """A copy of the other shop, with an environment of its own."""

    directory: Path
    python: Path
    database: str
    more_apps: str = ""

    def pip_install(self, *what: str) -> None:
        pip = (sys.executable, "-m", "pip", "--python", self.python)  # one for all environments
        run(*pip, "install", "-q", "--no-compile", *what, cwd=self.directory)

    def __call__(self, *command: str, fails: bool = False, **environment: str) -> str:
        databases = json.dumps({"default": {}, "main": json.loads(self.database)})
        settings = {
            "DJANGO_SETTINGS_MODULE": "own_shop.settings",
            "DATABASES": databases,
            "MORE_APPS": self.more_apps,
            **environment,
        }
        done = run(self.python, *command, cwd=self.directory, fails=fails, **settings)
        return done.stdout + done.stderr

    def tables(self) -> set[str]:
        with psycopg.connect(url_of(json.loads(self.database))) as session:
            rows = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            return {name for (name,) in rows}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy: building leaves things behind."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("inventory", "shop", "tests/own_shop"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", "manage.py"):
        shutil.copy(ROOT / name, checkout)
    run(*(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "."), cwd=checkout)
    [made] = checkout.glob("*.whl")
    return made


@pytest.fixture
def database(db: None) -> Iterator[str]:
    """Django's settings of an empty database on the tests' server, as JSON."""
    server = connection.settings_dict
    name = f"{server['NAME']}_own_shop"
    kept = {key: server[key] for key in ("USER", "PASSWORD", "HOST", "PORT")}
    identifier = sql.Identifier(name)
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier)
    with psycopg.connect(url_of({**server, "NAME": "postgres"}), autocommit=True) as session:
        session.execute(drop)
        session.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        yield json.dumps({"ENGINE": "django.db.backends.postgresql", "NAME": name, **kept})
        session.execute(drop)


def project(directory: Path, python: Path, database: str) -> Project:
    shutil.copytree(
        OWN_SHOP, directory / "shop-of-mine", ignore=shutil.ignore_patterns("__pycache__")
    )
    run(python, "-m", "venv", "--without-pip", "venv", cwd=directory)
    return Project(directory / "shop-of-mine", directory / "venv" / "bin" / "python", database)


@pytest.mark.slow
def test_the_wheel_has_all_of_inventory_and_nothing_of_the_shop(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        packed = set(files.namelist())
    listed = subprocess.run(
        ["git", "ls-files", "inventory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for_readers = {name for name in listed if name.endswith((".md", ".svg"))}
    of_the_gallery = {name for name in listed if name.startswith("inventory/races/gallery/")}
    assert set(listed) - for_readers - of_the_gallery <= packed
    assert not of_the_gallery & packed
    assert {name.split("/")[0] for name in packed} == {
        "inventory",
        "django_limited_stock-1.0.dist-info",
    }
    assert "django_limited_stock-1.0.dist-info/licenses/LICENSE" in packed


@pytest.mark.longest
@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("python", "django"), [TRIED[0], pytest.param(*TRIED[1], marks=pytest.mark.thorough)]
)
def test_installed(tmp_path: Path, wheel: Path, database: str, python: str, django: str) -> None:
    shop = project(tmp_path, python_of(python), database)
    shop.pip_install(str(wheel), f"django=={django}.*")
    the_shop_sells(shop)
    shop.pip_install("pytest", "pytest-django")
    assert "pip install rich" in shop("-m", "pytest", RACES, fails=True)

    shop.pip_install(f"{wheel}[admin,experiments]")
    shop.more_apps = "inventory.experiments"
    assert "flash_sale" in shop("manage.py", "help")
    shop("manage.py", "migrate", "--database", "main")
    assert shop.tables() >= FLASH_SALES
    shop("manage.py", "makemigrations", "--check", "--dry-run")
    said = shop("manage.py", "flash_sale", "--strategy", "combined", "--payment-ms", "0")
    assert "exact" in said
    said = shop("manage.py", "races", "conditional_update", "--buyers", "2")
    assert "conditional_update" in said
    tiny = ("--shape", "hot", "--buyers", "2", "--processes", "1", "--rounds", "1")
    said = shop("manage.py", "benchmark", *tiny, "--seconds", "0.1", "--warm-up", "0")
    assert "holds" in said

    said = shop("manage.py", "test", FIRST_APPS=" ".join(re.findall(r'"([^"]+)"', APPS_OF_ADMIN)))
    assert "Ran 4 tests" in said
    assert "skipped" not in said

    assert "1 passed" in shop("-m", "pytest", RACES)


@pytest.mark.thorough
@pytest.mark.longest
@pytest.mark.slow
@pytest.mark.django_db
def test_copied(tmp_path: Path, database: str) -> None:
    shop = project(tmp_path, Path(sys.executable), database)
    [named] = re.findall(r"^pip install ((?!\.).+)$", README, re.M)
    shop.pip_install(*(each.strip('"') for each in named.split()))
    shutil.copytree(ROOT / "inventory", shop.directory / "inventory")
    the_shop_sells(shop)


def the_shop_sells(shop: Project) -> None:
    """The README's promises hold, without the experiments and Unfold."""
    assert "no issues" in shop("manage.py", "check")
    shop("manage.py", "migrate", "--database", "main")
    assert "inventory_reservation" in shop.tables()
    assert not shop.tables() & FLASH_SALES
    shop("manage.py", "makemigrations", "--check", "--dry-run")
    assert "Every unit is accounted for." in shop("manage.py", "check_stock")
    assert "Ran 4 tests" in (said := shop("manage.py", "test"))
    assert "skipped=1" in said
    for databases, complaint in CANNOT.items():
        said = shop("manage.py", "check", fails=True, DATABASES=databases)
        assert complaint in " ".join(said.split())


SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
CANNOT = {
    json.dumps({"default": SQLITE}): "The database “default”, which keeps the stock, is no Postgre",
    json.dumps({"default": {}, "main": SQLITE}): "The database “main”, which keeps the stock, is n",
}


@pytest.mark.parametrize("name", ["models.py", "views.py"])
def test_the_readme_shows_that_code(name: str) -> None:
    assert (OWN_SHOP / "guitars" / name).read_text().strip() in README


def test_the_readme_says_what_is_tried() -> None:
    pythons, djangos = zip(*TRIED, strict=True)
    assert (
        f"Django {djangos[0]} and {djangos[1]}, on Python {pythons[0]} and {pythons[1]}" in README
    )
