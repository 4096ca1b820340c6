"""A flash sale over HTTP, on a scratch database: served, bought empty, judged, and dropped."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from django.conf import settings

from inventory.experiments.flash_sale.buyers import FlashSaleError
from inventory.experiments.flash_sale.sale import free_connections, make_exhibit, record_result
from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.experiments.parameters import InvalidParameters, check_within, chosen_strategies
from inventory.models import Product
from inventory.races.errors import Misuse
from inventory.races.scratch import scratch_database
from inventory.strategies import Strategy
from inventory.words import counted
from shop.fast_lane.lane import THREADS_TO_LOOK, THREADS_TO_RESERVE
from shop.load_tests.http_flash_sale import buyers
from shop.load_tests.serving import NotServed, ServedShop

MOST_UNITS = 1_000_000
MOST_BUYERS = 5_000
MOST_WORKERS = 64
MOST_THREADS = 1_000
MOST_THINK = 60  # seconds
CONNECTION_OF_OURS = 1

Tell = Callable[[str, int], object]
"""A function that is called with the strategy and the number of buyers just served."""


@dataclass(frozen=True)
class Crowd:
    """The buyers who come. Raises InvalidParameters."""

    buyers: int = 500
    think: float = 0.3
    """Seconds before each click, on average."""

    def __post_init__(self) -> None:
        check_within("buyers", self.buyers, 1, MOST_BUYERS)
        check_within("think", self.think, 0, MOST_THINK)


@dataclass(frozen=True)
class Parameters:
    """The parameters of a sale. Raises InvalidParameters, UnknownStrategy."""

    crowd: Crowd = Crowd()
    strategies: Sequence[str] = ()
    """Slugs; if empty, all strategies."""
    stock: int = 50
    workers: int = 2
    """Processes of gunicorn."""
    threads: int = 8
    """In each of them, each with a connection to the database. The fast lane has more."""

    def __post_init__(self) -> None:
        chosen_strategies(self.strategies)
        check_within("stock", self.stock, 1, MOST_UNITS)
        check_within("workers", self.workers, 1, MOST_WORKERS)
        check_within("threads", self.threads, 1, MOST_THREADS)

    @property
    def has_lane(self) -> bool:
        """Whether the fast lane answers before Django (FAST_LANE)."""
        on: bool = settings.FAST_LANE
        return on

    @property
    def connections(self) -> int:
        """The most connections to the database that the shop may need."""
        of_lane = THREADS_TO_RESERVE + THREADS_TO_LOOK if self.has_lane else 0
        return self.workers * (self.threads + of_lane)

    def chosen_strategies(self) -> list[Strategy]:
        """The strategies in the order of their turns, each once."""
        return chosen_strategies(self.strategies)


def run(
    parameters: Parameters, log: IO[bytes], *, tell: Tell = lambda strategy, served: None
) -> Generator[FlashSaleResult, None, None]:
    """Run the sale, each strategy in turn with a product of its own; yield the result of each.

    The database is a new one on the same server, and the shop that is served on it sends no
    e-mails: the project's own shop isn't touched. The log goes to the file ``log``.

    Raises InvalidParameters, FlashSaleError.
    """
    _check_connections(parameters)
    try:
        with scratch_database(), _served(parameters, log) as shop:
            sale = _plan(parameters)
            for strategy in parameters.chosen_strategies():
                yield _run_turn(sale, parameters.crowd, strategy, shop, tell)
    except (Misuse, NotServed) as error:
        raise FlashSaleError(str(error)) from error


def _check_connections(parameters: Parameters) -> None:
    needed = parameters.connections + CONNECTION_OF_OURS
    if needed > (free := free_connections()):
        raise InvalidParameters(
            f"{counted(parameters.workers, 'worker')} × {counted(parameters.threads, 'thread')}"
            f"{' and the fast lane' if parameters.has_lane else ''} "
            f"need {needed} connections, and the server has {free} to give. Ask for fewer, or "
            "raise its max_connections."
        )


@contextmanager
def _served(parameters: Parameters, log: IO[bytes]) -> Iterator[ServedShop]:
    """Serve the shop on the scratch database, as a demo without limits, while the block runs."""
    shop = ServedShop(
        {
            "WEB_CONCURRENCY": str(parameters.workers),
            "WEB_THREADS": str(parameters.threads),
            "DEMO": "true",
            "PAYMENT_PROVIDER": "demo",
            "HTTPS": "false",
            "ALLOWED_HOSTS": "127.0.0.1",
            "HOLD_MINUTES": "60",  # no hold lapses during a sale
            "EMAIL_URL": "dummymail://",
        },
        log=log,
    )
    try:
        shop.start_web()
        yield shop
    finally:
        shop.stop()


def _plan(parameters: Parameters) -> FlashSale:
    return FlashSale.objects.create(
        state=FlashSale.State.RUNNING,
        strategies=[strategy.slug for strategy in parameters.chosen_strategies()],
        stock=parameters.stock,
        buyers=parameters.crowd.buyers,
        quantity_min=1,
        quantity_max=1,
        processes=parameters.workers,
        threads=parameters.threads,
        payment_ms=0,
    )


def _run_turn(
    sale: FlashSale, crowd: Crowd, strategy: Strategy, shop: ServedShop, tell: Tell
) -> FlashSaleResult:
    """Run the turn of one strategy."""
    product = make_exhibit(sale, strategy, 1)
    Product.objects.filter(pk=product.pk).update(is_exhibit=False)  # customers see no exhibits
    outcomes = buyers.send(
        shop.url,
        product.slug,
        crowd.buyers,
        think=crowd.think,
        served=lambda number: tell(strategy.slug, number),
    )
    return record_result(sale, product, strategy, 1, outcomes)
