"""Sentences on sessions that fail in every schedule, alone and first, too: they may race nothing.

A typing error in a path, a missing permission or a wrong argument makes a session that writes
nothing, and so breaks no rule. A pass says little then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch

from .serial import described_error

if TYPE_CHECKING:
    from .result import Run


def notes_on_failing(runs: Sequence[Run]) -> Iterator[str]:
    """Sentences on the sessions that failed in all of these runs."""
    for name in runs[0].sessions if runs else []:
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
