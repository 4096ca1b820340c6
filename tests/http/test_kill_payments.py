"""The shop is killed while its orders are paid and refunded by Stripe: a short drill.

By hand there is a longer one: ``python -m tests.tools.kill_payments``.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.tools.kill_payments import drill

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.mark.longest
def test_charges_are_paid_orders_and_refunds_are_owed_whoever_was_killed() -> None:
    figures = drill(orders=12, kills=2, seed=12)
    money = figures.money
    assert (figures.kills.total(), money.charges, money.refunds) == (2, 12, 4)
    assert money.paid == money.charged > 0
    assert money.owed == money.given_back > 0
    assert figures.kept == money.charged - money.given_back > Decimal(0)
