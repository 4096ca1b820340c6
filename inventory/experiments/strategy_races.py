"""Strategies under the race explorer: buyers after the last units, in every order.

Each buyer has an instance of the strategy of its own, as if in a process of its own. The
backstop is off: it is the strategy that must be right.
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
from inventory.models import Product, Reservation
from inventory.races import Result, Run, explore, story
from inventory.strategies import Strategy

SKU = "RACE"
READ_COMMITTED = "read committed"


@dataclass(frozen=True)
class StrategyRace:
    """A strategy with this many buyers, explored."""

    strategy: Strategy
    buyers: int
    stock: int
    result: Result = field(repr=False)

    @property
    def breaks_promise(self) -> bool:
        """A strategy that calls itself safe, and isn't."""
        return self.strategy.is_safe and bool(self.result.broken)

    @property
    def anomalies(self) -> list[str]:
        """What went wrong in broken schedules, the most frequent first."""
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
    seed: int = 0,
    reduce: bool = False,
    watch: Callable[[StrategyRace], object] = lambda race: None,
) -> StrategyRace:
    """Let ``buyers`` take a unit each of ``units`` in stock, in every order of their statements.

    ``strategy`` is a slug, or what makes an instance. ``watch`` gets the race before its first
    schedule. The rest is as in ``races.explore``. Writes to the current database, to a product of
    its own (SKU “RACE”).

    Raises UnknownStrategy.
    """
    create = partial(strategies.create, strategy) if isinstance(strategy, str) else strategy
    exemplar = create()
    product = the_product(units)
    names = [chr(ord("A") + number) for number in range(buyers)]
    result = explore(
        {name: partial(buy, create, product, name) for name in names},
        setup=partial(put_back, product, units),
        invariant=partial(sold_right, product, buyers, units, isolation),
        describe=lambda: monitor.state_of(product.pk).as_equation(),
        max_preemptions=max_preemptions,
        isolation=isolation,
        budget=budget,
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


def the_product(units: int) -> Product:
    """The product that is raced for, with ``units`` received."""
    values = {"slug": "race", "name": "Race", "price": Decimal("1.00"), "backstop": False}
    product, _ = Product.objects.get_or_create(sku=SKU, defaults=values)
    missing = units - product.units_received
    if missing > 0:
        stock.receive(product, missing)
    elif missing < 0:
        put_back(product, product.units_received)
        stock.remove(product, -missing, reason=stock.Reason.OTHER)
    return product


def put_back(product: Product, units: int) -> None:
    """All as it was before the race."""
    Reservation.objects.filter(product=product).delete()
    Product.objects.filter(pk=product.pk).update(stock=units, version=1)


def sold_right(product: Product, buyers: int, units: int, isolation: str | None, run: Run) -> None:
    """The law, and no false “sold out”: who could be served was served, the others were told."""
    state = monitor.state_of(product.pk)
    assert state.keeps_law, state.as_equation()
    refused = [e for e in run.raised.values() if isinstance(e, InsufficientStock)]
    failed = [e for e in run.raised.values() if not isinstance(e, InsufficientStock)]
    if failed and isolation not in (None, READ_COMMITTED):
        # Above READ COMMITTED whoever doesn't try again may be refused for the others' sake.
        failed = [e for e in failed if not isinstance(e, OperationalError)]
    assert not failed, f"a buyer got {type(failed[0]).__name__}: {failed[0]}"
    expected = max(0, buyers - units)
    assert len(refused) <= expected, (
        f"{len(refused)} buyers were told “sold out”, {expected} should have been"
    )
