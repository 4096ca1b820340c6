"""Buyers in processes and threads with their own connections, who all start at one instant."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import partial

from inventory import strategies
from inventory.database import connection
from inventory.exceptions import InsufficientStock, InventoryError
from inventory.experiments.load import Job, NotReady, Processes, processes
from inventory.models import Product
from inventory.reservations import confirm, reserve

HOLD_FOR = timedelta(hours=1)  # no hold lapses during a sale


class FlashSaleError(InventoryError):
    """The sale could not run. The message says why."""


class Ending(Enum):
    """How a buyer's request ended."""

    BOUGHT = "bought"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Buyer:
    number: int
    quantity: int
    """Units that the buyer asks for."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one buyer's request."""

    buyer: Buyer
    ending: Ending
    latency: float | None = None
    """Seconds that ``reserve`` took; None if unknown."""
    finished: float = 0.0
    """Seconds from the start of the sale to the end of this purchase."""
    error: str = ""


class BuyerProcesses:
    """Processes that buy."""

    def __init__(self, started: Processes) -> None:
        self._processes = started
        self.application_name = started.application_name

    def buy(
        self,
        product: Product,
        strategy: str,
        buyers: list[Buyer],
        *,
        threads: int,
        payment: float,
        on_served: Callable[[int], object] = lambda number: None,
    ) -> list[Outcome]:
        """Let ``buyers`` buy ``product`` with ``threads`` threads per process; return the outcomes.

        ``payment`` is in seconds. ``on_served`` gets the number of buyers served since its last
        call. If a process dies, its remaining buyers have failed. Raises FlashSaleError if the
        processes can't get ready.
        """
        number = len(self._processes)
        shares = [buyers[index::number] for index in range(number)]
        jobs = [
            PurchaseJob(product.pk, strategy, min(threads, len(share)), payment, share)
            for share in shares
        ]
        outcomes: dict[int, Outcome] = {}

        def on_report(job: Job, reported: list[Outcome]) -> None:
            outcomes.update((outcome.buyer.number, outcome) for outcome in reported)
            on_served(len(reported))

        def on_death(job: Job, how: str) -> None:
            assert isinstance(job, PurchaseJob)
            error = f"the buyer's process ended ({how})"
            missing = [buyer for buyer in job.buyers if buyer.number not in outcomes]
            on_report(job, [Outcome(buyer, Ending.FAILED, error=error) for buyer in missing])

        try:
            self._processes.run(jobs, on_report=on_report, on_death=on_death)
        except NotReady as error:
            raise FlashSaleError(str(error)) from error
        return [outcomes[number] for number in sorted(outcomes)]


@contextmanager
def buyer_processes(number: int, application_name: str) -> Iterator[BuyerProcesses]:
    """Start ``number`` processes that buy, for the length of the block."""
    with processes(number, application_name) as started:
        yield BuyerProcesses(started)


@dataclass
class PurchaseJob(Job):
    """The job of a process in one sale."""

    thread_noun = "buyers"

    product_id: int
    strategy: str
    threads: int
    payment: float
    """Seconds that a payment takes."""
    buyers: list[Buyer]
    outcomes: deque[Outcome] = field(default_factory=deque)

    def prepare(self) -> None:
        self.product = Product.objects.get(pk=self.product_id)
        connection().close()
        self.queue = deque(self.buyers)

    def work(self, start: float) -> None:
        """Take buyers off the process's queue and serve them, as all its threads do."""
        while True:
            try:
                buyer = self.queue.popleft()
            except IndexError:
                return
            self.outcomes.append(self._buy(buyer, start))

    def reports(self) -> Iterator[list[Outcome]]:
        """Hand out the outcomes so far; the threads may add more at the same time."""
        if number := len(self.outcomes):
            yield [self.outcomes.popleft() for _ in range(number)]

    def _buy(self, buyer: Buyer, start: float) -> Outcome:
        """Reserve, pay and confirm. Unsafe strategies pay within ``reserve``."""
        strategy = strategies.get(self.strategy)
        pay = partial(time.sleep, self.payment)
        latency: float | None = None
        error = ""
        began = time.monotonic()
        try:
            hold = reserve(
                self.product,
                buyer.quantity,
                buyer=f"flash sale {self.product_id} buyer {buyer.number}",
                hold_for=HOLD_FOR,
                strategy=strategy,
                pay=pay,
            )
            latency = time.monotonic() - began
            if strategy.is_safe:
                pay()  # unsafe strategies have paid already, between their check and their write
            confirm(hold.pk)
            ending = Ending.BOUGHT
        except InsufficientStock:
            latency = time.monotonic() - began
            ending = Ending.REFUSED
        except Exception as failure:  # any error is an answer that this buyer didn't get
            ending = Ending.FAILED
            error = f"{type(failure).__name__}: {failure}"
        return Outcome(buyer, ending, latency, time.monotonic() - start, error)
