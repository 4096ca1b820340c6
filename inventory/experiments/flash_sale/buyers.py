"""Buyers with processes, threads and connections of their own, all let go at one instant."""

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
    """The sale could not be run; the message says why."""


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
    """What became of one buyer."""

    buyer: Buyer
    ending: Ending
    latency: float | None = None
    """Seconds that ``reserve`` took; None where it isn't known."""
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
        served: Callable[[int], object] = lambda number: None,
    ) -> list[Outcome]:
        """Let ``buyers`` buy ``product`` with ``threads`` threads per process; tell how it went.

        ``payment`` is in seconds; ``served`` is called with the number of buyers served since
        the last call. The buyers of a process that dies have failed. Raises FlashSaleError if
        the processes can't get ready.
        """
        number = len(self._processes)
        shares = [buyers[place::number] for place in range(number)]
        jobs = [
            Purchases(product.pk, strategy, min(threads, len(share)), payment, share)
            for share in shares
        ]
        outcomes: dict[int, Outcome] = {}

        def received(job: Job, reported: list[Outcome]) -> None:
            outcomes.update((outcome.buyer.number, outcome) for outcome in reported)
            served(len(reported))

        def died(job: Job, how: str) -> None:
            assert isinstance(job, Purchases)
            error = f"the buyer's process ended ({how})"
            missing = [buyer for buyer in job.buyers if buyer.number not in outcomes]
            received(job, [Outcome(buyer, Ending.FAILED, error=error) for buyer in missing])

        try:
            self._processes.run(jobs, received=received, died=died)
        except NotReady as error:
            raise FlashSaleError(str(error)) from error
        return [outcomes[number] for number in sorted(outcomes)]


@contextmanager
def buyer_processes(number: int, application_name: str) -> Iterator[BuyerProcesses]:
    """``number`` processes that buy, for the length of the block."""
    with processes(number, application_name) as started:
        yield BuyerProcesses(started)


@dataclass
class Purchases(Job):
    """What a process does in one sale."""

    who = "buyers"

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
        """Serve one buyer of the process after the other, beside the other threads."""
        while True:
            try:
                buyer = self.queue.popleft()
            except IndexError:
                return
            self.outcomes.append(self._buy(buyer, start))

    def reports(self) -> Iterator[list[Outcome]]:
        """The outcomes that there are by now; the threads add to them meanwhile."""
        if number := len(self.outcomes):
            yield [self.outcomes.popleft() for _ in range(number)]

    def _buy(self, buyer: Buyer, start: float) -> Outcome:
        """Reserve and confirm, with the payment where the strategy has it."""
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
                pay()  # the others have paid by now, between their check and their write
            confirm(hold.pk)
            ending = Ending.BOUGHT
        except InsufficientStock:
            latency = time.monotonic() - began
            ending = Ending.REFUSED
        except Exception as failure:  # whatever it is: this buyer has no answer, and it is told
            ending = Ending.FAILED
            error = f"{type(failure).__name__}: {failure}"
        return Outcome(buyer, ending, latency, time.monotonic() - start, error)
