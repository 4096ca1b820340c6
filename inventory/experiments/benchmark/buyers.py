"""Buyers who do the same thing over and over, and the latency of each time.

Closed loop: each buyer comes again as soon as served. Open loop: buyers come at planned instants,
and a latency counts from the planned instant. So it includes the time that a buyer waits for a
free thread; leaving that out is known as "coordinated omission".
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
from inventory.experiments.benchmark.rows import MOST_CONNECTIONS, Row
from inventory.experiments.latencies import percentile_ms
from inventory.experiments.load import Job, Processes
from inventory.models import Product

SECONDS_FOR_A_CONNECTION = 600  # to wait for one of the pool; the wait counts as latency


@dataclass(frozen=True)
class Measurement:
    """One turn of one row."""

    per_second: float
    """Buyers served, refusals included where the product is sold out."""
    p50_ms: float
    p99_ms: float
    failed: int
    """Buyers who got no answer, or a wrong one."""
    first_error: str = ""
    server_ms: float | None = None
    """Processor time of the web server for each buyer served. None: there is no web server."""
    generator_share: float | None = None
    """The part of the machine's processors that the buyers themselves used. None: not known."""
    beside_per_second: float | None = None
    """Buyers served by a rush at the same time. None: there was no rush."""


@dataclass(frozen=True)
class Load:
    """The number of buyers, how often they come, and for how long."""

    buyers: int
    """Buyers at once, in all processes together."""
    seconds: float
    warm_up: float
    """Seconds of running before the measured ones."""
    rate: float | None = None
    """Buyers who come in a second. None: each comes again as soon as served."""


@dataclass(frozen=True)
class ProcessMeasurement:
    """The measurements of one process's buyers."""

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
) -> Measurement:
    """Let the buyers of all processes run a row on these products. Raises NotReady.

    ``row`` makes the row. Each process calls it, so it must be picklable.
    """
    number = len(processes)
    threads = row().most_threads(load.buyers, processes=number)
    jobs = [
        BuyerJob(
            row=row,
            product_ids=[product.pk for product in products],
            is_sold_out=is_sold_out,
            process_index=process_index,
            threads=threads // number + (process_index < threads % number),
            connections=max(1, MOST_CONNECTIONS // number),
            seconds=load.seconds,
            warm_up=load.warm_up,
            rate=load.rate and load.rate / number,
        )
        for process_index in range(number)
    ]
    parts: list[ProcessMeasurement] = []

    def on_death(job: Job, how: str) -> None:
        parts.append(
            ProcessMeasurement(0, array("d"), Counter({f"a process of buyers ended: {how}": 1}))
        )

    processes.run(jobs, on_report=lambda job, part: parts.append(part), on_death=on_death)
    return _merged(parts, load.seconds)


def _merged(parts: list[ProcessMeasurement], seconds: float) -> Measurement:
    latencies = sorted(chain.from_iterable(part.latencies for part in parts))
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.errors)
    return Measurement(
        per_second=sum(part.served for part in parts) / seconds,
        p50_ms=percentile_ms(latencies, 50) or 0.0,
        p99_ms=percentile_ms(latencies, 99) or 0.0,
        failed=errors.total(),
        first_error=next(iter(errors), ""),
    )


# In a process


@dataclass
class BuyerJob(Job):
    """The buyers of one process."""

    thread_noun = "buyers"

    row: Callable[[], Row]
    product_ids: list[int]
    is_sold_out: bool
    process_index: int
    """The number of this process, from 0."""
    threads: int
    connections: int
    """The number of connections that the buyers of this process may have."""
    seconds: float
    warm_up: float
    rate: float | None
    latencies: list[array[float]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    served: int = 0
    part: ProcessMeasurement | None = None

    @property
    def is_pooled(self) -> bool:
        return self.threads > self.connections

    def prepare(self) -> None:
        ids = self.product_ids
        connection().close()
        _use_pool(self.connections if self.is_pooled else 0)
        self.current_row = self.row()
        self.products = list(Product.objects.filter(pk__in=ids))
        connection().close()
        self.lock = threading.Lock()
        self.names = count()
        self.dice = random.Random(self.process_index)  # the same arrivals for every row and round
        self.arrival = 0.0

    def connect(self) -> None:
        self.current_row.connect(self.products)
        if self.is_pooled:
            connection().close()

    def work(self, start: float) -> None:
        """Buy until the time is over; keep the measurements from after the warm-up."""
        latencies: array[float] = array("d")
        name = f"{self.process_index}-{next(self.names)}-{start}"
        dice = random.Random(name)
        counts_from = start + self.warm_up
        ends = counts_from + self.seconds
        gives_up = ends + self.seconds
        served = 0
        for number, planned in enumerate(self._start_instants(start, ends)):
            # In an open loop, buyers still unserved at that time have waited in vain.
            if time.monotonic() < gives_up:
                self._act(dice.choice(self.products), f"{name}-{number}")
            now = time.monotonic()
            if now >= counts_from:
                latencies.append(now - planned)
                served += now < ends
        self.current_row.disconnect()
        with self.lock:
            self.latencies.append(latencies)
            self.served += served

    def finish(self) -> None:
        if self.is_pooled:
            connection().close_pool()  # type: ignore[attr-defined]  # PostgreSQL's wrapper has it
        latencies = array("d", chain.from_iterable(self.latencies))
        self.part = ProcessMeasurement(self.served, latencies, self.errors)

    def reports(self) -> Iterator[ProcessMeasurement]:
        if self.part is not None:
            yield self.part

    def _act(self, product: Product, buyer: str) -> None:
        try:
            self.current_row.act(product, buyer)
        except InsufficientStock as error:
            if not self.is_sold_out:
                self._count_error(error)
        except Exception as error:  # any error is an answer that this buyer didn't get
            self._count_error(error)
        finally:
            if self.is_pooled:
                connection().close()  # back into the pool, as at the end of a web request

    def _count_error(self, error: Exception) -> None:
        with self.lock:
            self.errors[f"{type(error).__name__}: {error}"] += 1

    def _start_instants(self, start: float, ends: float) -> Iterator[float]:
        """Yield each instant from which a latency of this buyer counts, when it has come."""
        if self.rate is None:
            while (now := time.monotonic()) < ends:
                yield now
            return
        while (planned := start + self._next_arrival()) < ends:
            time.sleep(max(0.0, planned - time.monotonic()))
            yield planned

    def _next_arrival(self) -> float:
        """Seconds from the start to the next arrival: random, on average ``rate`` a second."""
        assert self.rate
        with self.lock:
            self.arrival += self.dice.expovariate(self.rate)
            return self.arrival


def _use_pool(size: int) -> None:
    """Let all new connections come from a pool of this size. With 0 there is no pool."""
    ours = connection().settings_dict
    ours["OPTIONS"]["pool"] = size and {
        "min_size": size,
        "max_size": size,
        "timeout": SECONDS_FOR_A_CONNECTION,
    }
    ours["CONN_MAX_AGE"] = 0
    ours["CONN_HEALTH_CHECKS"] = False
