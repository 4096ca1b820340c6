"""Notices sessions that act differently although they have seen the same.

A session knows of the others by what PostgreSQL answers. If the answers were the same so far, it
must go on in the same way, in whatever schedule. If it doesn't, it depends on something else: on
memory that it shares with the other sessions, and then the same schedule repeats it; or on what
an earlier schedule left, or on chance, and then nothing that was found out so far is certain.

Choices at the start of a branch are compared with an earlier performance anyway. All that comes
behind them is compared here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .result import Run
from .serial import results_of


class Habits:
    """The next acts of sessions, by all that each had seen before."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, Run | None]] = {}
        """For each hash of what was seen: each act, with a run that has it. None: it is certain."""

    def runs_in_doubt(self, run: Run, by_type: Collection[str]) -> list[Run]:
        """The runs, this one and earlier ones, in which a session acts differently by the same.

        Each of them must be performed again. Remembers what sessions do in this one.
        """
        doubtful: list[Run] = []
        for seen, act in acts_in(run, by_type):
            known = self._known.setdefault(seen, {})
            if not known:
                known[act] = run
            elif act not in known:
                doubtful += [other for other in (*known.values(), run) if other is not None]
                self._known[seen] = dict.fromkeys([*known, act])
        return list({id(each): each for each in doubtful}.values())


def acts_in(run: Run, by_type: Collection[str]) -> Iterator[tuple[int, str]]:
    """Each statement, and each session's end, with a hash of all that the session had seen."""
    results = results_of(run.performance, by_type)
    seen = {name: hash(name) for name in results}
    for step in run.steps:
        yield seen[step.session], step.sql
        answer = (step.sql, step.rows, step.sqlstate, step.answer)
        seen[step.session] = hash((seen[step.session], answer))
    for name, result in results.items():
        yield seen[name], f"ends with {result}"
