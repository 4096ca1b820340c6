"""Sentences on sessions that fail and break no rule: nobody looks at a result that passed.

Some fail in every schedule, alone and first, too: a typing error in a path, a missing permission or
a wrong argument makes a session that writes nothing. Others are ended by PostgreSQL for the sake of
others. Their changes are undone, so the rows are right, and the user sees an error.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, get_resolver
from django.utils.datastructures import MultiValueDictKeyError

from .conductor import Performance
from .serial import DEADLOCK, SERIALIZATION_FAILURE, described, described_error
from .session import Step, sqlstate_of
from .statements import Kind

if TYPE_CHECKING:
    from .result import Run

ENDINGS = {DEADLOCK: "a deadlock", SERIALIZATION_FAILURE: "a serialization failure"}


def notes_on_failing(runs: Sequence[Run], *, exhaustive: bool) -> Iterator[str]:
    """Sentences on the sessions that failed in all of these runs.

    ``exhaustive``: whether these are all. If not, it may be that a session only came too late: then
    it must also have failed as the first one.
    """
    for name in runs[0].sessions if runs else []:
        if not exhaustive and not any(ends_first(name, run) for run in runs):
            continue
        errors = [run.raised[name] for run in runs if name in run.raised]
        if len(errors) == len(runs):
            yield (
                f"{name} raised an exception in every schedule ({described_error(errors[0])}), and "
                "may not have come to what should race."
            )
            continue
        answers = [answer_in_words(run.returned.get(name)) for run in runs]
        if all(answers):
            yield (
                f"{name} was {answers[0]} in every schedule, and may not have come to what should "
                "race."
            )


def ends_first(name: str, run: Run) -> bool:
    """Whether the session ended before another one began."""
    return name not in itertools.dropwhile(lambda chosen: chosen == name, run.choices)


def notes_on_no_change(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence if all runs hold, and no step of theirs changed a row, or may have."""
    if runs and not any(run.is_flagged or any(map(may_change, run.steps)) for run in runs):
        yield (
            "No session changed a row in any schedule. If one should: does setup make all that it "
            "needs, and is the data of its request complete?"
        )


def may_change(step: Step) -> bool:
    """Whether it changed a row, or may have changed something that the explorer doesn't know."""
    return step.changes or step.kind in (Kind.OTHER, Kind.POINT, Kind.CACHE)


def notes_on_ended(runs: Sequence[Run]) -> Iterator[str]:
    """Sentences on the sessions that PostgreSQL ended, and that did not try again."""
    for sqlstate, ending in ENDINGS.items():
        ended = [run for run in runs if sqlstate in sqlstates_of_ended(run)]
        if ended:
            number = f"{len(runs)} schedule{'' if len(runs) == 1 else 's'}"
            yield (
                f"In {len(ended)} of {number} {ending} ended a session, which did not try again. "
                f"First: {ended[0].schedule}"
            )


def sqlstates_of_ended(run: Run) -> set[str | None]:
    """The errors of PostgreSQL with which sessions ended, or which a view answered with 500."""
    answered = {
        name
        for name, response in run.returned.items()
        if isinstance(status := getattr(response, "status_code", None), int) and status >= 500
    }
    hidden = {step.sqlstate for step in run.steps if step.session in answered}
    return hidden | {sqlstate_of(error) for error in run.raised.values()}


def why_without_sql(name: str, call: object, performance: Performance) -> str:
    """The rest of a sentence on a session that ran no SQL: its outcome, and what helps."""
    place = getattr(call, "place", "")
    asked = f"; it asked {place}" if place else ""
    error = performance.raised.get(name)
    if isinstance(error, MultiValueDictKeyError):
        return f"{asked}, and its data lack the field {error.args[0]}."
    if error is not None:
        return f"{asked}, and raised {described_error(error)}."
    response: Any = performance.returned.get(name)
    answer = answer_in_words(response)
    if answer.startswith("sent"):
        return f"{asked}, and was {answer}. Say whose request it is: user=…"
    if answer == "answered with 404" and place and not is_resolved(response):
        path = response.request["PATH_INFO"]
        return f"{asked}, which no URL of the project fits. {guesses(path)}".rstrip()
    if answer:
        return f"{asked}, and was {answer}."
    if getattr(response, "status_code", 0) in (301, 302, 303, 307, 308):
        return f"{asked}, and was sent to {response.headers.get('Location')}."
    return (
        f"{asked}, and returned {described(response)}. If it races in memory or in a cache, make "
        "steps in Python: races.point() in its code, clock=True, or cache=True."
    )


def is_resolved(response: Any) -> bool:
    """Whether the URL has a view. The answer 404 may be that of the view."""
    try:
        return bool(response.resolver_match.func)
    except Exception:  # Resolver404, as lazily as it is raised
        return False


def guesses(path: str) -> str:
    """The URLs that look most like it, as a question."""
    from .listing.views import places_in

    known = {place.pattern for place in places_in(get_resolver())}
    close = difflib.get_close_matches(urlsplit(path).path, known, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def answer_in_words(response: Any) -> str:
    """The words for a response that refuses; empty for all else."""
    status = getattr(response, "status_code", None)
    if not isinstance(status, int):
        return ""
    if status >= 400:
        return f"answered with {status}"
    where = getattr(response, "url", "") if 300 <= status < 400 else ""
    return "sent to the log-in page" if is_login(where) else ""


def is_login(url: str) -> bool:
    try:
        return bool(url) and url.partition("?")[0] == resolve_url(settings.LOGIN_URL)
    except NoReverseMatch:  # the project has no such page
        return False
