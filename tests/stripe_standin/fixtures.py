"""The stand-in for Stripe, as fixtures of pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .remote import StandinProcess
from .standin import StripeStandin


@pytest.fixture
def stripe_standin() -> Iterator[StripeStandin]:
    """A stand-in for Stripe of the test's own, in a thread, on a free port."""
    with StripeStandin() as standin:
        yield standin


@pytest.fixture
def stripe_standin_process() -> Iterator[StandinProcess]:
    """A stand-in for Stripe of the test's own, in a process that lives on when a shop is killed."""
    with StandinProcess() as standin:
        yield standin
