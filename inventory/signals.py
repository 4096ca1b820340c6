"""Signals of Django's for a project that counts or measures: what was reserved, how fast.

Connect receivers to them (``reservation_tried.connect``). Without receivers they cost next to
nothing. An error of a receiver is logged, and stops nobody's reservation.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial

from django.db import transaction
from django.dispatch import Signal

from inventory import database


class Outcome(StrEnum):
    """The outcome of an attempt to reserve."""

    RESERVED = "reserved"
    """A reservation was made. The repetition of a request that has one makes none."""
    REFUSED = "refused"
    """There were too few units."""


reservation_tried = Signal()
"""Sent once the outcome for one or more buyers is known.

It comes with ``strategy`` (its slug), ``outcome`` (an Outcome) and ``seconds``: for each of these
buyers, how long it took. A reservation that is made in the caller's transaction is reported after
its commit, and never if it is rolled back.
"""

batch_sent = Signal()
"""Sent after each statement by which ``combined`` takes for several buyers, and for a single one.

It comes with ``requests``: the number of buyers in the statement, served or not.
"""


def report_tried(strategy: str, outcome: Outcome, seconds: Sequence[float]) -> None:
    """Send ``reservation_tried``, with its arguments."""
    if reservation_tried.receivers and seconds:
        reservation_tried.send_robust(None, strategy=strategy, outcome=outcome, seconds=seconds)


def report_reserved(strategy: str, seconds: Sequence[float]) -> None:
    """Send ``reservation_tried`` for reservations, after the commit of the transaction under way.

    ``strategy`` and ``seconds`` are the signal's.
    """
    if reservation_tried.receivers:
        report = partial(report_tried, strategy, Outcome.RESERVED, seconds)
        transaction.on_commit(report, using=database.alias())


def report_batch(requests: int) -> None:
    """Send ``batch_sent`` for a statement with so many requests."""
    if batch_sent.receivers:
        batch_sent.send_robust(None, requests=requests)
