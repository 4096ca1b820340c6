"""The history of a row: its newest version must be what the row says."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from ...race import Ended, Race
from .models import Poll

Change = Callable[[], object]


def a_poll() -> None:
    Poll.objects.all().delete()
    Poll.history.all().delete()
    Poll.objects.create(pk=1, question="Tea?")


def newest_version_is_the_row(ended: Ended) -> None:
    poll = Poll.objects.get(pk=1)
    newest = poll.history.latest().question
    assert newest == poll.question, f"The newest version says {newest}"


def versions_in_words() -> str:
    poll = Poll.objects.get(pk=1)
    versions = ", ".join(version.question for version in poll.history.order_by("history_date"))
    return f"the poll says {poll.question}; its history says {versions}"


def ask(question: str) -> Change:
    def save() -> None:
        poll = Poll.objects.get(pk=1)
        poll.question = question
        poll.save()

    return save


RACES = [
    Race(
        name="newest",
        title="The newest version in the history isn't what the row says.",
        setup=a_poll,
        sessions={"Ann": ask("Coffee?"), "Bob": ask("Juice?")},
        invariant=newest_version_is_the_row,
        describe=versions_in_words,
        options={"clock": True},
        mended={
            "Ann": transaction.atomic(ask("Coffee?")),
            "Bob": transaction.atomic(ask("Juice?")),
        },
        mend=(
            "One transaction for the row and its version (atomic(), or ATOMIC_REQUESTS): the "
            "second UPDATE waits for the end of the first transaction, and only after that looks "
            "at the clock. The package could open that transaction in save(). Then no row stays "
            "without its version, either, when the process dies between the two."
        ),
    ),
]
