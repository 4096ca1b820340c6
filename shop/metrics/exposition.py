"""All figures in the text format of Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.conf import settings
from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from shop.deployment import replicas
from shop.metrics import collectors, counters

__all__ = ["CONTENT_TYPE", "FAMILIES", "expose"]

log = logging.getLogger(__name__)

SUCCESS = "shop_collector_success"
REPLICA_LAG = "shop_replica_lag_seconds"  # only with REPLICA_URL
FAMILIES = {**counters.FAMILIES, **collectors.FAMILIES, SUCCESS: ("collector",)}
"""The names of all families, each with its labels."""


def expose() -> bytes:
    """The figures of this moment."""
    return generate_latest(_Everything())


class _Everything(Collector):
    def collect(self) -> Iterable[Metric]:
        success = GaugeMetricFamily(
            SUCCESS, "1, or 0 if the collector's figures can't be had.", labels=["collector"]
        )
        counts = _counts()
        yield from counts
        success.add_metric(["counters"], bool(counts))
        for name, metrics in collectors.collect():
            yield from metrics
            success.add_metric([name], bool(metrics))
        if settings.REPLICA_URL:
            yield GaugeMetricFamily(
                REPLICA_LAG,
                "The seconds by which the replica may be behind; infinite: nobody knows.",
                value=replicas.seconds_behind(),
            )
        yield success


def _counts() -> list[Metric]:
    try:
        return list(counters.collect())
    except Exception:  # a directory that is gone, a file that can't be read
        log.exception("The counts can't be had.")
        return []
