"""The lane's answers, one by one."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import reverse

from inventory.models import Reservation
from inventory.signals import Outcome, reservation_tried
from shop import refusals
from shop.fast_lane.pages import Pages, cut
from shop.models import Refusal
from tests.conftest import MakeProduct
from tests.shop.fast_lane.conftest import Ask, Browser, ask_django

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


def test_a_token_is_the_visitors_own_wherever_it_stands() -> None:
    request = HttpRequest()
    token, again = get_token(request), get_token(request)
    other = get_token(HttpRequest())
    body = f'<meta content="{token}"><form data-other="{other}" data-token={again}>'
    page = cut(HttpResponse(body), request.META["CSRF_COOKIE"])
    assert page is not None
    assert page.are_keys == [False, False]
    assert b"|".join(page.pieces).decode() == body.replace(token, "|").replace(again, "|")


def test_a_page_is_not_kept_if_its_forms_key_is_not_found() -> None:
    field = '<input name="key" value="{0}">', '<input value="{0}" name="key">'
    found, lost = (cut(HttpResponse(each.format(uuid4())), "") for each in field)
    assert found is not None
    assert found.are_keys == [True]
    assert lost is None


def test_a_refusal_without_a_page_to_tell_of_it_is_recorded_by_django_alone(
    make_product: MakeProduct, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_page(*args: object, **kwargs: object) -> None:
        return None

    tried: list[Outcome] = []

    def note(outcome: Outcome, seconds: list[float], **kwargs: object) -> None:
        tried.extend(outcome for _ in seconds)

    monkeypatch.setattr(Pages, "get", no_page)
    reservation_tried.connect(note)
    try:
        form = Browser().form(make_product(1), 2)
        assert ask(form) == [None]
        assert Refusal.objects.count() == 0
        assert ask_django(form).status_code == 409
    finally:
        reservation_tried.disconnect(note)
    assert Refusal.objects.count() == 1
    assert tried == [Outcome.REFUSED]


def test_nobody_is_told_of_a_refusal_that_is_not_on_record(
    make_product: MakeProduct, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane would have told; Django refuses, and records it."""

    def fail(*args: object) -> None:
        raise OperationalError("the connection is lost")

    form = Browser().form(make_product(1), 2)
    with monkeypatch.context() as patch:
        patch.setattr(refusals, "record", fail)
        assert ask(form) == [None]
    assert ask_django(form).status_code == 409
    assert Refusal.objects.count() == 1
