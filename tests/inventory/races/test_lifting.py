"""The folder, copied into another project, works there; and its README's ten minutes do."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

import inventory.races

pytestmark = pytest.mark.slow

FOLDER = Path(inventory.races.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ALLOWED = {"asgiref", "django", "psycopg", "rich", "pytest"} | set(sys.stdlib_module_names)


def imported(module: Path) -> set[str]:
    """The packages that a module imports by an absolute name."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            deepest = len(module.relative_to(FOLDER).parts)
            assert node.level <= deepest, f"{module.name} imports from above its folder"
            if node.level == 0:
                names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


MODULES = sorted(each for each in FOLDER.rglob("*.py") if "gallery" not in each.parts)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_it_imports_nothing_of_the_project(module: Path) -> None:
    assert imported(module) <= ALLOWED
    if module.name != "pytest_plugin.py":
        assert "pytest" not in imported(module)


def code_of(name: str) -> str:
    """The README's block of code that starts with a comment with this name."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    block: str
    [block] = [block for block in blocks if block.startswith(f"# {name}\n")]
    return block


def test_the_readmes_ten_minutes(tmp_path: Path) -> None:
    """A project of another shape: the view that worries, the test that fails, the mended view."""
    project = tmp_path / "concert"
    (project / "tickets" / "migrations").mkdir(parents=True)
    shutil.copytree(
        FOLDER, project / "races", ignore=shutil.ignore_patterns("__pycache__", "README.md")
    )
    server = {key: connection.settings_dict[key] for key in ("USER", "PASSWORD", "HOST", "PORT")}
    database = {
        "ENGINE": "django.db.backends.postgresql",
        **server,
        "NAME": f"concert_{os.getpid()}",
    }
    for name, text in {
        "tickets/__init__.py": "",
        "tickets/migrations/__init__.py": "",
        "tickets/models.py": code_of("tickets/models.py"),
        "tickets/views.py": code_of("tickets/views.py"),
        "conftest.py": code_of("conftest.py"),
        "tests/test_races.py": code_of("tests/test_races.py"),
        "urls.py": (
            "from django.urls import path\nfrom tickets import views\n"
            "urlpatterns = [path('concerts/<int:pk>/book', views.book)]\n"
        ),
        "settings.py": (
            "SECRET_KEY = 'only for tests'\n"
            "INSTALLED_APPS = ['tickets']\n"
            "ROOT_URLCONF = 'urls'\n"
            "USE_TZ = True\n"
            "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n"
            f"DATABASES = {{'default': {database!r}}}\n"
        ),
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    django = [sys.executable, "-m", "django"]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": str(project),
        "COLUMNS": "116",
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )

    made = run(*django, "makemigrations", "tickets")
    assert made.returncode == 0, made.stderr
    pytest_here = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")

    failing = run(*pytest_here, "--races-report", "reports")
    assert failing.returncode == 1, failing.stdout + failing.stderr
    transcript = re.search(r"```text\n(.*?)```", README, re.S)
    assert transcript is not None
    said = without_margin(failing.stdout)
    for line in transcript[1].strip().splitlines():
        assert " ".join(line.split()) in said, line
    [report] = (project / "reports").glob("*.html")
    assert "<!DOCTYPE html>" in report.read_text(encoding="utf-8")

    views = (project / "tickets" / "views.py").read_text(encoding="utf-8")
    mended = code_of("tickets/views.py, mended")
    (project / "tickets" / "views.py").write_text(
        views[: views.index("@require_POST")] + mended[mended.index("@require_POST") :],
        encoding="utf-8",
    )
    passing = run(*pytest_here)
    assert passing.returncode == 0, passing.stdout + passing.stderr


def without_margin(output: str) -> str:
    """The output of pytest, without its margin, and with single spaces."""
    return " ".join(" ".join(re.sub(r"^E ", "", line).split()) for line in output.splitlines())


def test_the_names_of_anomalies_are_explained() -> None:
    from inventory.races import story

    for name in (
        story.LOST_UPDATE, story.STALE_CHECK, story.PHANTOM, story.WRITE_SKEW, story.DEADLOCKED,
        story.REFUSED, story.CONSTRAINT, story.NO_RACE, story.UNEXPLAINED,
    ):  # fmt: skip
        assert f"| {name} |" in README


def test_the_options_are_documented() -> None:
    import inspect

    documentation = inspect.getdoc(inventory.races.explore) or ""
    for name in inspect.signature(inventory.races.explore).parameters:
        assert f"``{name}``" in documentation
