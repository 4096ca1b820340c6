"""The lane's answers, one by one."""

from __future__ import annotations

import pytest
from django.urls import reverse

from inventory.models import Reservation
from shop.models import Refusal
from tests.conftest import MakeProduct
from tests.shop.fast_lane.conftest import Ask, Browser

pytestmark = pytest.mark.django_db(transaction=True)


def test_buyers_at_once_get_what_there_is_and_no_more(make_product: MakeProduct, ask: Ask) -> None:
    product = make_product(5)
    browsers = [Browser() for _ in range(8)]
    answers = ask(*(browser.form(product) for browser in browsers))
    assert sorted(answer.status for answer in answers if answer) == [302] * 5 + [409] * 3
    held = set(Reservation.objects.held().values_list("buyer", flat=True))
    for browser, answer in zip(browsers, answers, strict=True):
        assert answer is not None
        assert (answer.status == 302) == (browser.buyer in held)
    assert Refusal.objects.count() == 3
    product.refresh_from_db()
    assert product.stock == 0


def test_a_form_that_was_sent_before_is_for_django(make_product: MakeProduct, ask: Ask) -> None:
    product = make_product(5)
    form = Browser().form(product)
    [first] = ask(form)
    assert first is not None
    assert first.status == 302
    assert ask(form) == [None]
    assert Reservation.objects.count() == 1


def test_the_page_has_a_token_and_a_key_of_its_own(make_product: MakeProduct, ask: Ask) -> None:
    path = reverse("product", args=[make_product(5).slug])
    one, other = ask(Browser().page(path), Browser().page(path))
    assert one is not None
    assert other is not None
    assert one.status == 200
    differing = [
        pair
        for pair in zip(one.body.split(), other.body.split(), strict=True)
        if pair[0] != pair[1]
    ]
    assert len(differing) == 2
