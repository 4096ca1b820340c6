"""Shared by the tests of the stand-in."""

from __future__ import annotations

import pytest
import stripe

from .shop import client_of
from .standin import StripeStandin


@pytest.fixture
def client(stripe_standin: StripeStandin) -> stripe.StripeClient:
    """The real library's client, that talks to the stand-in."""
    return client_of(stripe_standin)
