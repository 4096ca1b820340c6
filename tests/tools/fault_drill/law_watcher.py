"""The law of stock is looked at all the time, also while a fault lasts."""

from __future__ import annotations

import threading

from django.db import Error, connection

from tests.tools.drills import Disagreement
from tests.tools.fault_drill.books import check_law

SECONDS_BETWEEN_LOOKS = 0.3


class LawWatcher:
    """Looks from the beginning of a block to its end, whenever the database answers."""

    def __init__(self) -> None:
        self.looks = 0
        self._problem = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def check(self) -> None:
        """Raise Disagreement if the law was ever broken."""
        if self._problem:
            raise Disagreement(self._problem)

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                check_law()
                self.looks += 1
            except Disagreement as error:
                self._problem = self._problem or str(error)
            except Error:  # the database is away
                connection.close()
        connection.close()

    def __enter__(self) -> LawWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
