"""Every interleaving of two transactions, tried one by one on a real PostgreSQL.

    result = explore(
        {"A": lambda: buy("A"), "B": lambda: buy("B")},
        setup=one_mug,
        invariant=lambda run: Order.objects.count() <= 1,
    )
    result.assert_holds()

``README.md`` beside this file is the way in. The package needs Django, psycopg 3 and rich, and
imports nothing else of the project around it: to use it elsewhere, copy the folder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .errors import (
    ImpossibleSchedule,
    Misuse,
    RaceFound,
    RacesError,
    SqlAroundTheGate,
    StepTimedOut,
    Unrepeatable,
)

if TYPE_CHECKING:
    from .explorer import explore, replay
    from .jobs import task
    from .python_steps import point
    from .result import Result, Run
    from .testcase import RacesMixin
    from .web import request

__all__ = [
    "ImpossibleSchedule",
    "Misuse",
    "RaceFound",
    "RacesError",
    "RacesMixin",
    "Result",
    "Run",
    "SqlAroundTheGate",
    "StepTimedOut",
    "Unrepeatable",
    "explore",
    "point",
    "replay",
    "request",
    "task",
]

# Imported when they are used: pytest loads this package wherever it is installed, and neither
# Django nor rich with it.
MODULES = {
    "RacesMixin": "testcase",
    "Result": "result",
    "Run": "result",
    "explore": "explorer",
    "point": "python_steps",
    "replay": "explorer",
    "request": "web",
    "task": "jobs",
}

if not TYPE_CHECKING:  # for which these names are known above, and no others

    def __getattr__(name: str) -> object:
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
