"""Templates are readable in an editor, and Django finds all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.template import Engine

ROOT = Path(__file__).parent.parent
FOLDERS = ("templates", "inventory", "shop")
NOT_OURS = {"static", "transcripts"}  # the gallery's command writes its transcripts
LONGEST = 140
TEMPLATES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".html", ".txt") and NOT_OURS.isdisjoint(path.parts)
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=TEMPLATES, ids=named)
def template(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_templates_of_all_kinds_are_looked_at() -> None:
    assert {"base.txt", "base.html", "404.html", "ask.html", "report.html"} <= {
        path.name for path in TEMPLATES
    }


def test_no_line_is_too_long_to_read(template: Path) -> None:
    lines = enumerate(template.read_text().splitlines(), start=1)
    assert [number for number, line in lines if len(line) > LONGEST] == []


def test_a_file_ends_where_its_last_line_ends(template: Path) -> None:
    text = template.read_text()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_no_tag_is_broken_over_two_lines(template: Path) -> None:
    """Django treats a broken tag as text, and shows it on the page."""
    for number, line in enumerate(template.read_text().splitlines(), start=1):
        for begin, end in (("{%", "%}"), ("{{", "}}"), ("{#", "#}")):
            assert line.count(begin) == line.count(end), f"line {number}: {line.strip()}"


def test_what_is_included_or_extended_is_there(template: Path) -> None:
    text = template.read_text()
    for tag in ("include", "extends"):
        for rest in text.split(f'{{% {tag} "')[1:]:
            Engine.get_default().get_template(rest.partition('"')[0])
