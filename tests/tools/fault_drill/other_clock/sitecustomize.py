"""Python loads this at the start of a program that has another clock (by PYTHONPATH).

libfaketime 0.9.10 adds its offset also to times of the monotonic clock, until which ``time.sleep``
sleeps: with an earlier clock each sleep fails, with a later one it doesn't end.
"""

import select
import time
from typing import Any


def sleep(seconds: Any) -> None:
    """Sleep for a time, and not until one."""
    select.select([], [], [], seconds)


time.sleep = sleep
