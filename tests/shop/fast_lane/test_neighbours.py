"""A batch with a bad request in it: the other buyers don't suffer."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from inventory import monitor
from inventory.models import Reservation
from inventory.reservations import reserve
from shop.models import HoldAddress
from tests.conftest import MakeProduct
from tests.shop.fast_lane.conftest import Ask, Browser, ask_django

pytestmark = pytest.mark.django_db(transaction=True)

BAD_FIELDS: list[dict[str, object]] = [
    {"key": "a NUL: \0"},
    {"key": "no key"},
    {"quantity": "1\0"},
    {"quantity": 0},
    {"quantity": -1},
    {"quantity": 21},  # a basket can hold 20
    {"quantity": 10**4},
    {"quantity": 10**30},
    {"seen_price": "NaN"},
    {"seen_price": "1e999999999"},
    {"csrfmiddlewaretoken": "another's"},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=str)
def test_a_bad_form(make_product: MakeProduct, ask: Ask, fields: dict[str, Any]) -> None:
    product = make_product(100, strategy="combined", backstop=False)
    quantity = fields.pop("quantity", 1)
    bad = Browser().form(product, quantity, **fields)
    one, answer, other = ask(Browser().form(product), bad, Browser().form(product))
    assert one is not None
    assert other is not None
    assert (one.status, other.status) == (302, 302)
    if answer is None:
        assert ask_django(bad).status_code < 500
    assert monitor.state_of(product.pk).held in (2, 3)


def test_a_buyers_key_that_cant_be_written(make_product: MakeProduct, ask: Ask) -> None:
    product = make_product(9, strategy="combined", backstop=False)
    strange = Browser()
    strange.buyer = 300 * "x"
    one, answer, other = ask(
        Browser().form(product), strange.form(product), Browser().form(product)
    )
    assert answer is None
    assert one is not None
    assert other is not None
    assert (one.status, other.status) == (302, 302)


def test_a_key_that_was_used_for_another_product(make_product: MakeProduct, ask: Ask) -> None:
    product, another = (make_product(9, strategy="combined", backstop=False) for _ in range(2))
    browser, key = Browser(), uuid4()
    assert ask_django(browser.form(another, key=key)).status_code == 302
    used = browser.form(product, key=key)
    one, answer, other = ask(Browser().form(product), used, Browser().form(product))
    assert answer is None
    assert one is not None
    assert other is not None
    assert (one.status, other.status) == (302, 302)
    assert ask_django(used).status_code == 409
    assert monitor.state_of(product.pk).held == 2


def test_a_buyer_with_a_full_basket(make_product: MakeProduct, ask: Ask) -> None:
    product, another = (make_product(99, strategy="combined", backstop=False) for _ in range(2))
    full = Browser()
    reserve(another, 20, buyer=full.buyer)
    form = full.form(product)
    one, answer, other = ask(Browser().form(product), form, Browser().form(product))
    assert answer is None
    assert one is not None
    assert other is not None
    assert (one.status, other.status) == (302, 302)
    assert ask_django(form).status_code == 409
    assert monitor.state_of(product.pk).held == 2


def test_an_address_that_has_all_that_it_may_have(
    make_product: MakeProduct, ask: Ask, settings: Any
) -> None:
    """Forty new cookies of one address come at once, and two buyers of other addresses."""
    settings.MOST_UNITS_PER_ADDRESS = 10
    product = make_product(99, strategy="combined", backstop=False)
    crowd = [Browser().form(product, 2) for _ in range(40)]
    others = [Browser().form(product, 2) for _ in range(2)]
    for number, (scope, _) in enumerate(others):
        scope["client"] = (f"198.51.100.{number}", 40000)
    answers = ask(others[0], *crowd, others[1])
    served = [answer.status for answer in answers if answer]
    assert served == [302] * 7
    assert answers[0] is not None
    assert answers[-1] is not None
    assert monitor.state_of(product.pk).held == 14
    left = [form for form, answer in zip(crowd, answers[1:-1], strict=True) if answer is None]
    assert {ask_django(form).status_code for form in left[:2]} == {409}
    assert Reservation.objects.count() == HoldAddress.objects.count() == 7
