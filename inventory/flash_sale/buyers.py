"""Buyers with processes, threads and connections of their own, all let go at one instant.

The parent starts the processes (``BuyerProcesses``) and sends each its share of the buyers. Each
process gives every thread a connection, says that it is ready, and waits for the instant at
which all start: one point on the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from django.conf import settings
from django.db import connection

from inventory import strategies
from inventory.exceptions import InsufficientStock, InventoryError
from inventory.flash_sale import process
from inventory.models import Product
from inventory.reservations import confirm, reserve

SECONDS_TO_GET_READY = 60
SECONDS_TO_THE_START = 0.05  # long enough for the message to reach every process
SECONDS_BETWEEN_REPORTS = 0.05
HOLD_FOR = timedelta(hours=1)  # no hold lapses during a sale


class FlashSaleError(InventoryError):
    """The sale could not be held; the message says why."""


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


@dataclass(frozen=True)
class Job:
    """What a process does in one sale."""

    product_id: int
    strategy: str
    threads: int
    payment: float
    """Seconds that a payment takes."""
    buyers: list[Buyer]


@dataclass(frozen=True)
class Ready:
    """All threads of the process have a connection; or it could not get ready for this reason."""

    problem: str = ""


# In the parent


class BuyerProcesses:
    """Processes that buy; those that died are replaced before the next sale."""

    def __init__(self, number: int, application_name: str) -> None:
        self.application_name = application_name
        self._processes = [self._start() for _ in range(number)]

    def close(self) -> None:
        for each in self._processes:
            each.end()

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
        self._processes = [each if each.is_alive() else self._start() for each in self._processes]
        shares: dict[Connection, list[Buyer]] = {}
        for place, each in enumerate(self._processes):
            share = buyers[place :: len(self._processes)]
            each.pipe.send(Job(product.pk, strategy, min(threads, len(share)), payment, share))
            shares[each.pipe] = share
        self._wait_until_ready()
        start = time.monotonic() + SECONDS_TO_THE_START
        for each in self._processes:
            each.send(start)
        return self._collect(shares, served)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_GET_READY
        for each in self._processes:
            if not each.pipe.poll(max(0.0, deadline - time.monotonic())):
                raise FlashSaleError(
                    f"The buyers were not ready within {SECONDS_TO_GET_READY} seconds. "
                    "Try fewer of them."
                )
            try:
                ready = each.pipe.recv()
            except EOFError:
                raise FlashSaleError(f"A buyer process ended: {each.how_it_ended()}.") from None
            if ready.problem:
                raise FlashSaleError(f"The buyers can't connect: {ready.problem}")

    def _collect(
        self, shares: dict[Connection, list[Buyer]], served: Callable[[int], object]
    ) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        running = {each.pipe: each for each in self._processes}
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                try:
                    reported: list[Outcome] | None = pipe.recv()
                except (EOFError, ConnectionResetError):
                    error = f"the buyer's process ended ({running.pop(pipe).how_it_ended()})"
                    reported = [
                        Outcome(buyer, Ending.FAILED, error=error)
                        for buyer in shares[pipe]
                        if buyer.number not in outcomes
                    ]
                if reported is None:
                    del running[pipe]
                else:
                    outcomes.update((outcome.buyer.number, outcome) for outcome in reported)
                    served(len(reported))
        return [outcomes[number] for number in sorted(outcomes)]

    def _start(self) -> BuyerProcess:
        return BuyerProcess(self.application_name)


class BuyerProcess:
    """One process of buyers, seen from its parent."""

    def __init__(self, application_name: str) -> None:
        context = multiprocessing.get_context("spawn")  # no connection is shared by a fork
        self.pipe, theirs = context.Pipe()
        arguments = (
            os.environ.get("DJANGO_SETTINGS_MODULE") or settings.SETTINGS_MODULE,
            connection.settings_dict["NAME"],
            application_name,
            theirs,
        )
        self.process: SpawnProcess = context.Process(
            target=process.main, args=arguments, daemon=True
        )
        self.process.start()
        theirs.close()

    def is_alive(self) -> bool:
        if self.process.is_alive():
            return True
        self.end()
        return False

    def send(self, start: float) -> None:
        """Send the instant of the start; a process that died meanwhile shows when it is read."""
        with suppress(BrokenPipeError):
            self.pipe.send(start)

    def how_it_ended(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def buyer_processes(number: int, application_name: str) -> Iterator[BuyerProcesses]:
    """``number`` processes that buy, for the length of the block."""
    processes = BuyerProcesses(number, application_name)
    try:
        yield processes
    finally:
        processes.close()


# In a buyer process


def serve(parent: Connection) -> None:
    """Do the parent's jobs until it hangs up."""
    try:
        while True:
            _hold_sale(parent, parent.recv())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # whatever the threads are doing: nobody wants to know any more


def _hold_sale(parent: Connection, job: Job) -> None:
    """Get every thread a connection, wait for the start, and report outcomes as they come."""
    starting = threading.Barrier(job.threads + 1)
    problems: list[str] = []
    outcomes: deque[Outcome] = deque()
    started = threading.Event()
    start = 0.0

    def connect_and_buy() -> None:
        try:
            connection.ensure_connection()
        except Exception as error:
            problems.append(str(error))
        try:
            starting.wait()
            started.wait()
            if not problems:
                _buy_in_turn(queue, product, job, start, outcomes)
        finally:
            connection.close()

    product = Product.objects.get(pk=job.product_id)
    connection.close()
    queue = deque(job.buyers)
    threads = [threading.Thread(target=connect_and_buy, daemon=True) for _ in range(job.threads)]
    for thread in threads:
        thread.start()
    starting.wait()
    parent.send(Ready("; ".join(sorted(set(problems)))))
    start = parent.recv()
    started.set()
    for thread in threads:
        while thread.is_alive():
            thread.join(SECONDS_BETWEEN_REPORTS)
            _report(parent, outcomes)
    _report(parent, outcomes)
    parent.send(None)


def _report(parent: Connection, outcomes: deque[Outcome]) -> None:
    """Send what there is by now; the threads add to it meanwhile."""
    if number := len(outcomes):
        parent.send([outcomes.popleft() for _ in range(number)])


def _buy_in_turn(
    queue: deque[Buyer], product: Product, job: Job, start: float, outcomes: deque[Outcome]
) -> None:
    """Serve one buyer of the process after the other, beside the other threads."""
    time.sleep(max(0.0, start - time.monotonic()))
    while True:
        try:
            buyer = queue.popleft()
        except IndexError:
            return
        outcomes.append(_buy(buyer, product, job, start))


def _buy(buyer: Buyer, product: Product, job: Job, start: float) -> Outcome:
    """Reserve and confirm, with the payment where the strategy has it."""
    strategy = strategies.get(job.strategy)
    pay = partial(time.sleep, job.payment)
    latency: float | None = None
    error = ""
    began = time.monotonic()
    try:
        hold = reserve(
            product,
            buyer.quantity,
            buyer=f"flash sale {product.pk} buyer {buyer.number}",
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
    except Exception as failure:  # whatever it is: this buyer has no answer, and it is reported
        ending = Ending.FAILED
        error = f"{type(failure).__name__}: {failure}"
    return Outcome(buyer, ending, latency, time.monotonic() - start, error)
