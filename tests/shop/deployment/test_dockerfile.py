"""The Dockerfile, as far as it can be checked without a builder: its files and its commands."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.command_line import ROOT
from tests.readmes import OF_DEPLOYMENT
from tests.shop.deployment.test_systemd_units import command

DOCKERFILE = ROOT / "shop" / "deployment" / "Dockerfile"
IGNORED = DOCKERFILE.with_name("Dockerfile.dockerignore")


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of that name."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    return [text for word, text in re.findall(r"(?m)^([A-Z]+) (.*)$", joined) if word == name]


def commands() -> list[list[str]]:
    """All commands, which are in the exec form: a shell in between would keep signals."""
    [check] = instructions("HEALTHCHECK")
    texts = [*instructions("RUN"), *instructions("CMD"), check[check.index("CMD ") + 4 :]]
    return [json.loads(text) for text in texts]


def test_what_it_copies_exists_and_reaches_the_builder() -> None:
    copied = [text for text in instructions("COPY") if not text.startswith("--from=")]
    sources = [source for text in copied for source in text.split()[:-1]]
    assert {"shop", "inventory", "templates", "manage.py", "requirements.txt"} <= set(sources)
    rules = [line for line in IGNORED.read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in rules


@pytest.mark.parametrize("name", [".env", ".secret_key", ".postgres", ".venv", ".git", "media"])
def test_secrets_and_data_do_not_reach_the_builder(name: str) -> None:
    let_in = [line[1:] for line in IGNORED.read_text().splitlines() if line.startswith("!")]
    assert not any(fnmatch(name, rule) for rule in let_in)


def test_no_secret_is_in_it() -> None:
    named = " ".join([*instructions("ENV"), *instructions("ARG")])
    assert not re.search("SECRET|PASSWORD|TOKEN|DATABASE_URL", named)


def test_its_python_is_the_one_that_we_check_types_for() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for base in instructions("FROM"):
        assert f":{settings['tool']['mypy']['python_version']}-slim" in base


def test_it_does_not_run_as_root() -> None:
    [user] = instructions("USER")
    assert int(user.split(":")[0]) > 0


def test_it_runs_what_the_units_run() -> None:
    [web] = [each for each in commands() if each[0] == "gunicorn"]
    unit = command("web")
    assert [each for each in web if each not in ("--bind", "0.0.0.0:8000")] == [
        "gunicorn",
        *unit[unit.index("-c") :],
    ]
    for module in (web[2].removeprefix("python:"), web[-1]):
        assert importlib.util.find_spec(module)
    assert ["manage.py", "collectstatic", "--no-input"] in [each[1:] for each in commands()]
    worker = " ".join(["python", *command("worker")[1:]])
    assert worker in DOCKERFILE.read_text()
    assert worker in OF_DEPLOYMENT.read_text()


def test_its_files_are_those_of_the_readme() -> None:
    named = Path("shop/deployment/Dockerfile")
    assert f"--file {named}" in OF_DEPLOYMENT.read_text()
    assert (ROOT / named) == DOCKERFILE
