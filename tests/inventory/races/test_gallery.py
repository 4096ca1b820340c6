"""The gallery's own machinery. Its races need other packages, and are run by its own command."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db import connection

from inventory.races import gallery
from inventory.races.gallery.__main__ import clear
from inventory.races.gallery.luck import broken_tries
from inventory.races.gallery.race import Ended, Race
from inventory.races.gallery.table import facts_of_races, write_page
from tests.inventory.races.models import Sale

FOLDER = Path(gallery.__file__).parent
TRANSCRIPTS = FOLDER / "transcripts"
PROJECTS = sorted(path.parent for path in FOLDER.glob("packages/*/races.py"))
each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
TRIES = 3
SECONDS = 10  # for threads that wait for each other


def nothing() -> None:
    pass


def race(sessions: dict[str, object], invariant: object) -> Race:
    return Race(
        name="it",
        title="It breaks.",
        setup=Sale.objects.all().delete,
        sessions=sessions,  # type: ignore[arg-type]
        invariant=invariant,  # type: ignore[arg-type]
        mended={},
        mend="",
    )


def sell() -> str:
    Sale.objects.create(sku="MUG")
    return "sold"


@pytest.mark.django_db(transaction=True)
class TestLuck:
    def test_it_counts_the_tries_that_break_the_rule(self) -> None:
        def one_is_sold(ended: Ended) -> bool:
            return Sale.objects.count() == 1

        def two_are_sold(ended: Ended) -> None:
            assert Sale.objects.count() == 2

        sessions: dict[str, object] = {"Ann": sell, "Bob": sell}
        assert broken_tries(race(sessions, one_is_sold), TRIES) == TRIES
        assert broken_tries(race(sessions, two_are_sold), TRIES) == 0

    def test_an_assertion_that_fails_breaks_the_rule_as_in_explore(self) -> None:
        def no_sale(ended: Ended) -> None:
            assert not Sale.objects.exists()

        assert broken_tries(race({"Ann": sell, "Bob": nothing}, no_sale), TRIES) == TRIES

    def test_the_rule_sees_what_sessions_returned_and_raised(self) -> None:
        def fail() -> None:
            raise LookupError("nothing here")

        def look(ended: Ended) -> bool:
            return ended.returned == {"Ann": "sold"} and str(ended.raised["Bob"]) == "nothing here"

        assert broken_tries(race({"Ann": sell, "Bob": fail}, look), TRIES) == 0

    def test_the_sessions_run_at_once_in_connections_of_their_own(self) -> None:
        together = threading.Barrier(2)

        def meet() -> int:
            together.wait(SECONDS)
            connection.ensure_connection()
            return int(connection.connection.info.backend_pid)

        def two_connections(ended: Ended) -> bool:
            return not ended.raised and len(set(ended.returned.values())) == 2

        assert broken_tries(race({"Ann": meet, "Bob": meet}, two_connections), TRIES) == 0

    def test_no_connection_is_left(self) -> None:
        used: list[object] = []

        def look() -> None:
            connection.ensure_connection()
            used.append(connection.connection)

        broken_tries(race({"Ann": look, "Bob": look}, lambda ended: True), TRIES)
        assert len(used) == 2 * TRIES
        assert all(each.closed for each in used)  # type: ignore[attr-defined]


def test_the_table_says_what_the_tests_noted(tmp_path: Path) -> None:
    (tmp_path / "django_mptt").mkdir()
    lines = [
        {"race": "child", "title": "Trees overlap.", "version": "0.20.0", "mend": "A lock.",
         "known": "In its README.",
         "published": {"schedules": 70, "broken": 12, "coverage": "exhaustive", "seconds": 1.5,
                       "first": 0.4}},
        {"race": "child",
         "mended": {"schedules": 8, "broken": 0, "coverage": "exhaustive", "seconds": 0.2}},
        {"race": "child", "luck": {"tries": 1000, "broken": 3}},
    ]  # fmt: skip
    path = tmp_path / "django_mptt" / "results.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_page(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "## django-mptt 0.20.0" in page
    [row] = re.findall(r"\| \[Trees overlap\.\].*", page)
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "12 of 70", "0.4", "1.5", "3 of 1000", "0 of 8",
    ]  # fmt: skip
    assert "*Mend:* A lock." in page
    assert "*Known:* In its README." in page


def test_luck_of_an_earlier_run_stays_if_it_is_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "django_mptt"
    directory.mkdir()
    (directory / "old.html").touch()
    published = {"schedules": 70, "broken": 12, "coverage": "exhaustive", "seconds": 1.5}
    luck = {"tries": 1000, "broken": 3}
    results = directory / "results.jsonl"
    noted: list[dict[str, object]] = [
        {"race": "root", "published": published},
        {"race": "root", "luck": luck},
        {"race": "old", "luck": luck},
    ]
    results.write_text("".join(f"{json.dumps(line)}\n" for line in noted))

    clear(directory, keep_luck=True)
    assert [path.name for path in directory.iterdir()] == ["results.jsonl"]
    with results.open("a") as file:
        print(json.dumps({"race": "root", "published": published}), file=file)
    assert facts_of_races(directory) == {
        "root": {"race": "root", "luck": luck, "published": published}
    }

    clear(directory, keep_luck=False)
    assert facts_of_races(directory) == {}


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FOLDER, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["django-nonsense"], "The gallery has no django-nonsense. It has: "),
        (["--luck=-1"], "--luck must be 0 or more, not -1."),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_installed(
    arguments: list[str], message: str
) -> None:
    done = run_command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@each_project
def test_a_projects_package_is_pinned(project: Path) -> None:
    name = project.name.replace("_", "-")
    pinned = (FOLDER / "requirements.txt").read_text()
    assert re.search(rf"(?m)^{name}(\[[\w,-]+\])?==", pinned)


@each_project
def test_a_projects_transcripts_are_committed(project: Path) -> None:
    facts = facts_of_races(TRANSCRIPTS / project.name)
    assert facts
    for name, noted in facts.items():
        assert noted["published"]["broken"] > 0
        assert noted["mended"]["broken"] == 0
        for ending in (".html", ".txt"):
            assert (TRANSCRIPTS / project.name / f"{name}{ending}").exists()


@each_project
def test_a_projects_races_have_the_names_of_its_transcripts(project: Path) -> None:
    """As far as the text tells: the packages aren't installed here."""
    source = (project / "races.py").read_text()
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert set(facts_of_races(TRANSCRIPTS / project.name)) <= texts


@pytest.mark.parametrize("page", [FOLDER / "README.md", TRANSCRIPTS / "README.md"])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert links
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_a_projects_own_tests_leave_the_gallery_out() -> None:
    """Neither pytest nor Django's runner finds a test by the name of its file."""
    names = [path.name for path in FOLDER.rglob("*.py")]
    assert names
    assert not [name for name in names if re.match(r"test|.*_test\.py|conftest\.py", name)]
