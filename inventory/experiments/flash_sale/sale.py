"""A flash sale: an exhibit per strategy, many buyers at once, and the results."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from inventory import alerts, monitor, stock
from inventory.database import connection
from inventory.experiments.flash_sale.buyers import (
    Buyer,
    BuyerProcesses,
    Ending,
    Outcome,
    buyer_processes,
)
from inventory.experiments.latencies import percentile_ms
from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.experiments.parameters import InvalidParameters, check_within, chosen_strategies
from inventory.models import Product
from inventory.strategies import Strategy
from inventory.words import counted

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

MOST_BUYERS = 100_000
MOST_UNITS = 1_000_000
MOST_PROCESSES = 64
MOST_ROUNDS = 1_000
MOST_PAYMENT_MS = 60_000
CONNECTIONS_FOR_OTHERS = 3  # connections of the server that a sale leaves free
SECONDS_FOR_KILLED_BUYERS = 60  # for PostgreSQL to end the statements of killed processes


@dataclass(frozen=True)
class Parameters:
    """The parameters of a flash sale. By default, fifteen buyers want ten laptops.

    Raises InvalidParameters, UnknownStrategy.
    """

    strategies: Sequence[str] = ()
    """Slugs of strategies; if empty, all."""
    stock: int = 10
    """Units on sale."""
    buyers: int = 15
    quantity: tuple[int, int] = (1, 1)
    """The least and the greatest number of units that a buyer asks for."""
    processes: int = 2
    threads: int | None = None
    """Threads of each process. None: enough for all buyers at once, if the server has as many
    connections."""
    payment_ms: int = 50
    """Milliseconds that a payment takes."""
    rounds: int = 1
    backstop: bool = False
    """Whether PostgreSQL itself refuses to take the stock below zero."""

    def __post_init__(self) -> None:
        chosen_strategies(self.strategies)
        check_within("stock", self.stock, 1, MOST_UNITS)
        check_within("buyers", self.buyers, 1, MOST_BUYERS)
        check_within("processes", self.processes, 1, MOST_PROCESSES)
        check_within("payment-ms", self.payment_ms, 0, MOST_PAYMENT_MS)
        check_within("rounds", self.rounds, 1, MOST_ROUNDS)
        if self.threads is not None:
            check_within("threads", self.threads, 1, MOST_BUYERS)
        least, most = self.quantity
        check_within("quantity", least, 1, MOST_UNITS)
        check_within("quantity", most, 1, MOST_UNITS)
        if least > most:
            raise InvalidParameters(
                f"quantity: {least}-{most} is in the wrong order. Write the smaller number first."
            )

    def chosen_strategies(self) -> list[Strategy]:
        """The strategies in the order of their turns, each once."""
        return chosen_strategies(self.strategies)

    def threads_per_process(self) -> int:
        """The number of threads, and so of connections, of each process.

        Raises InvalidParameters if the server has fewer connections than were asked for.
        """
        free = free_connections()
        needed = math.ceil(self.buyers / self.processes)
        threads = self.threads or min(needed, max(1, free // self.processes))
        threads = min(threads, needed)
        if threads * self.processes > free:
            raise InvalidParameters(
                f"{counted(self.processes, 'process', 'processes')} × "
                f"{counted(threads, 'thread')} need "
                f"{threads * self.processes} connections, and the server has {free} to give. "
                "Ask for fewer, or raise its max_connections."
            )
        return threads

    def demand(self, round_: int) -> list[Buyer]:
        """The buyers of a round, with their quantities: the same for every strategy."""
        dice = random.Random(round_)
        return [Buyer(number, dice.randint(*self.quantity)) for number in range(self.buyers)]


Progress = Callable[[Strategy, int, int], object]
"""Called with the strategy, the round (from 1) and the number of buyers just served."""


def run(
    parameters: Parameters,
    *,
    started_by: AbstractBaseUser | None = None,
    progress: Progress = lambda strategy, round_, served: None,
) -> FlashSale:
    """Run the sale, each strategy in turn, round after round; return it with its results.

    Each strategy and round has its own product, an exhibit. If the sale is broken off, the results
    until then are stored, and ``finished_at`` stays empty.

    Raises InvalidParameters, FlashSaleError.
    """
    sale = plan(parameters, started_by=started_by)
    run_planned(sale, progress=progress)
    return sale


def plan(
    parameters: Parameters,
    *,
    started_by: AbstractBaseUser | None = None,
    idempotency_key: str | None = None,
) -> FlashSale:
    """Store the sale, for ``run_planned``, and return it.

    Raises InvalidParameters if the server has too few connections for the sale.
    """
    threads = parameters.threads_per_process()
    return FlashSale.objects.create(
        state=FlashSale.State.QUEUED,
        strategies=[strategy.slug for strategy in parameters.chosen_strategies()],
        stock=parameters.stock,
        buyers=parameters.buyers,
        quantity_min=parameters.quantity[0],
        quantity_max=parameters.quantity[1],
        processes=parameters.processes,
        threads=threads,
        payment_ms=parameters.payment_ms,
        rounds=parameters.rounds,
        backstop=parameters.backstop,
        started_by_id=started_by.pk if started_by else None,
        idempotency_key=idempotency_key,
    )


def run_planned(
    sale: FlashSale, *, progress: Progress = lambda strategy, round_, served: None
) -> None:
    """Run a sale that is queued. A second call does not run it again.

    If the sale is found running, its process was killed: the sale becomes broken off.

    Raises FlashSaleError.
    """
    row = FlashSale.objects.filter(pk=sale.pk)
    if row.filter(state=FlashSale.State.QUEUED).update(state=FlashSale.State.RUNNING):
        problem = "It was interrupted."
        try:
            _run_all(sale, _parameters(sale), progress)
            problem = ""
        except Exception as error:
            problem = str(error)[:300]
            raise
        finally:
            state = FlashSale.State.BROKEN_OFF if problem else FlashSale.State.FINISHED
            finished_at = None if problem else Now()
            row.update(state=state, problem=problem, finished_at=finished_at)
            sale.refresh_from_db()
    else:
        row.filter(state=FlashSale.State.RUNNING).update(
            state=FlashSale.State.BROKEN_OFF, problem="Its process was ended in the middle."
        )
        sale.refresh_from_db()


def _parameters(sale: FlashSale) -> Parameters:
    return Parameters(
        strategies=sale.strategies,
        stock=sale.stock,
        buyers=sale.buyers,
        quantity=(sale.quantity_min, sale.quantity_max),
        processes=sale.processes,
        threads=sale.threads,
        payment_ms=sale.payment_ms,
        rounds=sale.rounds,
        backstop=sale.backstop,
    )


def _run_all(sale: FlashSale, parameters: Parameters, progress: Progress) -> None:
    with buyer_processes(parameters.processes, f"flash sale {sale.pk}") as processes:
        for round_ in range(1, parameters.rounds + 1):
            for strategy in parameters.chosen_strategies():
                _run_turn(sale, parameters, strategy, round_, processes, progress)


def _run_turn(
    sale: FlashSale,
    parameters: Parameters,
    strategy: Strategy,
    round_: int,
    processes: BuyerProcesses,
    progress: Progress,
) -> FlashSaleResult:
    """Give a strategy its turn in a round, and store the result."""
    product = make_exhibit(sale, strategy, round_)
    outcomes = processes.buy(
        product,
        strategy.slug,
        parameters.demand(round_),
        threads=sale.threads,
        payment=parameters.payment_ms / 1000,
        on_served=lambda number: progress(strategy, round_, number),
    )
    _wait_for_killed_buyers(processes.application_name)
    alerts.refresh([product.pk])
    return record_result(sale, product, strategy, round_, outcomes)


def make_exhibit(sale: FlashSale, strategy: Strategy, round_: int) -> Product:
    """Make the product that the strategy sells in this round."""
    name = f"Flash sale {sale.pk}, {strategy.label}"
    product = Product.objects.create(
        sku=f"FLASH-{sale.pk}-{round_}-{strategy.slug}",
        slug=f"flash-sale-{sale.pk}-{round_}-{strategy.slug}",
        name=f"{name}, round {round_}" if sale.rounds > 1 else name,
        price=Decimal("999.00"),
        strategy=strategy.slug,
        backstop=sale.backstop,
        is_exhibit=True,
    )
    stock.receive(product, sale.stock, note=f"flash sale {sale.pk}")
    return product


def _wait_for_killed_buyers(application_name: str) -> None:
    """Wait until PostgreSQL has ended the statements of buyers whose process was killed.

    PostgreSQL finishes, and may commit, a statement whose sender is dead. Behind a pooler, this
    query may run on a connection that still has a buyer's name; so it leaves itself out.
    """
    deadline = time.monotonic() + SECONDS_FOR_KILLED_BUYERS
    with connection().cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND state <> 'idle'"
                " AND pid <> pg_backend_pid()",
                [application_name],
            )
            if cursor.fetchone() is None:
                return
            time.sleep(0.02)


def record_result(
    sale: FlashSale, product: Product, strategy: Strategy, round_: int, outcomes: Sequence[Outcome]
) -> FlashSaleResult:
    """Store the strategy's result. Its figures come from the database, not from the buyers."""
    from inventory.experiments.flash_sale.report import verdict

    state = monitor.state_of(product.pk)
    result = FlashSaleResult(
        flash_sale=sale,
        product=product,
        strategy=strategy.slug,
        safe=strategy.is_safe,
        round=round_,
        sold=state.sold,
        unrecorded=max(0, units_bought(outcomes) - state.sold),
        stock_left=state.available,
        oversold=state.oversold,
        drift=state.drift,
        **fields_from_outcomes(outcomes, left=state.available),
    )
    result.verdict = verdict(result, sale)
    result.save()
    return result


def units_bought(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.buyer.quantity for outcome in _with_ending(outcomes, Ending.BOUGHT))


def fields_from_outcomes(outcomes: Sequence[Outcome], *, left: int) -> dict[str, Any]:
    """The fields of a result that follow from the buyers' outcomes, with ``left`` units left."""
    refused, failed = _with_ending(outcomes, Ending.REFUSED), _with_ending(outcomes, Ending.FAILED)
    latencies = sorted(outcome.latency for outcome in outcomes if outcome.latency is not None)
    seconds = max((outcome.finished for outcome in outcomes), default=0.0)
    return {
        "refused": len(refused),
        "falsely_refused": _falsely_refused(refused, left),
        "failed": len(failed),
        "per_second": len(_with_ending(outcomes, Ending.BOUGHT)) / seconds if seconds else 0.0,
        "p50_ms": percentile_ms(latencies, 50),
        "p95_ms": percentile_ms(latencies, 95),
        "p99_ms": percentile_ms(latencies, 99),
        "first_error": failed[0].error[:300] if failed else "",
    }


def _with_ending(outcomes: Sequence[Outcome], ending: Ending) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.ending is ending]


def _falsely_refused(refused: list[Outcome], left: int) -> int:
    """The number of buyers who were refused though enough units were available all the time.

    No unit comes back during a sale, so the units left at the end were there all the time.
    """
    return sum(outcome.buyer.quantity <= left for outcome in refused)


def free_connections() -> int:
    """The number of connections that the server can still take, by its own figures."""
    with connection().cursor() as cursor:
        cursor.execute(
            """
            SELECT (SELECT sum(setting::int) FILTER (WHERE name = 'max_connections')
                    - coalesce(sum(setting::int) FILTER (WHERE name <> 'max_connections'), 0)
                    FROM pg_settings WHERE name IN ('max_connections',
                        'superuser_reserved_connections', 'reserved_connections'))
                - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
            """
        )
        [free] = cursor.fetchone()
    return max(0, int(free) - CONNECTIONS_FOR_OTHERS)
