"""``RacesMixin``: races in a ``TransactionTestCase``, with any runner of tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.test import TestCase, TransactionTestCase

from .errors import LeftOut, Misuse
from .explorer import explore
from .result import Result

Call = Callable[[], object]


class RacesMixin:
    """Adds ``races`` and ``assertNoRace`` to a ``TransactionTestCase``.

    class Bookings(RacesMixin, TransactionTestCase):
        def test_the_last_seat(self):
            self.assertNoRace({"Ann": …, "Bob": …}, setup=one_seat, invariant=…)
    """

    def races(self, sessions: Mapping[str, Call] | Iterable[Call], **options: Any) -> Result:
        """Return the result of ``explore``, which stops here at the first broken schedule.

        Takes what ``explore`` does; ``first=False`` goes on to the end. Warns (LeftOut) of what a
        pass leaves out. Raises Misuse in a class whose tests run in a transaction.
        """
        result = self._explored(sessions, options)
        warn_of_left_out(result)
        return result

    def assertNoRace(self, sessions: Mapping[str, Call] | Iterable[Call], **options: Any) -> Result:
        """Fail with a transcript if a schedule breaks the invariant.

        Without an invariant, fail if a schedule ends like no serial order. Otherwise return the
        result. Takes what ``races`` does.
        """
        result = self._explored(sessions, options)
        result.assert_holds()
        warn_of_left_out(result)
        return result

    def _explored(
        self, sessions: Mapping[str, Call] | Iterable[Call], options: dict[str, Any]
    ) -> Result:
        check_commits(type(self))
        return explore(sessions, **{"first": True, **options})


def warn_of_left_out(result: Result) -> None:
    """Warn, in the line of the test, of what a pass leaves out: unittest shows no result."""
    if not result.broken:
        for sentence in result.left_out:
            warnings.warn(sentence, LeftOut, stacklevel=3)


def check_commits(test_case: type) -> None:
    """Raise Misuse unless tests of this class commit, so that other connections see their rows."""
    if not issubclass(test_case, TransactionTestCase):
        found = "is no TransactionTestCase"
    elif issubclass(test_case, TestCase):
        found = "is a TestCase, which runs each test in a transaction that is never committed"
    else:
        return
    raise Misuse(
        f"{test_case.__name__} {found}. Sessions have connections of their own, and see only rows "
        f"that are committed: class {test_case.__name__}(RacesMixin, TransactionTestCase)."
    )
