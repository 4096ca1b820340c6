"""Two threads and a barrier: the way to look for a race without an explorer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.db import connections

from ..stage import prepare
from .race import Race, verdict


@dataclass
class Try:
    """The end of the sessions that ran at once."""

    returned: dict[str, object] = field(default_factory=dict)
    raised: dict[str, BaseException] = field(default_factory=dict)


def broken_tries(race: Race, tries: int) -> int:
    """Run the published sessions at once, so many times; return how often the invariant broke.

    Luck gets its best chance: threads and connections are kept, and nothing but the barrier
    stands between them and their first statement.
    """
    barrier = threading.Barrier(len(race.sessions))
    with ThreadPoolExecutor(len(race.sessions)) as threads:

        def run_at_once(call_of: dict[str, Callable[[], object]], result: Try) -> None:
            for done in [
                threads.submit(run, barrier, name, call, result) for name, call in call_of.items()
            ]:
                done.result()

        broken = 0
        for _ in range(tries):
            race.setup()
            prepare(race.sessions)
            result = Try()
            run_at_once(dict(race.sessions), result)
            broken += not verdict(race.invariant, result)
        run_at_once(dict.fromkeys(race.sessions, connections.close_all), Try())
    return broken


def run(barrier: threading.Barrier, name: str, call: Callable[[], object], result: Try) -> None:
    """Wait for the others, and run. No thread runs two sessions: each waits at the barrier."""
    barrier.wait()
    try:
        result.returned[name] = call()
    except Exception as error:
        result.raised[name] = error
