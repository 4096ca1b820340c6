"""The counts of a process while it works. Under gunicorn, all its processes are counted together.

The counts start anew with the web server. Prometheus knows that: its ``rate`` and ``increase`` take
a lower count for a new start.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from inventory import signals, strategies
from inventory.signals import Outcome
from shop.metrics import multiprocess

if multiprocess.directory():
    multiprocess.use_slots()
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

registry = CollectorRegistry()

reservations = Counter(
    "shop_reservations_total", "Reservations made.", ["strategy"], registry=registry
)
refusals = Counter(
    "shop_refusals_total",
    "Buyers who were refused units, since there were too few.",
    ["strategy"],
    registry=registry,
)
reserve_seconds = Histogram(
    "shop_reserve_seconds",
    "How long a buyer waited for a reservation or a refusal.",
    ["strategy"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    registry=registry,
)
batch_requests = Histogram(
    "shop_batch_requests",
    "Requests that one statement of the strategy combined served together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    registry=registry,
)
request_seconds = Histogram(
    "shop_request_seconds",
    "How long a client waited for an answer, from when its request was there.",
    ["view", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=registry,
)

FAMILIES: dict[str, tuple[str, ...]] = {
    "shop_reservations_total": ("strategy",),
    "shop_refusals_total": ("strategy",),
    "shop_reserve_seconds": ("strategy",),
    "shop_batch_requests": (),
    "shop_request_seconds": ("view", "status"),
}
"""The names of all families here, each with its labels."""


@functools.cache
def listen() -> None:
    """Count reservations and batches of this process from now on."""
    signals.reservation_tried.connect(_count_tried, dispatch_uid=__name__)
    signals.batch_sent.connect(_count_batch, dispatch_uid=__name__)
    for strategy in strategies.all_strategies():  # a rate needs a zero to rise from
        reservations.labels(strategy.slug)
        refusals.labels(strategy.slug)


def count_request(view: str, status: int, seconds: float) -> None:
    """Count a request that was answered after so many seconds."""
    _of_request(view, status).observe(seconds)


@functools.cache
def _of_request(view: str, status: int) -> Histogram:
    """The histogram with these labels. There are a few for each view."""
    return request_seconds.labels(view, str(status))


def _count_tried(strategy: str, outcome: Outcome, seconds: Sequence[float], **kwargs: Any) -> None:
    counter = reservations if outcome is Outcome.RESERVED else refusals
    counter.labels(strategy).inc(len(seconds))
    waited = reserve_seconds.labels(strategy)
    for each in seconds:
        waited.observe(each)


def _count_batch(requests: int, **kwargs: Any) -> None:
    batch_requests.observe(requests)


def collect() -> Iterable[Metric]:
    """The counts of all processes of this gunicorn, or of this process alone outside of one."""
    directory = multiprocess.directory()
    if directory is None:
        return list(registry.collect())
    collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]
    return list(collector.collect())  # type: ignore[no-untyped-call]
