"""Serve many waiting buyers by one statement.

The idea is known as flat combining (Hendler, Incze, Shavit and Tzafrir, SPAA 2010); databases call
it group commit. In each process, one of a product's waiting buyers leads: it takes all who wait,
sends one statement for all of them, and hands over to the next one waiting. There is no timer: a
buyer who comes alone is served alone, and those who come meanwhile are the next batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from inventory import signals
from inventory.database import atomic, connection
from inventory.exceptions import BuyerLimitExceeded, InsufficientStock, TooMuchContention
from inventory.holds import HOLD_COLUMNS, Request, written_hold
from inventory.locking import queue_buyers
from inventory.models import KEY_ONCE, Reservation
from inventory.postgres_errors import CONNECTION_EXCEPTION, SHUTTING_DOWN, constraint_name, sqlstate
from inventory.snapshots import available_now, refusal_on, units_of_buyers
from inventory.strategies.base import Pay
from inventory.strategies.single_statement import SingleStatement

MOST_AT_ONCE = 128  # buyers in a batch; more would gain little, and the first wait for the last
SECONDS_BETWEEN_LOOKS = 5.0  # of a follower, whether its leader's thread still lives
PAUSES = (0.0, 0.2, 1.0)  # seconds before a batch is sent again whose connection was lost
PRIMARY_KEY = "inventory_reservation_pkey"

# The whole batch, or nothing of it. The INSERT finds out whether a key is in use already: a
# subquery would look at the database as it was before the UPDATE waited for the row.
TAKE_ALL = f"""
    WITH product AS (
        UPDATE inventory_product
        SET stock = stock - %(total)s, version = version + 1
        WHERE id = %(product_id)s AND is_active AND stock >= %(total)s
        RETURNING id, price
    ), taken AS (
        INSERT INTO inventory_reservation ({HOLD_COLUMNS})
        SELECT asked.id, product.id, asked.quantity, 0, product.price, 'HELD', asked.buyer,
            statement_timestamp() + make_interval(secs => asked.seconds),
            asked.key, %(strategy)s, statement_timestamp()
        FROM product, unnest(
            %(ids)s::uuid[], %(quantities)s::int[], %(buyers)s::text[],
            %(seconds)s::float8[], %(keys)s::text[]
        ) AS asked (id, quantity, buyer, seconds, key)
    )
    SELECT price, statement_timestamp() FROM product
"""


class Waiting:
    """A buyer's request that waits for its answer: ``granted`` or ``error``."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.granted: tuple[Decimal, datetime] | None = None
        """The unit price, and the time of the hold."""
        self.error: Exception | None = None

    @property
    def is_answered(self) -> bool:
        return self.granted is not None or self.error is not None

    def answer(self) -> Reservation:
        if self.granted is None:
            raise self.error or TooMuchContention("The answer was lost. Please try again.")
        price, at = self.granted
        return written_hold(self.request, price, at)


class WaitingThread(Waiting):
    """A request, and the thread that waits for its answer."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.thread = threading.current_thread()
        self._called = threading.Lock()
        self._called.acquire()

    def call(self) -> None:
        """Wake the thread: it has its answer, or its turn to lead."""
        self._called.release()

    def wait(self, seconds: float) -> bool:
        """Wait for ``call``, at most this long; return whether it came."""
        return self._called.acquire(timeout=seconds)


class Queue:
    """The buyers of this process who wait for the same product, and their leader."""

    def __init__(self, leader: threading.Thread) -> None:
        self.leader = leader
        self.waiting: deque[WaitingThread] = deque()
        self.seems_sold_out = False
        """Whether no buyer of the last batch was served. A guess: each refusal looks first."""

    def take_batch(self) -> list[WaitingThread]:
        """Take out the next batch, in order of arrival.

        Of two requests with one key the second stays, so that it finds the first one's hold.
        """
        batch: list[WaitingThread] = []
        stay: list[WaitingThread] = []
        keys: set[str] = set()
        while self.waiting and len(batch) < MOST_AT_ONCE:
            waiting = self.waiting.popleft()
            key = waiting.request.idempotency_key
            if key in keys:
                stay.append(waiting)
                continue
            batch.append(waiting)
            if key is not None:
                keys.add(key)
        self.waiting.extendleft(reversed(stay))
        return batch


class Combined(SingleStatement):
    slug = "combined"
    label = "Combined (many buyers, one statement)"
    how = (
        "Buyers of a product who wait in one process at the same moment are served together: one "
        "of them sends a statement that takes for all and writes every reservation. The more "
        "wait, the more are served per lock and commit; alone it is the single statement."
    )
    when = "For a shop, and above all for flash sales: the fastest by far when many want the same."

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the queues; never locked while a statement runs
        self._queues: dict[int, Queue] = {}

    def _attempt(self, request: Request, pay: Pay) -> Reservation:
        if connection().in_atomic_block:
            # This caller's transaction can't serve others, and theirs can't serve this caller.
            return super()._attempt(request, pay)
        waiting = WaitingThread(request)
        if self._join(waiting):
            self._lead(request.product_id)
        return waiting.answer()

    def _join(self, waiting: WaitingThread) -> bool:
        """Wait in the queue for an answer, or for our turn to lead. Returns True to lead."""
        product_id = waiting.request.product_id
        with self._lock:
            queue = self._queues.get(product_id)
            if queue is None:
                queue = self._queues[product_id] = Queue(waiting.thread)
            queue.waiting.append(waiting)
            if queue.leader is waiting.thread:
                return True
        while not waiting.wait(SECONDS_BETWEEN_LOOKS):
            # A leader answers and hands over whatever happens to it, unless its thread was killed
            # (or not copied by a fork). Nobody may wait for such a leader.
            with self._lock:
                if not queue.leader.is_alive():
                    if waiting not in queue.waiting:
                        return False  # the dead leader had us in its batch: there is no answer
                    queue.leader = waiting.thread
                    return True
        return queue.leader is waiting.thread

    def _lead(self, product_id: int) -> None:
        """Serve the waiting buyers, ourselves among them, and hand over."""
        time.sleep(0)  # let threads that could run do so: some may want to be in this batch
        with self._lock:
            queue = self._queues[product_id]
            batch = queue.take_batch()
        try:
            serve(batch, look_first=queue.seems_sold_out)
            queue.seems_sold_out = all(
                isinstance(waiting.error, InsufficientStock) for waiting in batch
            )
        except Exception as error:
            for waiting in batch:
                if not waiting.is_answered:
                    waiting.error = _copy(error)
        finally:
            for waiting in batch:
                waiting.call()
            self._hand_over(product_id, queue)  # last: some of these may wait in the queue again

    def _hand_over(self, product_id: int, queue: Queue) -> None:
        with self._lock:
            if not queue.waiting:
                del self._queues[product_id]
                return
            following = queue.waiting[0]
            queue.leader = following.thread
        following.call()


def serve(batch: Sequence[Waiting], *, look_first: bool = False) -> None:
    """Answer everybody: by one statement if all fit, otherwise in order until stock runs out.

    All of them want the same product, and no two have the same key. Call it outside a transaction.
    It serves threads that wait here, and others (``reservations.reserve_for_many``).
    ``look_first``: probably nobody fits, so look before trying.

    Raises what the database raises; then requests without an answer may have been served or not,
    and the same request, sent again with its key, finds out.
    """
    together = refuse_or_choose(batch) if look_first else batch
    while together:
        take_all(together)
        pending = [waiting for waiting in batch if not waiting.is_answered]
        if not pending:
            return
        together = refuse_or_choose(pending)


def refuse_or_choose(pending: Sequence[Waiting]) -> list[Waiting]:
    """Refuse buyers for whom the stock is too small at this instant; return the others in order.

    For a buyer who needs lapsed holds the exception says so. That buyer takes them back on a
    connection of its own (``reservations.reserve``).
    """
    requests = [waiting.request for waiting in pending]
    now = available_now(
        requests[0].product_id,
        max(request.quantity for request in requests),
        [request.idempotency_key for request in requests],
    )
    chosen: list[Waiting] = []
    left = now.stock
    for waiting in pending:
        request = waiting.request
        if request.idempotency_key in now.keys or not now.is_enough_for(request):
            waiting.error = refusal_on(now, request)
        elif request.quantity <= left:
            left -= request.quantity
            chosen.append(waiting)
    if not chosen:
        for waiting in pending:
            waiting.error = waiting.error or refusal_on(now, waiting.request)
    return chosen


def take_all(together: Sequence[Waiting]) -> None:
    """Take for all of them, or for none. If for none, answer only those who can't be served."""
    try:
        _take_all_or_ask_again(together)
    except (DataError, UnicodeError) as error:
        # One of the requests can't be written. The others must not suffer for it.
        if len(together) == 1:
            together[0].error = error
            return
        for waiting in together:
            take_all([waiting])


def _take_all_or_ask_again(together: Sequence[Waiting]) -> None:
    """Take for all. If the connection is lost, send the statement again with the same keys.

    Nobody knows then whether the first one was committed. If it was, or is just being committed,
    its primary keys exist, and the answer comes from them.
    """
    for attempt, pause in enumerate(PAUSES):
        time.sleep(pause)
        try:
            return _take_all_once(together, again=attempt > 0)
        except IntegrityError as error:
            if constraint_name(error) == PRIMARY_KEY:
                _find_granted(together)
                return
            if constraint_name(error) == KEY_ONCE:
                return  # looking tells which of them it is
            raise
        except (OperationalError, InterfaceError) as error:
            if not is_lost(error):
                raise
            connection().close()
            lost = error
    raise lost


def is_lost(error: Exception) -> bool:
    """Whether the connection was lost, and not a statement rejected by the server.

    A test of the connection wouldn't tell: Django connects anew after a failed COMMIT.
    """
    code = sqlstate(error)
    return code is None or code.startswith((CONNECTION_EXCEPTION, SHUTTING_DOWN))


def _take_all_once(together: Sequence[Waiting], *, again: bool) -> None:
    """Send the statement; ``again`` after an answer was lost."""
    if not any(waiting.request.max_per_buyer for waiting in together):
        granted = _send(together)
    else:
        with atomic():
            # Other requests of these buyers wait here, in every process and strategy.
            queue_buyers(together[0].request.product_id, [w.request.buyer for w in together])
            if again and _find_granted(together):
                return  # their own units of the first sending must not count against them
            together = _within_limits(together)
            granted = _send(together) if together else None
    for waiting in together:
        waiting.granted = granted
    if granted is None and again:
        # The missing units may be those that they got already.
        _find_granted(together)


def _within_limits(together: Sequence[Waiting]) -> list[Waiting]:
    """The requests that can be served together within ``max_per_buyer``.

    Refuse buyers who are over the limit already. A buyer who is over it only together with
    another request of the same batch waits for the outcome of that one.
    """
    product_id = together[0].request.product_id
    have = units_of_buyers(product_id, {waiting.request.buyer for waiting in together})
    would_have = dict(have)
    within = []
    for waiting in together:
        request = waiting.request
        already = have.get(request.buyer, 0)
        then = would_have.get(request.buyer, 0) + request.quantity
        if request.max_per_buyer is None or then <= request.max_per_buyer:
            would_have[request.buyer] = then
            within.append(waiting)
        elif already + request.quantity > request.max_per_buyer:
            waiting.error = BuyerLimitExceeded(request.sku, request.max_per_buyer, already)
    return within


def _send(together: Sequence[Waiting]) -> tuple[Decimal, datetime] | None:
    """Take for all; return the price and the time, or None if the stock is too small for all."""
    requests = [waiting.request for waiting in together]
    with connection().cursor() as cursor:
        cursor.execute(
            TAKE_ALL,
            {
                "product_id": requests[0].product_id,
                "strategy": Combined.slug,
                "total": sum(request.quantity for request in requests),
                "ids": [request.reservation_id for request in requests],
                "quantities": [request.quantity for request in requests],
                "buyers": [request.buyer for request in requests],
                "seconds": [request.hold_for.total_seconds() for request in requests],
                "keys": [request.idempotency_key for request in requests],
            },
        )
        row: tuple[Decimal, datetime] | None = cursor.fetchone()
    signals.report_batch(len(requests))
    return row


def _find_granted(together: Sequence[Waiting]) -> bool:
    """Answer with the reservations that an earlier sending committed, if it did."""
    ids = [waiting.request.reservation_id for waiting in together]
    rows = Reservation.objects.filter(pk__in=ids).values_list("pk", "unit_price", "created_at")
    granted = {pk: (price, at) for pk, price, at in rows}
    for waiting in together:
        waiting.granted = granted.get(waiting.request.reservation_id)
    return bool(granted)


def _copy(error: Exception) -> Exception:
    """A copy of the error for another thread: two threads would share its traceback."""
    if not isinstance(error, DatabaseError | InterfaceError):
        copy: Exception = RuntimeError(f"The purchase failed: {type(error).__name__}: {error}")
        copy.__cause__ = error
        return copy
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__  # PostgreSQL's code of the error
    return copy
