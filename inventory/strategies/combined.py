"""The more buyers wait, the more are served by one statement.

Known as flat combining (Hendler, Incze, Shavit and Tzafrir, SPAA 2010), or as group commit where
databases do it. Per process and product one of the waiting buyers leads: it takes everybody who
waits, sends one statement for all, and hands over to the next one waiting. There is no timer:
who comes alone is served alone, and those who come meanwhile are the next batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from inventory.database import atomic, connection
from inventory.exceptions import BuyerLimitExceeded, InsufficientStock, TooMuchContention
from inventory.holds import HOLD_COLUMNS, Request, written_hold
from inventory.locking import queue_buyers
from inventory.models import KEY_ONCE, Reservation
from inventory.postgres_errors import CONNECTION_EXCEPTION, SHUTTING_DOWN, constraint_name, sqlstate
from inventory.snapshots import available_now, refusal_on, units_of_buyers
from inventory.strategies.base import Pay
from inventory.strategies.single_statement import SingleStatement

MOST_AT_ONCE = 128  # buyers in a batch: more gain little, and the first wait for the last
SECONDS_BETWEEN_LOOKS = 5.0  # of a follower, whether its leader's thread still lives
PAUSES = (0.0, 0.2, 1.0)  # seconds before a batch is sent again whose connection was lost
PRIMARY_KEY = "inventory_reservation_pkey"

# The whole batch, or nothing of it. Whether a key is there already is for the INSERT to find
# out: a subquery would look at the database as it was before the UPDATE waited for the row.
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
    """A buyer's request, and the thread that waits for its answer."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.thread = threading.current_thread()
        self.granted: tuple[Decimal, datetime] | None = None
        """The unit price, and the time of the hold."""
        self.error: Exception | None = None
        self._called = threading.Lock()
        self._called.acquire()

    @property
    def is_answered(self) -> bool:
        return self.granted is not None or self.error is not None

    def call(self) -> None:
        """Wake the thread: it has its answer, or it is its turn to lead."""
        self._called.release()

    def wait(self, seconds: float) -> bool:
        """Wait to be called, at most this long; tell whether it happened."""
        return self._called.acquire(timeout=seconds)

    def answer(self) -> Reservation:
        if self.granted is None:
            raise self.error or TooMuchContention("The answer was lost. Please try again.")
        price, at = self.granted
        return written_hold(self.request, price, at)


class Queue:
    """The buyers of this process who wait for the same product, and who leads them."""

    def __init__(self, leader: threading.Thread) -> None:
        self.leader = leader
        self.waiting: deque[Waiting] = deque()
        self.seems_sold_out = False
        """Whether nobody of the last batch was served. A guess: only a look refuses."""

    def take_batch(self) -> list[Waiting]:
        """Take out those who are served next, as they came.

        Of two requests with one key the second stays: it shall find what the first one did.
        """
        batch: list[Waiting] = []
        stay: list[Waiting] = []
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
        self._lock = threading.Lock()  # of what follows; never held while a statement runs
        self._queues: dict[int, Queue] = {}

    def _attempt(self, request: Request, pay: Pay) -> Reservation:
        if connection().in_atomic_block:
            # Others can't be served in this caller's transaction, nor this caller in theirs.
            return super()._attempt(request, pay)
        waiting = Waiting(request)
        if self._join(waiting):
            self._lead(request.product_id)
        return waiting.answer()

    def _join(self, waiting: Waiting) -> bool:
        """Stand in the queue until there is an answer, or until it is our turn to lead: True."""
        product_id = waiting.request.product_id
        with self._lock:
            queue = self._queues.get(product_id)
            if queue is None:
                queue = self._queues[product_id] = Queue(waiting.thread)
            queue.waiting.append(waiting)
            if queue.leader is waiting.thread:
                return True
        while not waiting.wait(SECONDS_BETWEEN_LOOKS):
            # A leader answers and hands over whatever happens to it, unless its thread was ended
            # without a word (or wasn't copied by a fork). Nobody shall wait for such a one.
            with self._lock:
                if not queue.leader.is_alive():
                    if waiting not in queue.waiting:
                        return False  # it took us with it: there is no answer
                    queue.leader = waiting.thread
                    return True
        return queue.leader is waiting.thread

    def _lead(self, product_id: int) -> None:
        """Serve those who wait, ourselves among them, and hand over."""
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
            self._hand_over(product_id, queue)  # last: some of those may stand in the queue again

    def _hand_over(self, product_id: int, queue: Queue) -> None:
        with self._lock:
            if not queue.waiting:
                del self._queues[product_id]
                return
            following = queue.waiting[0]
            queue.leader = following.thread
        following.call()


def serve(batch: Sequence[Waiting], *, look_first: bool = False) -> None:
    """Answer everybody: in one statement if all of them fit, else as far as the stock goes.

    ``look_first``: probably nobody fits, so don't try before having looked.
    """
    together = refuse_or_choose(batch) if look_first else batch
    while together:
        take_all(together)
        pending = [waiting for waiting in batch if not waiting.is_answered]
        if not pending:
            return
        together = refuse_or_choose(pending)


def refuse_or_choose(pending: Sequence[Waiting]) -> list[Waiting]:
    """Refuse whom this instant's stock refuses; return those, as they came, for whom it lasts.

    Who could only be served from lapsed holds is told so by the exception, and takes them back
    on a connection of its own (``reservations.reserve``).
    """
    requests = [waiting.request for waiting in pending]
    now = available_now(requests[0].product_id, [request.idempotency_key for request in requests])
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
    """Take for all of them, or for none: then nobody is answered, save who can't be served."""
    try:
        _take_all_or_ask_again(together)
    except (DataError, UnicodeError) as error:
        # What one of them asks for can't be written: no reason to let the others down.
        if len(together) == 1:
            together[0].error = error
            return
        for waiting in together:
            take_all([waiting])


def _take_all_or_ask_again(together: Sequence[Waiting]) -> None:
    """Where the connection is lost, nobody knows whether the statement was committed.

    It is sent again, with the same primary keys: if it was (or is only just being) committed,
    those keys are there, and the answer is theirs.
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
                return  # a look at what is there tells whose
            raise
        except (OperationalError, InterfaceError) as error:
            if not is_lost(error):
                raise
            connection().close()
            lost = error
    raise lost


def is_lost(error: Exception) -> bool:
    """Whether the connection was lost, rather than something refused by the server.

    Trying the connection wouldn't tell: Django connects anew after a COMMIT that failed.
    """
    code = sqlstate(error)
    return code is None or code.startswith((CONNECTION_EXCEPTION, SHUTTING_DOWN))


def _take_all_once(together: Sequence[Waiting], *, again: bool) -> None:
    """Send the statement; ``again`` after an answer was lost."""
    if not any(waiting.request.max_per_buyer for waiting in together):
        granted = _send(together)
    else:
        with atomic():
            # Other requests of these buyers wait here, whatever their process or strategy.
            queue_buyers(together[0].request.product_id, [w.request.buyer for w in together])
            if again and _find_granted(together):
                return  # what they got must not count against them
            together = _within_limits(together)
            granted = _send(together) if together else None
    for waiting in together:
        waiting.granted = granted
    if granted is None and again:
        # What is missing now may be what they have got already.
        _find_granted(together)


def _within_limits(together: Sequence[Waiting]) -> list[Waiting]:
    """Those who can be served together without exceeding ``max_per_buyer``.

    Whom the buyer's other units exceed is refused. Whom only a request of the same batch exceeds
    waits for what becomes of that one.
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
    """Take for all; return the price and the time, or None where there isn't enough for all."""
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
        return row


def _find_granted(together: Sequence[Waiting]) -> bool:
    """Answer with what an earlier sending of the same statement has committed, if it has."""
    ids = [waiting.request.reservation_id for waiting in together]
    rows = Reservation.objects.filter(pk__in=ids).values_list("pk", "unit_price", "created_at")
    granted = {pk: (price, at) for pk, price, at in rows}
    for waiting in together:
        waiting.granted = granted.get(waiting.request.reservation_id)
    return bool(granted)


def _copy(error: Exception) -> Exception:
    """The same error, to be raised in another thread: its traceback would be written by both."""
    if not isinstance(error, DatabaseError | InterfaceError):
        copy: Exception = RuntimeError(f"The purchase failed: {type(error).__name__}: {error}")
        copy.__cause__ = error
        return copy
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__  # PostgreSQL's code of the error
    return copy
