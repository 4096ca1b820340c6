"""Finds functions of the project that remember their results from one schedule to the next."""

from __future__ import annotations

import functools
import gc
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

Remembering: Any = type(functools.cache(int))
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
MOST_NAMED = 5


class Memory:
    """The functions that remember results, at the moment when an exploration begins."""

    def __init__(self) -> None:
        self._worked_before = dict(remembering_functions())

    def advice(self) -> str | None:
        """A sentence on the functions that have worked results out since then, if there are any.

        Others have given the same results in all schedules.
        """
        now = remembering_functions()
        names = sorted({name for name, worked in now if self._worked_before.get(name) != worked})
        if not names:
            return None
        named = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
        return (
            "The cause may be functions that remember their results (cache_clear() ends it): "
            f"{named}."
        )


def remembering_functions() -> Iterator[tuple[str, int]]:
    """Their dotted names, each with how often it has worked a result out.

    Packages, and functions that remember nothing yet, are left out.
    """
    # There are some 100,000 objects, so this must be quick. Nor may it be isinstance(): that asks a
    # lazy object for its class, which works out what it stands for.
    found = [each for each in gc.get_objects() if type(each) is Remembering]
    for each in found:
        if each.cache_info().currsize:
            file = getattr(sys.modules.get(each.__module__), "__file__", None) or ""
            if not (file.startswith(INSTALLED) or each.__module__.startswith(f"{__package__}.")):
                yield f"{each.__module__}.{each.__qualname__}", each.cache_info().misses
