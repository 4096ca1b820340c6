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

from .errors import (
    ImpossibleSchedule,
    Misuse,
    RaceFound,
    RacesError,
    SqlAroundTheGate,
    StepTimedOut,
    Unrepeatable,
)
from .explorer import explore, replay
from .result import Result, Run
from .web import request

__all__ = [
    "ImpossibleSchedule",
    "Misuse",
    "RaceFound",
    "RacesError",
    "Result",
    "Run",
    "SqlAroundTheGate",
    "StepTimedOut",
    "Unrepeatable",
    "explore",
    "replay",
    "request",
]
