"""Options and fixtures of the gallery's tests, which leave their results in a directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .. import Result
from ..report import result_as_html
from .race import Race


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gallery")
    group.addoption("--luck", type=int, default=0, help="tries by two threads and a barrier")
    group.addoption("--directory", type=Path, required=True, help="for transcripts and results")


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[Race, dict[str, object]], None]:
    """A function that adds facts about a race to ``results.jsonl``, a line of JSON each."""
    directory: Path = request.config.getoption("--directory")

    def add_line(race: Race, facts: dict[str, object]) -> None:
        with (directory / "results.jsonl").open("a", encoding="utf-8") as file:
            print(json.dumps({"race": race.name, **facts}, ensure_ascii=False), file=file)

    return add_line


@pytest.fixture
def keep_transcript(request: pytest.FixtureRequest) -> Callable[[str, str, Result], None]:
    """A function that writes an exploration's page; and, if it broke, its transcript as text."""
    directory: Path = request.config.getoption("--directory")

    def write(name: str, title: str, result: Result) -> None:
        page = result_as_html(result, title=title)
        (directory / f"{name}.html").write_text(page + "\n", encoding="utf-8")
        if result.broken:
            text = result.failure(result.broken, width=100)
            (directory / f"{name}.txt").write_text(text + "\n", encoding="utf-8")

    return write
