"""Performs schedules one after the other, and judges each by all that is known by then."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from django.db import connections

from .conductor import Choose, Conductor, Performance
from .errors import ImpossibleSchedule, Misuse, RacesError, Unrepeatable
from .failing import notes_on_ended, notes_on_failing, notes_on_no_change, why_without_sql
from .habits import Habits
from .image import Image
from .options import READ_COMMITTED, Call
from .python_steps import Lookout
from .repeats import check_repeated, notes_on_cold_start
from .result import BUDGET, FIRST, SECONDS, Result, Run, counted
from .search import AtRandom, Given, Serially, Walk, preemptions_in, retraced
from .serial import (
    Ending,
    Outcome,
    SerialOrders,
    Snapshots,
    difference,
    notes_on,
    results_of,
    undone,
)
from .server import Server
from .start import Start
from .surroundings import clear_caches, fill_cache_of_content_types
from .ties import Ties
from .unheld import UnheldSql

if TYPE_CHECKING:
    from .explorer import Explorer

T = TypeVar("T")

MOST_ORDERS = 24  # serial orders that are performed besides the schedules
# Performances that only look for clock and caches, each of which takes twice as long as others:
# so many, and one for each ten schedules, up to the most.
LOOKS, MOST_LOOKS = 4, 20
TRIES = 3  # performances of a schedule before it counts as unrepeatable
CONFIRMATIONS = 2  # more performances of a schedule that ends like no serial order
REPEATS = 4  # performances that must all end in the same way, if that way is no chance
TICK = 1.1  # seconds, in which clocks of most kinds tick
UNLIKE_ANY = "It ends like no serial order of its sessions."


class Limit:
    """When an exploration ends before all schedules were performed."""

    def __init__(self, budget: int, seconds: float | None, first: bool) -> None:
        self._budget = budget
        self._seconds = seconds
        self._first = first
        self._began = time.monotonic()

    @property
    def seconds_so_far(self) -> float:
        return time.monotonic() - self._began

    def ends(self, result: Result) -> bool:
        """Whether to begin no other schedule. The first one is always performed."""
        if not result.runs:
            return False
        result.ended_by = self._reason(result)
        return result.ended_by is not None

    def ends_sampling(self, result: Result) -> bool:
        """Whether to draw no other schedule, although the budget doesn't count any more."""
        reason = self._reason(result)
        if reason in (FIRST, SECONDS):
            result.ended_by = reason
        return reason in (FIRST, SECONDS)

    def _reason(self, result: Result) -> str | None:
        if self._first and result.runs[-1].broken is not None:
            return FIRST
        if self._seconds is not None and self.seconds_so_far >= self._seconds:
            return SECONDS
        return BUDGET if len(result.runs) >= self._budget else None


class Stage:
    """Performs schedules one after the other, and judges them."""

    def __init__(self, explorer: Explorer, server: Server) -> None:
        self.explorer = explorer
        self.server = server
        self.names = tuple(explorer.sessions)
        self.lookout = Lookout(clock=explorer.clock, cache=explorer.cache)
        self.unheld_sql = UnheldSql(explorer.using)
        self.result: Result | None = None
        """Gets the notes at the end, however that comes."""
        self.ways: set[Way] = set()
        """The ways that sessions went while the lookout was noting."""
        self.ties = Ties(server, self.isolation)
        self.conductor = Conductor(
            explorer.sessions,
            server,
            using=explorer.using,
            isolation=explorer.isolation,
            lookout=self.lookout,
            step_timeout=explorer.step_timeout,
            max_steps=explorer.max_steps,
            after_step=self.ties.look,
        )
        self.learned = explorer.learned
        self.snapshots = Snapshots(server)
        self.start = Start(self._bring_back, server, self.snapshots, self.learned)
        self.serial_orders = SerialOrders(
            self.learned, self._learned_ending_of, self._serial_ending_of
        )
        self.habits = Habits()
        self.reference: Run | None = None
        """A serial order, which the first schedule must repeat."""
        self.judged_by: set[tuple[int, ...]] = set()
        """How much was known when runs were judged."""
        self.confirmed: set[Run] = set()
        """Runs that were performed more than once."""
        self.has_set_up = False
        """Whether setup() was called, and came to its end."""
        self.has_begun = False
        """Whether the first schedule was performed."""
        self.image: Image | None = None
        self.cold_notes: list[str] = []
        self.before = ""
        self.retried = 0
        self.invariant_is_silent = explorer.invariant is not None
        """Whether the invariant always returned None, and never failed."""

    def close(self) -> None:
        self.conductor.close()
        if self.image is not None:
            self.image.close()

    @property
    def isolation(self) -> str:
        return self.explorer.isolation or self.server.isolation

    def warm_up(self) -> None:
        """Perform serial orders, to fill Python's caches and to learn which values are noise."""
        if self.learned.upper_bound:
            return
        self.lookout.noted = self.names
        fill_cache_of_content_types(self.explorer.using, self.server)
        first = self.perform_serially(self.names, in_turn=False)
        last = self.perform_serially(self.names[::-1], in_turn=False)
        for name in self.names:
            if not any(event.step.session == name for event in first.events):
                call = self.explorer.sessions[name]
                start = f"Session {name} ran no SQL on “{self.explorer.using}”"
                notes = self.unheld_sql.notes()
                raise Misuse(" ".join([f"{start}{why_without_sql(name, call, first)}", *notes]))
        self.lookout.noted = ()  # noting takes long, and by now there is little new to see
        self.reference = self._perform_twice(self.names, in_turn=False)
        self.cold_notes = list(notes_on_cold_start(first, self.reference.performance))
        # The one that comes second may be done sooner: for it everything is sold out.
        counts = [max(p.choices.count(name) for p in (first, last)) for name in self.names]
        self.learned.upper_bound = math.factorial(sum(counts)) // math.prod(
            math.factorial(count) for count in counts
        )

    def perform_branch(self, walk: Walk) -> Performance:
        """Perform the branch. Raises Unrepeatable if it doesn't come where it meant to come."""

        def perform() -> Performance:
            walk.restart()
            performance = self.perform(walk.choose)
            walk.check_followed(performance)
            if self.reference is not None and not self.has_begun:
                check_repeated(self.reference.performance, performance, by_type=self.names)
            return performance

        performance = self._tried(perform)
        self.has_begun = True
        return performance

    def perform(
        self, choose: Choose, only: tuple[str, ...] | None = None, *, in_turn: bool = False
    ) -> Performance:
        self._set_up()
        performance = self.conductor.perform(choose, only, in_turn=in_turn)
        if self.image is not None:
            self.image.note(event.step for event in performance.events)
        self.unheld_sql.check()
        if self.lookout.noted:
            self.ways |= ways_of(performance)
        self.learned.note_written(performance)
        return performance

    def judge(self, performance: Performance) -> Run | None:
        """Return the run with its verdict, or None if the conductor gave it up."""
        if performance.cut:
            return None
        run = self._run_of(performance)
        for doubtful in self._runs_in_doubt(run):
            self._learn_chance(doubtful)
        if self.explorer.serial:
            # This comes last, since it performs other schedules, and so changes the database.
            self._compare_with_serial_orders(run)
        run.outcome = self._outcome(run)
        self.judged_by.add(self.learned.size)
        return run

    def _runs_in_doubt(self, run: Run) -> list[Run]:
        """Runs that must be performed again, by what the sessions do in this one."""
        doubtful = self.habits.runs_in_doubt(run, self.learned.by_type)
        reference = self.reference
        if reference is not None and reference.choices == run.choices:
            doubtful += [reference] * (self._outcome(reference) != self._outcome(run))
        return doubtful

    def try_serial_orders(self, result: Result) -> None:
        """See whether it breaks without any race, too.

        No schedule shows that for certain: Python before the first steps may have raced in it.
        """
        if self.explorer.invariant is None or not result.broken or result.serial_broken:
            return
        for order in itertools.islice(itertools.permutations(self.names), MOST_ORDERS):
            result.serial_runs.append(self._run_of(self.perform_serially(order)))

    def review(self, result: Result) -> None:
        """Perform the first schedule once more, and the shortest that is broken.

        Raises Unrepeatable if they don't end as before. Judges all runs by what is known now.
        """
        if result.runs:
            self._learn_chance(result.runs[0])
            self._judge_again(result.runs)
        if result.shortest is not None and result.shortest not in self.confirmed:
            self._learn_chance(result.shortest)
            self._judge_again(result.runs)
        if self.explorer.serial:
            for sentence in notes_on(self.learned, self.server.tables):
                result.note(sentence)

    def sample(
        self,
        result: Result,
        samples: int,
        limit: Limit,
        source: random.Random,
        max_preemptions: int | None,
    ) -> None:
        """Perform schedules drawn at random that weren't performed yet."""
        steps = max((run.choices.count(n) for run in result.runs for n in self.names), default=0)
        for _ in range(samples):
            if limit.ends_sampling(result):
                break
            performance = self.perform(AtRandom(source, max_preemptions, steps).choose)
            if result.find(performance.choices) is None:
                result.add(self.judge(performance), performance.cut)
                result.sampled += 1

    def look_where_serial_orders_never_went(self, runs: list[Run]) -> None:
        """Perform runs once more to note clock and caches: the first with each way of a session."""
        if self.lookout.has_nothing_to_note:
            return
        most = min(LOOKS + len(runs) // 10, MOST_LOOKS)
        again: list[tuple[Run, set[str]]] = []
        for run in runs:
            new = ways_of(run.performance) - self.ways
            if new and len(again) < most:
                self.ways |= new
                again.append((run, {way[0] for way in new}))
        for run, self.lookout.noted in again:
            with contextlib.suppress(ImpossibleSchedule):
                self.perform(Given(run.choices).choose)
        self.lookout.noted = ()

    def note_in_result(self) -> None:
        """Say in the result what no schedule shows."""
        if self.result is None:
            return
        runs, exhaustive = self.result.runs, self.result.exhaustive
        failing = notes_on_failing(runs, exhaustive=exhaustive)
        own = [*self.lookout.notes(), *self.unheld_sql.notes(), *self.cold_notes]
        for note in [*own, *self.ties.notes(), *notes_on_ended(runs), *failing]:
            self.result.note(note)
        if not self.result.notes:  # else they say what may race besides rows, or what fails
            for note in notes_on_no_change(runs):
                self.result.note(note)
        if self.invariant_is_silent and self.result.not_serializable:
            self.result.note(
                "The invariant returned None in every schedule, and no assert in it failed, so it "
                f"holds; but {len(self.result.not_serializable)} of "
                f"{counted(len(runs), 'schedule')} end like no serial order. If it has no assert, "
                "it lacks a return."
            )

    def should_reduce(self, max_preemptions: int | None, budget: int) -> bool:
        """Whether to leave out equal schedules, if the caller doesn't say."""
        return (
            self.learned.upper_bound > budget
            and max_preemptions is None
            and self.isolation == READ_COMMITTED
            and not self.learned.asks_for_snapshot
        )

    def check_read_committed(self) -> None:
        if self.isolation != READ_COMMITTED:
            raise Misuse(
                f"reduce=True is right at READ COMMITTED only, and this is {self.isolation}."
            )
        if self.learned.asks_for_snapshot:
            raise Misuse(
                "reduce=True is right at READ COMMITTED only, and a session sets another level."
            )

    def perform_serially(self, order: tuple[str, ...], *, in_turn: bool = True) -> Performance:
        """Perform a serial order; if not ``in_turn``, let all begin, up to their first step.

        That is how schedules begin, whose first one must be like it.
        """
        performance = self.perform(Serially(order).choose, order, in_turn=in_turn)
        if performance.cut:
            raise Misuse(
                f"Alone, one session after the other, {performance.cut}. Give it fewer, or raise "
                "max_steps."
            )
        self.learned.note_steps(event.step for event in performance.events)
        return performance

    def _perform_twice(self, order: tuple[str, ...], *, in_turn: bool = True) -> Run:
        """Perform a serial order twice, and learn which values differ by chance."""
        latest = self._serial_run(order, in_turn=in_turn)

        def perform_again() -> Run:
            nonlocal latest
            before, latest = latest, self._serial_run(order, in_turn=in_turn)
            check_repeated(before.performance, latest.performance, by_type=order)
            self.learned.learn_noise(before.ending, latest.ending)
            return latest

        return self._tried(perform_again)

    def _learned_ending_of(self, order: tuple[str, ...]) -> Ending:
        return self._perform_twice(order).ending

    def _serial_ending_of(self, order: tuple[str, ...]) -> Ending:
        return self._serial_run(order).ending

    def _serial_run(self, order: tuple[str, ...], *, in_turn: bool = True) -> Run:
        performance = self.perform_serially(order, in_turn=in_turn)
        ending = self._ending_of(performance)
        return Run(performance, 0, ending.results, before="", after="", ending=ending)

    def _perform_again(self, run: Run) -> Run:
        """Perform a schedule once more. Raises Unrepeatable if other statements come of it."""

        def perform() -> Performance:
            if run.is_serial:
                performance = self.perform_serially(run.order)
            else:
                way = retraced(run.performance.points)
                performance = self.perform(way.choose)
                way.check_followed(performance)
            check_repeated(run.performance, performance, by_type=self.names)
            return performance

        return self._run_of(self._tried(perform))

    def _tried(self, perform: Callable[[], T]) -> T:
        """Try again if it is unrepeatable: others may use the database."""
        for tries_left in reversed(range(TRIES)):
            try:
                return perform()
            except Unrepeatable:
                if not tries_left:
                    raise
                self.retried += 1
        raise AssertionError("the last try returns or raises")

    def _set_up(self) -> None:
        """Bring caches, chance and the database to the state in which every schedule begins."""
        explorer = self.explorer
        self._bring_back()
        self.start.look()
        self.before = explorer.describe() if explorer.describe else ""
        random.seed(explorer.seed)

    def _bring_back(self) -> None:
        explorer = self.explorer
        if explorer.clear_caches:
            clear_caches()
        random.seed(explorer.seed)
        if self.image is not None:
            self.image.restore()
        else:
            self._run_setup()
            if explorer.image:
                self.image = Image(self.server, explorer.using)
                if explorer.clear_caches:
                    clear_caches()  # as for the other schedules, before which setup isn't called
        prepare(explorer.sessions)

    def _run_setup(self) -> None:
        try:
            self.explorer.setup()
        except RacesError:
            raise
        except Exception as error:
            error.add_note(
                "This was setup(), which runs before every schedule: it must first clear what an "
                "earlier one left."
                if self.has_set_up
                else "This was setup(), before the first schedule."
            )
            raise
        self.has_set_up = True
        if connections[self.explorer.using].in_atomic_block:
            raise Misuse("setup() must commit: it left a transaction open.")

    def _run_of(self, performance: Performance) -> Run:
        """The performance with its end. The database must still be as it left it."""
        explorer = self.explorer
        ending = self._ending_of(performance)
        run = Run(
            performance,
            preemptions=preemptions_in(performance.points),
            results=ending.results,
            before=self.before,
            after=explorer.describe() if explorer.describe else "",
            ending=ending,
            outcome=self.learned.outcome_of(ending),
        )
        if explorer.invariant is not None:
            run.broken = self._verdict(explorer.invariant, run)
        return run

    def _verdict(self, invariant: Callable[[Run], object], run: Run) -> str | None:
        """Return the reason why the invariant does not hold, or None if it holds."""
        try:
            holds = invariant(run)
        except AssertionError as error:
            self.invariant_is_silent = False
            return str(error).strip() or "The invariant does not hold."
        self.invariant_is_silent &= holds is None
        return "The invariant does not hold." if holds is False else None

    def _ending_of(self, performance: Performance) -> Ending:
        state = self.explorer.state
        return Ending(
            results=results_of(performance),
            types=results_of(performance, by_type=self.names),
            tables={}
            if state
            else self.start.rows_of_schedule(self.snapshots.contents(self.learned.tables)),
            own_state=repr(state()) if state else None,
        )

    def _compare_with_serial_orders(self, run: Run) -> None:
        run.is_serializable = self._is_like_a_serial_order(run)
        if self.explorer.invariant is None:
            run.broken = None if run.is_serializable else UNLIKE_ANY

    def _is_like_a_serial_order(self, run: Run) -> bool:
        """Whether it ends so. If not, perform it again: the difference may be chance."""
        orders, gone = self.serial_orders, undone(run.performance)
        if self.learned.tables - self.learned.start.keys():
            self._set_up()  # to see the tables that nobody had written so far
        if orders.include(run.ending, gone):
            return True
        if orders.is_odd(run.ending):
            return False
        for _ in range(1 if self.learned.odd else CONFIRMATIONS):
            self._learn_chance(run)
            if orders.include(run.ending, gone):
                return True
        orders.renew(run.ending, gone)
        if orders.include(run.ending, gone):
            return True
        orders.add_odd(run.ending)
        return False

    def _learn_chance(self, run: Run) -> None:
        """Perform the schedule once more, and learn which values differ by chance.

        Raises Unrepeatable if other statements come of it; if it ends in another way, and in that
        way ever after: chance and a clock would be different again; or if the invariant changes
        its mind.
        """
        again = self._perform_again(run)
        if self._outcome(again) != self._outcome(run):
            others = [self._perform_again(run) for _ in range(REPEATS)]
            if all(self._outcome(other) == self._outcome(again) for other in others):
                time.sleep(TICK)
                others.append(self._perform_again(run))
            if all(self._outcome(other) == self._outcome(again) for other in others):
                check_repeated(run.performance, again.performance, self.learned.by_type)
                check_same_end(self._outcome(run), self._outcome(again))
            for other in (again, *others):
                self.learned.learn_noise(run.ending, other.ending)
        is_judged = self.explorer.invariant is not None and run is not self.reference
        if is_judged and (run.broken is None) != (again.broken is None):
            raise Unrepeatable(
                f"The schedule {run.schedule} was performed again, and the invariant answered "
                f"otherwise:\n"
                f"  it was {run.broken or 'true'}\n"
                f"  it is  {again.broken or 'true'}"
            )
        self.confirmed.add(run)

    def _outcome(self, run: Run) -> Outcome:
        return self.learned.outcome_of(run.ending)

    def _judge_again(self, runs: list[Run]) -> None:
        """Judge the runs by all that is known now, if that is more than what was known then."""
        while self.judged_by != {self.learned.size}:
            self.judged_by = {self.learned.size}
            for run in runs:
                if run.is_serializable is False:
                    self._compare_with_serial_orders(run)
                run.outcome = self._outcome(run)


def prepare(sessions: Mapping[str, Call]) -> None:
    """Prepare those sessions that have a method for it, as requests have."""
    for call in sessions.values():
        if hasattr(call, "prepare"):
            call.prepare()


def check_same_end(before: Outcome, now: Outcome) -> None:
    """Raise Unrepeatable if two performances of the same schedule ended in different states."""
    if before.state != now.state:
        raise Unrepeatable(
            f"The same schedule ended in another state when it was performed again:\n"
            f"{difference(before, now)}"
        )


Way = tuple[str, tuple[object, ...]]
"""A session, and its statements with their outcomes, on which its Python depends."""


def ways_of(performance: Performance) -> set[Way]:
    """The way of each session."""
    ways: dict[str, list[object]] = {}
    for event in performance.events:
        step = event.step
        ways.setdefault(step.session, []).append((step.sql, step.rows, step.sqlstate))
    return {(name, tuple(steps)) for name, steps in ways.items()}
