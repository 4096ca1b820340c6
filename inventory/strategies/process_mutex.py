"""A lock in Python: right in one process, and no shop runs only one."""

import threading

from inventory.models import Reservation
from inventory.strategies import Pay, Request
from inventory.strategies.naive import Naive


class ProcessMutex(Naive):
    slug = "process_mutex"
    label = "Mutex in one process"
    is_safe = False
    joins_transaction = False  # the lock would end before the caller commits
    how = (
        "A threading.Lock round the naive way. The buyers of one process come one after the "
        "other, but a second web worker has a lock of its own, and both sell the same units."
    )
    when = "Never for a shop: the second web worker breaks it."

    def __init__(self) -> None:
        self._mutex = threading.Lock()

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with self._mutex:
            return super()._take(request, pay)
