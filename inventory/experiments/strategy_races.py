"""Buyers who race for the last units, in every order of their statements, with each strategy.

Each buyer has its own instance of the strategy, as if in a process of its own. The backstop is
off, so that the strategy alone must keep the law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import OperationalError

from inventory import monitor, stock, strategies
from inventory.database import alias
from inventory.exceptions import InsufficientStock
from inventory.holds import Request
from inventory.models import Product, Reservation, StockAlert
from inventory.races import Result, Run, explore, story
from inventory.strategies import Strategy

SKU = "RACE"
READ_COMMITTED = "read committed"


@dataclass(frozen=True)
class StrategyRace:
    """The result of a strategy with this number of buyers."""

    strategy: Strategy
    buyers: int
    stock: int
    result: Result = field(repr=False)

    @property
    def breaks_promise(self) -> bool:
        """Whether the strategy calls itself safe, and isn't."""
        return self.strategy.is_safe and bool(self.result.broken)

    @property
    def anomalies(self) -> list[str]:
        """The anomalies in broken schedules, the most frequent first."""
        counts: dict[str, int] = {}
        for run in self.result.broken:
            for name in story.anomalies(run)[:1]:
                counts[name] = counts.get(name, 0) + 1
        return sorted(counts, key=lambda name: -counts[name])

    def as_dict(self) -> dict[str, Any]:
        found = self.result.as_dict()
        return {
            "strategy": self.strategy.slug,
            "safe": self.strategy.is_safe,
            "buyers": self.buyers,
            "stock": self.stock,
            **found,
            "anomalies": self.anomalies,
        }


def race(
    strategy: str | Callable[[], Strategy],
    *,
    buyers: int = 2,
    units: int = 1,
    max_preemptions: int | None = None,
    isolation: str | None = None,
    budget: int = 5000,
    samples: int = 200,
    seed: int = 0,
    reduce: bool = False,
    watch: Callable[[StrategyRace], object] = lambda race: None,
) -> StrategyRace:
    """Let ``buyers`` take a unit each of ``units`` in stock, in every order of their statements.

    ``strategy`` is a slug, or a function that makes an instance. ``watch`` gets the race before its
    first schedule. The other parameters are those of ``races.explore``. Writes to the current
    database, to a product with the SKU “RACE”.

    Raises UnknownStrategy.
    """
    create = partial(strategies.create, strategy) if isinstance(strategy, str) else strategy
    exemplar = create()
    product = race_product(units)
    names = [chr(ord("A") + number) for number in range(buyers)]
    result = explore(
        {name: partial(buy, create, product, name) for name in names},
        setup=partial(reset_product, product, units),
        invariant=partial(check_sale, product, buyers, units, isolation),
        describe=lambda: monitor.state_of(product.pk).as_equation(),
        max_preemptions=max_preemptions,
        isolation=isolation,
        budget=budget,
        samples=samples,
        seed=seed,
        reduce=reduce,
        using=alias(),
        watch=lambda result: watch(StrategyRace(exemplar, buyers, units, result)),
    )
    return StrategyRace(exemplar, buyers, units, result)


def buy(create: Callable[[], Strategy], product: Product, buyer: str) -> Reservation:
    strategy = create()
    return strategy.take(
        Request(
            product_id=product.pk,
            sku=product.sku,
            quantity=1,
            buyer=buyer,
            hold_for=timedelta(hours=1),
            strategy=strategy.slug,
        )
    )


def race_product(units: int) -> Product:
    """The product of the race, with ``units`` received."""
    values = {"slug": "race", "name": "Race", "price": Decimal("1.00"), "backstop": False}
    product, _ = Product.objects.get_or_create(sku=SKU, defaults=values)
    missing = units - product.units_received
    if missing > 0:
        stock.receive(product, missing)
    elif missing < 0:
        reset_product(product, product.units_received)
        stock.remove(product, -missing, reason=stock.Reason.OTHER)
    return product


def reset_product(product: Product, units: int) -> None:
    """Set the product to its state before the race."""
    StockAlert.objects.filter(product=product).delete()  # a schedule that oversells records one
    Reservation.objects.filter(product=product).delete()
    Product.objects.filter(pk=product.pk).update(stock=units, version=1)


def check_sale(product: Product, buyers: int, units: int, isolation: str | None, run: Run) -> None:
    """Assert the law, and that only buyers for whom no unit was left were refused."""
    state = monitor.state_of(product.pk)
    assert state.keeps_law, state.as_equation()
    refused = [e for e in run.raised.values() if isinstance(e, InsufficientStock)]
    failed = [e for e in run.raised.values() if not isinstance(e, InsufficientStock)]
    if failed and isolation not in (None, READ_COMMITTED):
        # Above READ COMMITTED, PostgreSQL may abort a transaction that has to be tried again.
        failed = [e for e in failed if not isinstance(e, OperationalError)]
    assert not failed, f"a buyer got {type(failed[0]).__name__}: {failed[0]}"
    expected = max(0, buyers - units)
    assert len(refused) <= expected, (
        f"{len(refused)} buyers were refused, {expected} should have been"
    )
