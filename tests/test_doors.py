"""The import contracts in pyproject.toml hold, and each of them forbids something."""

from __future__ import annotations

import ast
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import inventory

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
APART = {"experiments", "races", "migrations"}  # not of the core

# A line that no contract must let pass, and where: one at least for each contract.
FORBIDDEN = [
    ("inventory never imports shop", "inventory/stock.py", "import shop.models"),
    ("the tables know no strategies, which are built on them", "inventory/conf.py",
     "import inventory.strategies"),
    ("races are a library: they import nothing of ours", "inventory/races/story.py",
     "from inventory import conf"),
    ("neither inventory's core nor the shop imports the experiments", "inventory/alerts.py",
     "from inventory.experiments import parameters"),
    ("neither inventory's core nor the shop imports the experiments", "shop/tasks.py",
     "import inventory.experiments.models"),
    ("neither inventory's core nor the shop imports the races", "shop/jobs.py",
     "from inventory.races import explore"),
    ("neither inventory's core nor the shop imports the races", "inventory/monitor.py",
     "import inventory.races.story"),
    ("settings import no models, nor what needs settings", "shop/deployment/database.py",
     "import inventory.models"),
    ("settings import no models, nor what needs settings", "shop/settings.py",
     "from shop.middleware import rate_limits"),
    ("the shop doesn't import its load tests", "shop/basket.py",
     "from shop.load_tests import serving"),
    ("the shop uses the doors of inventory, which inventory/__init__ names", "shop/basket.py",
     "from inventory.holds import give_back"),
    ("the shop uses the doors of inventory, which inventory/__init__ names", "shop/basket.py",
     "from inventory.strategies.combined import Combined"),
]  # fmt: skip


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("copy")
    for package in CONTRACTS["root_packages"]:
        shutil.copytree(ROOT / package, directory / package)
    shutil.copy(ROOT / "pyproject.toml", directory)
    return directory


def test_the_contracts_hold(copy: Path) -> None:
    run = lint_imports(copy)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(("contract", "file", "line"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, contract: str, file: str, line: str
) -> None:
    module = copy / file
    before = module.read_text()
    module.write_text(f"{before}\n{line}\n")
    try:
        run = lint_imports(copy)
    finally:
        module.write_text(before)
    assert run.returncode == 1
    assert f"{contract} BROKEN" in run.stdout


def test_every_contract_is_tried() -> None:
    assert {each["name"] for each in CONTRACTS["contracts"]} == {name for name, *_ in FORBIDDEN}


def test_each_module_is_a_door_or_forbidden_to_the_shop() -> None:
    modules = {each.name for each in pkgutil.iter_modules(inventory.__path__)} - APART
    [private] = [
        contract["forbidden_modules"]
        for contract in CONTRACTS["contracts"]
        if contract["name"].startswith("the shop uses the doors")
    ]
    closed = {name.removeprefix("inventory.") for name in private} - {"strategies.*"}
    assert closed | set(inventory.DOORS) == modules
    assert closed & set(inventory.DOORS) == set()


# Other people's packages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()
GALLERY = "inventory/races/gallery"


def distributions_in(*folders: str, without: tuple[str, ...] = ()) -> set[str]:
    """The packages of others that the modules in these folders import."""
    names = set()
    for file in [file for folder in folders for file in (ROOT / folder).rglob("*.py")]:
        if any(file.is_relative_to(ROOT / each) for each in without):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add((node.module or "").partition(".")[0])
    others = names - {"inventory", "shop"} - set(sys.stdlib_module_names)
    return {canonicalize_name(DISTRIBUTIONS[name][0]) for name in others}


def named(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def lines_of(file: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("-r ")]


def test_the_core_needs_what_the_package_names() -> None:
    admin, experiments, races = (f"inventory/{each}" for each in ("admin", "experiments", "races"))
    core = named(PROJECT["dependencies"])
    assert distributions_in("inventory", without=(admin, experiments, races)) <= core
    assert distributions_in(admin) <= core | named(EXTRAS["admin"])
    library = distributions_in(races, without=(GALLERY,))
    assert library <= core | named(EXTRAS["races"]) | {"pytest"}
    optional = {"procrastinate", "django-unfold"}  # its task and its page, where these are there
    assert distributions_in(experiments) <= core | named(EXTRAS["experiments"]) | optional


def test_the_gallery_needs_what_its_requirements_name() -> None:
    projects = f"{GALLERY}/packages"  # of packages that aren't installed here
    requirements = named(lines_of(f"{GALLERY}/requirements.txt"))
    assert distributions_in(GALLERY, without=(projects,)) <= requirements


def test_the_shop_needs_what_its_requirements_name() -> None:
    requirements = named(lines_of("requirements.txt"))
    without = ("shop/load_tests", "inventory/races/pytest_plugin.py", GALLERY)
    optional = {"sentry-sdk"}  # where it is there, errors may go to Sentry
    assert distributions_in("shop", "inventory", without=without) <= requirements | optional
    load = named(lines_of("requirements-load.txt"))
    assert load == {"locust"}
    assert not load & requirements
