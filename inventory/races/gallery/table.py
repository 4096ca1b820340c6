"""The results of all races, as a table on the terminal and as a page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Facts = dict[str, Any]

COLUMNS = ("broken", "first", "all", "by luck", "mended")
HEAD = """\
# Transcripts

Written by the gallery's command: a page for each race, which shows it as the package was published,
and below that with the mend. *Broken*: of all schedules that there are, or of all but those with
equal effects. *First*, *all*: the seconds after which the first broken one was found, and all were
seen. *By luck*: the tries of two threads and a barrier that broke it. *Mended*: the schedules that
are broken after the mend.
"""


def facts_of_races(directory: Path) -> dict[str, Facts]:
    """The facts that the tests of a package noted, by the race's name."""
    facts: dict[str, Facts] = {}
    path = directory / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        noted = json.loads(line)
        facts.setdefault(noted["race"], {}).update(noted)
    # Luck of an earlier run may be left of a race that has another name now.
    return {race: noted for race, noted in facts.items() if "published" in noted}


def print_table(directories: Iterable[Path]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "mended" else "right")
    for directory in directories:
        facts = facts_of_races(directory)
        table.add_row(heading(directory, facts), style="bold")
        for race, noted in facts.items():
            table.add_row(f"  {race}", *cells(noted))
    console = Console()
    console.print()
    console.print(table)


def write_page(transcripts: Path) -> None:
    """Write README.md into the directory, with what all packages in it noted."""
    lines = [HEAD]
    for directory in sorted(path.parent for path in transcripts.glob("*/results.jsonl")):
        facts = facts_of_races(directory)
        lines += [f"## {heading(directory, facts)}", ""]
        lines += [f"| {' | '.join(('race', *COLUMNS))} |", f"|---{'|---' * len(COLUMNS)}|"]
        for race, noted in facts.items():
            page = f"{directory.name}/{race}"
            link = f"[{noted.get('title', race)}]({page}.html) ([text]({page}.txt))"
            lines.append(f"| {' | '.join((link, *cells(noted)))} |")
        for word in ("mend", "known"):
            for text in dict.fromkeys(noted[word] for noted in facts.values() if word in noted):
                lines += ["", f"*{word.capitalize()}:* {text}"]
        lines.append("")
    (transcripts / "README.md").write_text("\n".join(lines), encoding="utf-8")


def heading(directory: Path, facts: dict[str, Facts]) -> str:
    versions = {noted["version"] for noted in facts.values() if "version" in noted}
    return " ".join((directory.name.replace("_", "-"), *versions))


def cells(noted: Facts) -> tuple[str, ...]:
    published, luck, mended = (noted.get(key) for key in ("published", "luck", "mended"))
    return (
        schedules_in_words(published) if published else "",
        f"{published['first']:.1f}" if published else "",
        f"{published['seconds']:.1f}" if published else "",
        f"{luck['broken']} of {luck['tries']}" if luck else "",
        schedules_in_words(mended) if mended else "",
    )


def schedules_in_words(explored: Facts) -> str:
    """
    >>> schedules_in_words({"broken": 3, "schedules": 70, "coverage": "exhaustive"})
    '3 of 70'
    >>> schedules_in_words({"broken": 0, "schedules": 9, "coverage": "all with no preemptions"})
    '0 of 9, all with no preemptions'
    """
    words = f"{explored['broken']} of {explored['schedules']}"
    is_all = explored["coverage"].startswith("exhaustive")
    return words if is_all else f"{words}, {explored['coverage']}"
