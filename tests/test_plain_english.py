"""Sentences begin with their subject: none begins with Who, Whom or What, unless it asks."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".env.example", "inventory", "manage.py", "README.md", "shop", "templates", "tests")
BAD_START = re.compile(
    r"(?:^|[.!?:;]\s+|\n\s*\n\s*)((?:Who|Whom|Whose|Whoever|What|Whatever)\s[^.!?]*[.!?]?)"
)
FROZEN = "migrations"  # as it was written once
QUOTED = {"tests/test_plain_english.py"}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    return [
        ROOT / name
        for name in listed
        if name.endswith((".example", ".html", ".md", ".py", ".txt"))
        and FROZEN not in Path(name).parts
        and name not in QUOTED
    ]


def texts_of_python(source: str) -> Iterator[str]:
    """Docstrings, strings, and comments; comments on lines that follow each other are one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    comment, last_line = "", 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        words = token.string.lstrip("#: ")
        if token.start[0] == last_line + 1:
            comment = f"{comment} {words}"
        else:
            yield comment
            comment = words
        last_line = token.start[0]
    yield comment


def texts_of_template(source: str) -> Iterator[str]:
    """The texts between tags."""
    without_django = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", source, flags=re.S)
    yield from re.split(r"<[^>]*>", without_django)


def texts_of_readme(source: str) -> Iterator[str]:
    """Paragraphs, headings and cells, without blocks of code."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "\n", source)
    for text in re.split(r"\n\s*\n|\n(?=[-*#|] ?)|\|", prose):
        yield text.lstrip("#-*| ")


def twisted(path: Path) -> list[str]:
    source = path.read_text()
    match path.suffix:
        case ".py":
            texts = texts_of_python(source)
        case ".example":
            texts = iter(source.replace("# ", "").split("\n\n"))
        case ".md":
            texts = texts_of_readme(source)
        case _:
            texts = texts_of_template(source)
    found = [" ".join(each.split()) for text in texts for each in BAD_START.findall(text.strip())]
    return [sentence for sentence in found if not sentence.endswith("?")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""What pages share."""', ["What pages share."]),
        ("x = 1  # Who waits, waits.", ["Who waits, waits."]),
        ("# It waits.\n# What waits is\n# old.", ["What waits is old."]),
        ('"""What is it? A page."""', []),
        ('"""It says what is wrong."""', []),
    ],
)
def test_the_scan_finds_such_sentences(tmp_path: Path, source: str, expected: list[str]) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    assert twisted(file) == expected


def test_sentences_begin_with_their_subject() -> None:
    files = tracked_files()
    if not files:
        pytest.skip("this is no checkout by git")
    found = {str(file.relative_to(ROOT)): twisted(file) for file in files}
    assert {name: sentences for name, sentences in found.items() if sentences} == {}
