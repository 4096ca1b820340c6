"""Batches made on purpose: each buyer gets the same answer as alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import DjangoAssertNumQueries

from inventory import monitor, stock, strategies
from inventory.exceptions import (
    BuyerLimitExceeded,
    DuplicateKey,
    InsufficientStock,
    InventoryError,
    NotForSale,
)
from inventory.holds import Request
from inventory.locking import lock_product
from inventory.models import Product, Reservation
from inventory.reservations import release, reserve
from inventory.strategies import combined
from inventory.strategies.combined import Combined, Queue, Waiting, WaitingThread, serve
from tests.concurrency import at_once, lapse, of_kind, wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)


def ask(product: Product, quantity: int = 1, buyer: str = "A", key: str | None = None) -> Waiting:
    request = Request(
        product_id=product.pk,
        sku=product.sku,
        quantity=quantity,
        buyer=buyer,
        hold_for=timedelta(minutes=10),
        strategy="combined",
        idempotency_key=key,
        max_per_buyer=product.max_per_buyer,
    )
    return Waiting(request)


def answers(*batch: Waiting) -> list[Reservation | type[Exception]]:
    """Serve the batch; return each buyer's reservation, or the class of the error."""
    serve(batch)
    found: list[Reservation | type[Exception]] = []
    for waiting in batch:
        try:
            found.append(waiting.answer())
        except InventoryError as error:
            found.append(type(error))
    return found


def served(*batch: Waiting) -> list[int | type[Exception]]:
    """Serve the batch; return each buyer's units, or the class of the error."""
    return [
        answer.quantity if isinstance(answer, Reservation) else answer for answer in answers(*batch)
    ]


def test_one_statement_serves_all_if_all_fit(make_product: MakeProduct) -> None:
    product = make_product(10, backstop=False)
    found = answers(*(ask(product, n, buyer=f"buyer {n}") for n in (1, 2, 3)))
    for answer in found:
        assert isinstance(answer, Reservation)
        stored = Reservation.objects.get(pk=answer.pk)
        for field in Reservation._meta.fields:  # the buyer gets the reservation as it is written
            assert getattr(answer, field.attname) == getattr(stored, field.attname), field
        assert stored.expires_at - stored.created_at == timedelta(minutes=10)
    product.refresh_from_db()
    assert (product.stock, product.version) == (4, 2)  # one delivery, one statement


def test_when_not_all_fit_it_goes_by_arrival(make_product: MakeProduct) -> None:
    product = make_product(5, backstop=False)
    batch = [ask(product, n) for n in (2, 4, 2, 6, 1, 1)]
    assert served(*batch) == [2, InsufficientStock, 2, InsufficientStock, 1, InsufficientStock]
    refused = [waiting.error for waiting in batch if waiting.error]
    # 6 never fitted; 4 and the last 1 were refused when the others had been served.
    assert [getattr(error, "available", None) for error in refused] == [0, 5, 0]


def test_a_refusal_counts_lapsed_holds_as_available(make_product: MakeProduct) -> None:
    product = make_product(3, backstop=False)
    lapse(reserve(product, 3, buyer="gone"))
    waiting = ask(product, 2)
    assert served(waiting) == [InsufficientStock]
    assert isinstance(waiting.error, InsufficientStock)
    assert waiting.error.available >= 2  # enough: the caller takes them back
    assert reserve(product, 2, buyer="A", strategy="combined").quantity == 2


def test_a_key_that_is_there_already_is_no_harm_to_the_others(make_product: MakeProduct) -> None:
    product = make_product(5, backstop=False)
    reserve(product, 1, buyer="A", idempotency_key="k")
    batch = [ask(product, 1, key="x"), ask(product, 1, key="k"), ask(product, 1)]
    assert served(*batch) == [1, DuplicateKey, 1]


def test_switched_off_means_no_hold_for_anybody(make_product: MakeProduct) -> None:
    product = make_product(5, is_active=False)
    assert served(ask(product), ask(product)) == [NotForSale, NotForSale]


def test_two_requests_of_one_buyer_in_a_batch_share_the_limit(make_product: MakeProduct) -> None:
    product = make_product(9, backstop=False, max_per_buyer=2)
    batch = [ask(product, 1, buyer) for buyer in "ABAAB"]
    assert served(*batch) == [1, 1, 1, BuyerLimitExceeded, 1]


def test_the_limit_counts_only_what_was_really_taken(make_product: MakeProduct) -> None:
    """The first request exceeds the stock, and so the second is within the limit."""
    product = make_product(1, backstop=False, max_per_buyer=2)
    assert served(ask(product, 2), ask(product, 1)) == [InsufficientStock, 1]


@contextmanager
def locked(product: Product) -> Iterator[None]:
    """Lock the product on another connection during the block."""
    with transaction.atomic():
        lock_product(product.pk)
        yield


def buy_while_locked(
    product: Product, calls: Sequence[Callable[[], Any]], meanwhile: Callable[[], None]
) -> list[Any]:
    """Let the first caller lead and wait for the row; the others queue behind it."""
    results: list[Any] = []
    with locked(product):
        leader = threading.Thread(target=lambda: results.extend(at_once(calls[:1])))
        leader.start()
        wait_until_somebody_waits_for_a_lock()
        others = threading.Thread(target=lambda: results.extend(at_once(calls[1:])))
        others.start()
        wait_until_waiting(product, len(calls) - 1)
        meanwhile()
    for thread in (leader, others):
        thread.join(60)
        assert not thread.is_alive()
    return results


def wait_until_waiting(product: Product, number: int) -> None:
    queues = strategies.get("combined")
    assert isinstance(queues, Combined)
    pause = threading.Event()
    for _ in range(2000):
        queue = queues._queues.get(product.pk)
        if queue is not None and len(queue.waiting) == number:
            return
        pause.wait(0.01)
    raise AssertionError("they don't queue")


def test_buyers_who_come_during_a_statement_are_the_next_batch(
    make_product: MakeProduct,
) -> None:
    product = make_product(30, strategy="combined", backstop=False)
    calls = [partial(reserve, product, 1, buyer=f"buyer {n}") for n in range(20)]
    results = buy_while_locked(product, calls, meanwhile=lambda: None)
    assert len(of_kind(results, Reservation)) == 20, results
    product.refresh_from_db()
    assert (product.stock, product.version) == (10, 3)  # a delivery, the leader, the rest
    assert product.pk not in strategies.get("combined")._queues  # type: ignore[attr-defined]


def test_the_same_key_twice_in_the_queue_is_one_reservation(make_product: MakeProduct) -> None:
    product = make_product(30, strategy="combined", backstop=False)
    first = partial(reserve, product, 1, buyer="B")
    calls = [partial(reserve, product, 1, buyer="A", idempotency_key="k") for _ in range(5)]
    results = buy_while_locked(product, [first, *calls], meanwhile=lambda: None)
    once = Reservation.objects.get(buyer="A")
    assert [getattr(result, "pk", result) for result in results].count(once.pk) == 5
    assert Reservation.objects.count() == 2


def test_a_leader_whose_connection_is_ended_asks_again(make_product: MakeProduct) -> None:
    product = make_product(30, strategy="combined", backstop=False)
    calls = [partial(reserve, product, 1, buyer=f"buyer {n}") for n in range(4)]
    results = buy_while_locked(product, calls, meanwhile=end_connections_that_wait)
    assert len(of_kind(results, Reservation)) == 4, results
    assert monitor.state_of(product.pk).held == 4


def end_connections_that_wait() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        assert cursor.fetchall() == [(True,)]


def lose_the_answer(monkeypatch: pytest.MonkeyPatch, times: int, *, after_commit: bool) -> None:
    """Lose the connection this number of times, after or before the commit."""
    send = combined._send
    left = [times]

    def send_and_lose(together: Any) -> Any:
        if not left[0]:
            return send(together)
        left[0] -= 1
        if after_commit:
            send(together)
        connection.close()
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(combined, "_send", send_and_lose)
    monkeypatch.setattr(combined, "PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("after_commit", [True, False])
@pytest.mark.parametrize("left", [0, 1, 3, 10])
def test_an_answer_that_is_lost_is_asked_for_again(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, after_commit: bool, left: int
) -> None:
    """Even if the units left after the lost answer are too few to take them once more."""
    product = make_product(3 + left, backstop=False)
    lose_the_answer(monkeypatch, 1, after_commit=after_commit)
    assert served(ask(product, 2), ask(product, 1, key="k")) == [2, 1]
    product.refresh_from_db()
    assert (product.stock, product.version) == (left, 2)


def test_what_was_taken_before_the_answer_was_lost_is_within_the_limit(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(9, backstop=False, max_per_buyer=2)
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
    lost: list[bool] = []

    def commit_and_lose(wrapper: BaseDatabaseWrapper) -> None:
        commit(wrapper)
        if not lost:
            lost.append(True)
            wrapper.close()
            raise OperationalError("the connection is lost")

    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", commit_and_lose)
    batch = [ask(product, 2, "A"), ask(product, 3, "B"), ask(product, 1, "C")]
    assert served(*batch) == [2, BuyerLimitExceeded, 1]
    assert [type(waiting.error) for waiting in batch] == [
        type(None),
        BuyerLimitExceeded,
        type(None),
    ]
    assert lost
    assert monitor.state_of(product.pk).held == 3


def test_who_was_refused_before_it_failed_for_the_others_stays_refused(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(3)
    batch = [WaitingThread(ask(product, units).request) for units in (4, 1)]
    strategy, send = Combined(), combined._send
    strategy._queues[product.pk] = queue = Queue(threading.current_thread())
    queue.waiting.extend(batch)

    def send_for_all_only(together: Sequence[Waiting]) -> Any:
        if len(together) < len(batch):
            raise RuntimeError("out of memory")
        return send(together)

    monkeypatch.setattr(combined, "_send", send_for_all_only)
    strategy._lead(product.pk)
    assert [type(waiting.error) for waiting in batch] == [InsufficientStock, RuntimeError]
    assert "out of memory" in str(batch[1].error)


def test_what_cant_be_written_is_no_harm_to_the_others(make_product: MakeProduct) -> None:
    product = make_product(9, backstop=False)
    batch = [ask(product, 1), ask(product, 1), ask(product, 1)]
    for waiting, buyer in zip(batch[1:], ["a NUL: \0", 65 * "x"], strict=True):
        object.__setattr__(waiting.request, "buyer", buyer)  # past the check of a request
    serve([*batch, ask(product, 2)])
    assert [type(waiting.error) for waiting in batch] == [type(None), DataError, DataError]
    assert monitor.state_of(product.pk).held == 3


def test_a_sold_out_product_is_looked_at_first_and_sold_as_soon_as_there_is_some(
    make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    product = make_product(1, backstop=False)
    reserve(product, 1, buyer="A", idempotency_key="k")
    batch = [ask(product, key="k"), ask(product, key="x"), ask(product)]
    with django_assert_num_queries(1):
        serve(batch, look_first=True)
    kinds = [DuplicateKey, InsufficientStock, InsufficientStock]
    assert [type(waiting.error) for waiting in batch] == kinds
    stock.receive(product, 2)
    batch = [ask(product), ask(product), ask(product)]
    serve(batch, look_first=True)
    assert [type(waiting.error) for waiting in batch] == [type(None), type(None), InsufficientStock]


def test_a_queue_that_was_sold_out_serves_when_units_come_back(make_product: MakeProduct) -> None:
    """Threads buy units and give them back, so that the product is sold out now and then."""
    product = make_product(2, strategy="combined", backstop=False)

    def buy_and_let_go(buyer: str) -> int:
        bought = 0
        for _ in range(15):
            with suppress(InsufficientStock):
                release(reserve(product, 1, buyer=buyer).pk)
                bought += 1
        return bought

    bought = at_once([partial(buy_and_let_go, f"buyer {n}") for n in range(8)])
    assert all(isinstance(number, int) for number in bought), bought
    assert sum(bought) >= 2
    assert monitor.state_of(product.pk).available == 2
    assert reserve(product, 2, buyer="the last").quantity == 2


def test_everybody_gets_an_error_if_the_server_stays_away(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(5, strategy="combined", backstop=False)
    lose_the_answer(monkeypatch, 1000, after_commit=False)
    results = at_once([partial(reserve, product, 1, buyer=f"buyer {n}") for n in range(6)])
    assert len(of_kind(results, OperationalError)) == 6, results
    assert len({id(result) for result in results}) == 6  # each its own: tracebacks aren't shared
    monkeypatch.undo()
    assert reserve(product, 1, buyer="A").quantity == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_leader_that_ended_silently(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(5, strategy="combined", backstop=False)
    monkeypatch.setattr(combined, "SECONDS_BETWEEN_LOOKS", 0.05)
    hand_over, dead = Combined._hand_over, [True]

    def end_without_a_word(self: Combined, *arguments: Any) -> None:
        if dead.pop() if dead else False:
            raise SystemExit
        hand_over(self, *arguments)

    monkeypatch.setattr(Combined, "_hand_over", end_without_a_word)
    calls = [partial(reserve, product, 1, buyer=f"buyer {n}") for n in range(3)]

    def lead() -> None:
        try:
            calls[0]()
        finally:
            connection.close()

    with locked(product):
        leader = threading.Thread(target=lead)
        leader.start()
        wait_until_somebody_waits_for_a_lock()
        results: list[Any] = []
        others = threading.Thread(target=lambda: results.extend(at_once(calls[1:])))
        others.start()
        wait_until_waiting(product, 2)
    for thread in (leader, others):
        thread.join(60)
        assert not thread.is_alive()
    assert len(of_kind(results, Reservation)) == 2, results


def test_inside_a_transaction_it_is_the_callers(make_product: MakeProduct) -> None:
    product = make_product(5, strategy="combined")
    with pytest.raises(RuntimeError), transaction.atomic():
        reserve(product, 1, buyer="A")
        raise RuntimeError
    assert not Reservation.objects.exists()
    product.refresh_from_db()
    assert product.stock == 5


def test_the_limit_is_exact_beside_other_strategies(make_product: MakeProduct) -> None:
    product = make_product(20, backstop=False, max_per_buyer=2)
    slugs = ["combined", "single_statement"] * 6
    results = at_once([partial(reserve, product, 1, buyer="A", strategy=slug) for slug in slugs])
    assert len(of_kind(results, Reservation)) == 2, results
    assert len(of_kind(results, BuyerLimitExceeded)) == 10
