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


def advice_on_memory() -> str | None:
    """A sentence on these functions, if there are any."""
    names = sorted(set(remembering_functions()))
    if not names:
        return None
    named = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
    return (
        f"The cause may be functions that remember their results (cache_clear() ends it): {named}."
    )


def remembering_functions() -> Iterator[str]:
    """Their dotted names. Packages, and functions that remember nothing yet, are left out."""
    for each in gc.get_objects():
        # Not isinstance(): it asks a lazy object for its class, which works out what it stands for.
        if issubclass(type(each), Remembering) and each.cache_info().currsize:
            file = getattr(sys.modules.get(each.__module__), "__file__", None) or ""
            if not (file.startswith(INSTALLED) or each.__module__.startswith(f"{__package__}.")):
                yield f"{each.__module__}.{each.__qualname__}"
