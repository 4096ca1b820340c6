"""Shared by the tests of the stand-in."""

from __future__ import annotations

import pytest
import stripe

from .shop import client_of, paid_session
from .standin import StripeStandin


@pytest.fixture
def client(stripe_standin: StripeStandin) -> stripe.StripeClient:
    """The real library's client, that talks to the stand-in."""
    return client_of(stripe_standin)


@pytest.fixture
def session(stripe_standin: StripeStandin, client: stripe.StripeClient) -> str:
    """A session in which 10.00 € were paid; its messages have been delivered."""
    session = paid_session(stripe_standin, client, 1000)
    stripe_standin.webhooks.drop_queued()
    return session
