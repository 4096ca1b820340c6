"""Each race that the project declares: it is there, its mend ends it, and luck finds it or not."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import pytest
from django.conf import settings

from .. import RaceFound, Result, explore
from ..report import Section, section_of
from .luck import broken_tries
from .race import Race, Sessions

PROJECT = settings.SETTINGS_MODULE.removesuffix(".settings")
PACKAGE = PROJECT.rpartition(".")[2].replace("_", "-")
RACES: list[Race] = importlib.import_module(f"{PROJECT}.races").RACES

pytestmark = pytest.mark.django_db(transaction=True)
each_race = pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)
Note = Callable[[Race, dict[str, object]], None]
KeepTranscript = Callable[[Race, Section], None]


@each_race
def test_the_published_package_has_the_race(
    race: Race, note: Note, keep_transcript: KeepTranscript
) -> None:
    result = explored(race, race.sessions, race.options)
    words = {"title": race.title, "mend": race.mend, "known": race.known}
    facts = {**facts_of(result), "first": seconds_to_the_first(race)}
    note(race, {**words, "version": version(PACKAGE), "published": facts})
    keep_transcript(race, section_of(result, f"{PACKAGE} {version(PACKAGE)}"))
    with pytest.raises(RaceFound):
        result.assert_holds()
    assert not broken_serial_orders(result)


@each_race
def test_the_mend_ends_it(race: Race, note: Note, keep_transcript: KeepTranscript) -> None:
    options = race.options if race.mended_options is None else race.mended_options
    result = explored(race, race.mended, options)
    note(race, {"mended": facts_of(result)})
    keep_transcript(race, section_of(result, "Mended", race.mend))
    result.assert_holds()


@each_race
def test_luck(race: Race, note: Note, request: pytest.FixtureRequest) -> None:
    tries = request.config.getoption("--luck")
    if not tries:
        pytest.skip("Nobody asked for luck: --luck=1000")
    note(race, {"luck": {"tries": tries, "broken": broken_tries(race, tries)}})


def explored(race: Race, sessions: Sessions, options: Mapping[str, Any]) -> Result:
    return explore(
        sessions,
        setup=race.setup,
        invariant=race.invariant,
        describe=race.describe,
        **options,
    )


def seconds_to_the_first(race: Race) -> float:
    """How long a test waits that stops at the first broken schedule, as the fixture does."""
    result = explored(race, race.sessions, {**race.options, "first": True})
    return round(result.seconds, 1)


def broken_serial_orders(result: Result) -> list[str]:
    """Those that break the invariant: what breaks without a race isn't one."""
    return [run.schedule for run in result.broken if run.preemptions == 0]


def facts_of(result: Result) -> dict[str, object]:
    return {
        "schedules": result.schedules,
        "broken": len(result.broken),
        "coverage": result.coverage,
        "seconds": round(result.seconds, 1),
    }
