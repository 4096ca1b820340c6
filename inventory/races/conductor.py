"""Performs one schedule: lets sessions through their gates in the chosen order.

One rule makes this repeatable: the conductor chooses only when every session is at its gate, or
waits for a lock of another session, or is done. No session is on its way then.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from .errors import StepTimedOut
from .python_steps import Lookout
from .schedule import format_schedule
from .server import Server
from .session import Board, Session, Spare, State, Step

POLL = 0.001  # seconds; PostgreSQL shows a wait after 0.3 to 2.6 ms
LONGEST_POLL = 0.016  # each look costs PostgreSQL time: where it takes long, look less often
GRACE = 2.0  # seconds for a session to end after it was told to
# PostgreSQL looks for a deadlock once, some time after a wait began; whose look finds the circle
# is the one that fails. Let everybody have looked before the circle can close: then it is always
# the last one, and a replay ends like the original.
LONGEST_LOOK = 2.0  # seconds to wait for a look: 1 to 2 ms, and longer on a busy machine


@dataclass(frozen=True, slots=True)
class Point:
    """A choice: the sessions that could go on, their statements, and the one that was chosen."""

    enabled: tuple[tuple[str, Step], ...]
    chosen: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.enabled)

    def step_of(self, name: str) -> Step:
        return dict(self.enabled)[name]


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the transcript: a step that starts, or one that had to wait and now completes."""

    step: Step
    is_completion: bool = False


@dataclass
class Performance:
    """The steps of one schedule, and the choices behind them."""

    points: list[Point]
    events: list[Event]
    returned: dict[str, object]
    raised: dict[str, BaseException]
    cut: str | None = None
    """The reason why the conductor gave up before the end, if it did."""
    is_in_turn: bool = False
    """Whether each session began when the one before it had ended."""

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(point.chosen for point in self.points)


Choose = Callable[[list[tuple[str, Step]], str | None, Sequence[Step]], str | None]
"""Chooses the next session. None: stop.

Takes the sessions that can go on, the last that went, and the steps that have completed since
then after a wait.
"""


class Conductor:
    """Performs schedules of the same sessions."""

    def __init__(
        self,
        sessions: Mapping[str, Callable[[], object]],
        server: Server,
        *,
        using: str,
        isolation: str | None,
        lookout: Lookout,
        step_timeout: float,
        max_steps: int,
        after_step: Callable[[list[Event]], object] = lambda events: None,
    ) -> None:
        self._calls = sessions
        self._server = server
        self._using = using
        self._isolation = isolation
        self._lookout = lookout
        self._step_timeout = step_timeout
        self._max_steps = max_steps
        self._after_step = after_step
        self._spare = Spare()

    def close(self) -> None:
        """Close the connections that were kept for the next sessions."""
        self._spare.close()

    def perform(
        self, choose: Choose, only: Collection[str] | None = None, *, in_turn: bool = False
    ) -> Performance:
        """Run the sessions from start to end, in the order that ``choose`` makes.

        ``only``: these sessions, by name. ``in_turn``: none of them begins before the one before it
        has ended. Otherwise all begin, and come to their first step, before the first choice.
        Raises StepTimedOut or Misuse. All sessions have ended when this returns or raises.
        """
        board = Board()
        seed = random.getrandbits(64)
        performers = [
            Session(
                name,
                call,
                board,
                self._server,
                self._spare,
                using=self._using,
                isolation=self._isolation,
                lookout=self._lookout,
                seed=f"{seed} {name}",
            )
            for name, call in self._calls.items()
            if only is None or name in only
        ]
        schedule = _OneSchedule(
            performers,
            board,
            self._server,
            choose,
            self._step_timeout,
            self._max_steps,
            self._after_step,
        )
        if not in_turn or only is None:
            return schedule.perform([performers])
        of_name = {performer.label: performer for performer in performers}
        return schedule.perform([[of_name[name]] for name in only])


class _OneSchedule:
    def __init__(
        self,
        sessions: list[Session],
        board: Board,
        server: Server,
        choose: Choose,
        step_timeout: float,
        max_steps: int,
        after_step: Callable[[list[Event]], object],
    ) -> None:
        self.sessions = sessions
        self.board = board
        self.server = server
        self.choose = choose
        self.step_timeout = step_timeout
        self.max_steps = max_steps
        self.after_step = after_step
        self.points: list[Point] = []
        self.events: list[Event] = []
        self.waiting: list[Session] = []
        """Blocked sessions, in the order in which they began to wait."""
        self.cut: str | None = None

    def perform(self, turns: Sequence[list[Session]]) -> Performance:
        """Run the sessions; those of a turn begin when all of the turn before have ended."""
        try:
            for sessions in turns:
                self._start(sessions)
                while self._let_one_through():
                    self._settle()
                    self.after_step(self.events)
        finally:
            stuck = self._end_all()
        self._raise_misuse()
        if stuck:
            raise StepTimedOut(
                f"Session {stuck[0].label} doesn't end: it waits for something outside of SQL."
            )
        return Performance(
            self.points,
            self.events,
            {s.label: s.returned for s in self.sessions if s.has_returned},
            {s.label: s.raised for s in self.sessions if s.raised is not None},
            self.cut,
            is_in_turn=len(turns) == len(self.sessions),
        )

    def _start(self, sessions: list[Session]) -> None:
        """Connect these sessions at once. Then run each up to its first step, one by one."""
        for session in sessions:
            session.start()
        self._settle()
        for session in sessions:
            if session.state is State.AT_GATE:
                with self.board.changed:
                    session.state = State.RUNNING
                    self.board.changed.notify_all()
                self._settle()

    def _let_one_through(self) -> bool:
        enabled = [
            (session.label, session.step)
            for session in self.sessions
            if session.state is State.AT_GATE and session.step is not None
        ]
        if not enabled:
            return False
        if self._is_misused():
            return False
        last = self.points[-1].chosen if self.points else None
        chosen = self.choose(enabled, last, self._completed_since_last())
        if chosen is None:
            self.cut = "explored elsewhere"
            return False
        if sum(point.chosen == chosen for point in self.points) >= self.max_steps:
            self.cut = f"{chosen} has made {self.max_steps} steps"
            return False
        self.points.append(Point(tuple(enabled), chosen))
        session = next(s for s in self.sessions if s.label == chosen)
        assert session.step is not None
        self._let_all_look(session.step)
        session.step.number = len(self.points)
        self.events.append(Event(session.step))
        with self.board.changed:
            session.go()
        return True

    def _completed_since_last(self) -> list[Step]:
        latest = itertools.takewhile(lambda event: event.is_completion, reversed(self.events))
        return [event.step for event in latest]

    def _let_all_look(self, step: Step) -> None:
        """Let waiting sessions look for a deadlock first: this step could close a circle."""
        if not self.server.reports_looks or step.is_in_python:
            return
        deadline = time.monotonic() + LONGEST_LOOK
        while self._has_anybody_to_look() and time.monotonic() < deadline:
            with self.board.changed:
                self.board.changed.wait(POLL)

    def _has_anybody_to_look(self) -> bool:
        """Whether a session hasn't looked in its wait. A statement may wait more than once."""
        if not self.waiting:
            return False
        locks = self.server.locks_waited_for(session.pid for session in self.waiting)
        with self.board.changed:
            return any(
                session.pid in locks and session.has_looked_at != locks[session.pid]
                for session in self.waiting
            )

    def _settle(self) -> None:
        """Return when each session is at its gate, waits for another session, or is done."""
        deadline = time.monotonic() + self.step_timeout
        pause = POLL
        while not self._is_misused():
            if self._is_anybody_on_the_way(pause):
                self._update_waiting_sessions()
                pause = min(2 * pause, LONGEST_POLL)
            elif not self._has_anything_changed() and not self._is_deadlock():
                break
            if time.monotonic() > deadline:
                self._give_up()
        self._note_completions()

    def _is_misused(self) -> bool:
        return any(session.misuse for session in self.sessions)

    def _is_anybody_on_the_way(self, pause: float) -> bool:
        with self.board.changed:
            if self._on_the_way():
                self.board.changed.wait(pause)
            return bool(self._on_the_way())

    def _on_the_way(self) -> list[Session]:
        moving = (State.STARTING, State.RUNNING)
        return [s for s in self.sessions if s.state in moving and s.ident is not None]

    def _update_waiting_sessions(self) -> None:
        asked = [s for s in self._on_the_way() if s.is_in_sql]
        blocked = self._blocked(asked)
        for session in asked:
            if session.pid not in blocked or session.step is None:
                continue
            wait = self.server.wait_of(session.pid, {s.pid: s.label for s in self.sessions})
            with self.board.changed:
                # The session may have got its lock meanwhile.
                if session.state is State.RUNNING and session.is_in_sql:
                    session.state = State.BLOCKED
                    if session.step.wait is None:
                        session.step.wait = wait
                    if session not in self.waiting:
                        self.waiting.append(session)

    def _has_anything_changed(self) -> bool:
        """Ask PostgreSQL again about waiting sessions: a later step may have ended their wait.

        The answer counts only if no session moved meanwhile. A deadlock ends by itself, so a
        session that PostgreSQL saw waiting may be free already.
        """
        before = [s.state for s in self.sessions]
        asked = [s for s in self.sessions if s.state is State.BLOCKED]
        blocked = self._blocked(asked)
        with self.board.changed:
            for session in asked:
                if session.pid not in blocked and session.state is State.BLOCKED:
                    session.state = State.RUNNING
            return before != [s.state for s in self.sessions]

    def _blocked(self, asked: list[Session]) -> set[int]:
        if not asked:
            return set()
        return self.server.blocked((s.pid for s in asked), (s.pid for s in self.sessions))

    def _is_deadlock(self) -> bool:
        """Whether all sessions that aren't done wait: PostgreSQL will end one of them."""
        states = {s.state for s in self.sessions}
        if State.BLOCKED in states and not states - {State.BLOCKED, State.DONE}:
            time.sleep(POLL)
            return True
        return False

    def _note_completions(self) -> None:
        for session in [s for s in self.waiting if s.state is not State.BLOCKED]:
            self.waiting.remove(session)
            step = next(e.step for e in reversed(self.events) if e.step.session == session.label)
            self.events.append(Event(step, is_completion=True))

    # If something goes wrong

    def _give_up(self) -> None:
        """Raise StepTimedOut for the sessions that take too long; the caller ends all sessions."""
        session = (self._on_the_way() or [s for s in self.sessions if s.state is State.BLOCKED])[0]
        so_far = format_schedule(point.chosen for point in self.points) or "the start"
        if session.state is State.STARTING:
            what = "has not connected to the database"
        elif not session.is_in_sql:
            what = (
                "isn't in SQL: it computes, or waits for something that the explorer can't see "
                "(a lock in Python, a queue, the network)"
            )
        else:
            assert session.step is not None
            blockers = self.server.blockers_in_words(session.pid)
            what = f"is still in “{session.step.shown}”"
            if blockers:
                what += f", waiting for {blockers}"
        raise StepTimedOut(
            f"Session {session.label} {what}, {self.step_timeout:g} seconds after it was let "
            f"through (schedule: {so_far})."
        )

    def _end_all(self) -> list[Session]:
        """End every session, and return those that can't be ended."""
        with self.board.changed:
            self.board.is_aborted = True
            self.board.changed.notify_all()
        started = [s for s in self.sessions if s.ident is not None]
        for end in (None, self.server.cancel, self.server.terminate):
            alive = [s for s in started if s.is_alive()]
            for session in alive:
                session.cancel_coroutine()
                if end is not None and session.pid:
                    end(session.pid)
            deadline = time.monotonic() + (GRACE / 4 if end is None else GRACE / 2)
            for session in alive:
                session.join(max(0.0, deadline - time.monotonic()))
        return [s for s in started if s.is_alive()]

    def _raise_misuse(self) -> None:
        for session in self.sessions:
            if session.misuse is not None:
                raise session.misuse
