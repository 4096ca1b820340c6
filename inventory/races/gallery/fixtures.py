"""Options and fixtures of the gallery's tests, which leave their results in a directory."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from ..report import Section, as_html
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


@pytest.fixture(scope="session")
def sections() -> dict[str, list[Section]]:
    """The parts of each race's page: the race, and its mend."""
    return defaultdict(list)


@pytest.fixture
def keep_transcript(
    request: pytest.FixtureRequest, sections: dict[str, list[Section]]
) -> Callable[[Race, Section], None]:
    """A function that adds a part to a race's page; and writes a broken transcript as text."""
    directory: Path = request.config.getoption("--directory")

    def write(race: Race, section: Section) -> None:
        sections[race.name].append(section)
        page = as_html(sections[race.name], title=race.title)
        (directory / f"{race.name}.html").write_text(page + "\n", encoding="utf-8")
        if section.result.broken:
            text = section.result.failure(section.result.broken)
            (directory / f"{race.name}.txt").write_text(text + "\n", encoding="utf-8")

    return write
