"""Percentiles of latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile_ms(latencies: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile of sorted latencies (seconds), in milliseconds; None if empty."""
    if not latencies:
        return None
    return 1000 * latencies[math.ceil(percent / 100 * len(latencies)) - 1]
