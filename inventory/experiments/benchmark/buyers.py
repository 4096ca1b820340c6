"""Buyers who do the same thing over and over, and how long each time took.

Closed loop: each comes again as soon as served. Open loop: they come at instants planned
beforehand, and a latency counts from the planned instant, so that whoever has to wait until
somebody is free to serve them is not left out ("coordinated omission").
"""

from __future__ import annotations

import random
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count

from inventory.database import connection
from inventory.exceptions import InsufficientStock
from inventory.experiments.benchmark.rows import Row
from inventory.experiments.latencies import percentile_ms
from inventory.experiments.load import Job, Processes
from inventory.models import Product

MOST_CONNECTIONS = 64  # of all buyers together; where there are more, they share a pool
SECONDS_FOR_A_CONNECTION = 600  # of waiting for one of the pool; it counts as latency


@dataclass(frozen=True)
class Measured:
    """One turn of one row."""

    per_second: float
    """Buyers served, refusals included where the product is sold out."""
    p50_ms: float
    p99_ms: float
    failed: int
    """Buyers who got no answer, or a wrong one."""
    first_error: str = ""


@dataclass(frozen=True)
class Load:
    """Who comes, how often, and for how long."""

    buyers: int
    """At once, in all processes together."""
    seconds: float
    warm_up: float
    """Seconds before those; what is served meanwhile doesn't count."""
    rate: float | None = None
    """Buyers who come in a second; None: each as soon as served."""


@dataclass(frozen=True)
class Part:
    """What the buyers of one process have measured."""

    served: int
    latencies: array[float]
    """In seconds."""
    errors: Counter[str]


def measure(
    processes: Processes,
    row: Callable[[], Row],
    products: list[Product],
    load: Load,
    *,
    is_sold_out: bool,
) -> Measured:
    """Let all processes' buyers do the same, on these products. Raises NotReady.

    ``row`` is called in each process, and so has to be picklable.
    """
    number = len(processes)
    jobs = [
        Buying(
            row=row,
            product_ids=[product.pk for product in products],
            is_sold_out=is_sold_out,
            place=place,
            threads=load.buyers // number + (place < load.buyers % number),
            connections=max(1, MOST_CONNECTIONS // number),
            seconds=load.seconds,
            warm_up=load.warm_up,
            rate=load.rate and load.rate / number,
        )
        for place in range(number)
    ]
    parts: list[Part] = []

    def died(job: Job, how: str) -> None:
        parts.append(Part(0, array("d"), Counter({f"a process of buyers ended: {how}": 1})))

    processes.run(jobs, received=lambda job, part: parts.append(part), died=died)
    return _together(parts, load.seconds)


def _together(parts: list[Part], seconds: float) -> Measured:
    latencies = sorted(chain.from_iterable(part.latencies for part in parts))
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.errors)
    return Measured(
        per_second=sum(part.served for part in parts) / seconds,
        p50_ms=percentile_ms(latencies, 50) or 0.0,
        p99_ms=percentile_ms(latencies, 99) or 0.0,
        failed=errors.total(),
        first_error=next(iter(errors), ""),
    )


# In a process


@dataclass
class Buying(Job):
    """The buyers of one process."""

    who = "buyers"

    row: Callable[[], Row]
    product_ids: list[int]
    is_sold_out: bool
    place: int
    """Which of the processes this is, from 0."""
    threads: int
    connections: int
    """How many connections the buyers of this process may have."""
    seconds: float
    warm_up: float
    rate: float | None
    latencies: list[array[float]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    served: int = 0
    part: Part | None = None

    @property
    def is_pooled(self) -> bool:
        return self.threads > self.connections

    def prepare(self) -> None:
        ids = self.product_ids
        connection().close()
        _use_pool(self.connections if self.is_pooled else 0)
        self.what = self.row()
        self.products = list(Product.objects.filter(pk__in=ids))
        connection().close()
        self.lock = threading.Lock()
        self.names = count()
        self.dice = random.Random(self.place)  # the same arrivals for every row and round
        self.arrival = 0.0

    def connect(self) -> None:
        self.what.connect(self.products)
        if self.is_pooled:
            connection().close()

    def work(self, start: float) -> None:
        """Buy until time is over; keep what was served after the warm-up."""
        latencies: array[float] = array("d")
        name = f"{self.place}-{next(self.names)}-{start}"
        dice = random.Random(name)
        counts_from = start + self.warm_up
        ends = counts_from + self.seconds
        gives_up = ends + self.seconds
        served = 0
        for number, planned in enumerate(self._instants(start, ends)):
            # In an open loop those whom nobody has served by then have waited in vain.
            if time.monotonic() < gives_up:
                self._act(dice.choice(self.products), f"{name}-{number}")
            now = time.monotonic()
            if now >= counts_from:
                latencies.append(now - planned)
                served += now < ends
        self.what.disconnect()
        with self.lock:
            self.latencies.append(latencies)
            self.served += served

    def finish(self) -> None:
        if self.is_pooled:
            connection().close_pool()  # type: ignore[attr-defined]  # PostgreSQL's wrapper has it
        latencies = array("d", chain.from_iterable(self.latencies))
        self.part = Part(self.served, latencies, self.errors)

    def reports(self) -> Iterator[Part]:
        if self.part is not None:
            yield self.part

    def _act(self, product: Product, buyer: str) -> None:
        try:
            self.what.act(product, buyer)
        except InsufficientStock as error:
            if not self.is_sold_out:
                self._note(error)
        except Exception as error:  # whatever it is: this buyer has no answer, and it is told
            self._note(error)
        finally:
            if self.is_pooled:
                connection().close()  # back into the pool, as at the end of a web request

    def _note(self, error: Exception) -> None:
        with self.lock:
            self.errors[f"{type(error).__name__}: {error}"] += 1

    def _instants(self, start: float, ends: float) -> Iterator[float]:
        """The instants from which this buyer's latencies count, each when it has come."""
        if self.rate is None:
            while (now := time.monotonic()) < ends:
                yield now
            return
        while (planned := start + self._next_arrival()) < ends:
            time.sleep(max(0.0, planned - time.monotonic()))
            yield planned

    def _next_arrival(self) -> float:
        """Seconds from the start to the next one: at random, on the average ``rate`` a second."""
        assert self.rate
        with self.lock:
            self.arrival += self.dice.expovariate(self.rate)
            return self.arrival


def _use_pool(size: int) -> None:
    """Let the connections opened from now on share a pool of this size; 0: each its own."""
    ours = connection().settings_dict
    ours["OPTIONS"]["pool"] = size and {
        "min_size": size,
        "max_size": size,
        "timeout": SECONDS_FOR_A_CONNECTION,
    }
    ours["CONN_MAX_AGE"] = 0
    ours["CONN_HEALTH_CHECKS"] = False
