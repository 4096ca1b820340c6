"""A silent provider: the first buyers wait, and the others read at once that it is silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import pytest

from shop import payments
from shop.models import Order, Payment
from shop.payments import Outcome, ProviderUnavailable, answer_within, silence
from shop.payments.demo import DemoBank
from tests.conftest import MakeProduct
from tests.shop.orders.pages import tell
from tests.shop.orders.steps import APPROVE, at_bank, now, place

pytestmark = pytest.mark.django_db(transaction=True)


class Line:
    """The line to the demo bank: it may be cut, and counts the calls."""

    def __init__(self) -> None:
        self.is_cut = True
        self.calls = 0


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """A line on which each error counts as silence."""
    line, status = Line(), DemoBank.status

    def ask(bank: DemoBank, payment: Payment) -> Outcome:
        line.calls += 1
        return no_answer() if line.is_cut else status(bank, payment)

    monkeypatch.setattr(DemoBank, "status", ask)
    monkeypatch.setattr(silence, "SILENT", 0.0)
    return line


@pytest.fixture
def payment(make_product: MakeProduct) -> Payment:
    """A payment that the bank has taken, and of which the shop doesn't know."""
    order = place((make_product(1), 1))
    at_bank(order, APPROVE)
    return order.payments.get()


@pytest.fixture(autouse=True)
def a_buyer_waits() -> Iterator[None]:
    with answer_within(8):
        yield


def no_answer() -> NoReturn:
    raise ProviderUnavailable("The line is cut.")


def ask(payment: Payment) -> str:
    """The outcome, or the error's words."""
    try:
        return payments.status(payment).value
    except ProviderUnavailable as error:
        return str(error)


def test_after_a_silence_nobody_waits_for_a_while(
    line: Line, payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(payment) == "The line is cut."
    line.is_cut = False
    assert ask(payment) == "The provider demo was silent a moment ago."
    assert line.calls == 1
    monkeypatch.setattr(silence, "_silent_until", {"demo": 0.0})  # the while is over
    assert ask(payment) == "paid"


def test_an_error_at_once_is_no_silence(
    line: Line, payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT", 60.0)
    assert ask(payment) == ask(payment) == "The line is cut."
    assert line.calls == 2


def test_background_work_goes_on_asking(line: Line, payment: Payment) -> None:
    ask(payment)
    line.is_cut = False
    silence_before = dict(silence._silent_until)
    assert silence_before
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shop.payments.silence.somebody_waits", lambda: False)
        assert ask(payment) == "paid"


def test_another_provider_is_asked(line: Line, payment: Payment) -> None:
    ask(payment)
    line.is_cut = False
    with silence.noticed("another"):
        pass


def test_a_message_of_the_provider_ends_the_silence(line: Line, payment: Payment) -> None:
    ask(payment)
    line.is_cut = False
    assert tell(payment.order) == 200
    assert now(payment.order).state == Order.State.PAID
