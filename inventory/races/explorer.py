"""``explore``: perform every schedule, and look at each outcome."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from . import schedule
from .coroutines import check_no_loop, waited_for
from .errors import ImpossibleSchedule, Misuse, Unrepeatable
from .memory import Memory
from .options import (
    ISOLATION_LEVELS,
    Call,
    Invariant,
    check_bounds,
    check_callable,
    named,
    no_setup,
    taking_run,
)
from .repeats import check_repeated
from .result import BUDGET, Result, Run
from .search import Given, Search, retraced
from .serial import (
    Learned,
)
from .server import Server
from .stage import Limit, Stage
from .surroundings import (
    check_connection,
    check_transcripts,
    committing_without_sync,
    without_pauses,
)
from .web import clients_keep_to_themselves


def explore(
    sessions: Mapping[str, Call] | Iterable[Call],
    *,
    setup: Call = no_setup,
    invariant: Invariant | None = None,
    describe: Callable[[], str] | None = None,
    state: Callable[[], object] | None = None,
    max_preemptions: int | None = None,
    budget: int = 5000,
    seconds: float | None = None,
    first: bool = False,
    samples: int = 200,
    seed: int = 0,
    reduce: bool | None = None,
    serial: bool = True,
    clear_caches: bool = True,
    isolation: str | None = None,
    using: str = "default",
    step_timeout: float = 10.0,
    max_steps: int = 100,
    image: bool = False,
    clock: bool = False,
    cache: bool = False,
    watch: Callable[[Result], object] = lambda result: None,
) -> Result:
    """Run ``sessions`` in every order of their SQL statements, and return what came of each.

    ``sessions``: functions or coroutine functions, by name, or a list (then named A, B, …). Each
    runs in a thread and a connection of its own, and is stopped before every statement, COMMIT
    and ROLLBACK.
    ``setup``: brings the database to the same state before each schedule, and commits.
    ``invariant``: gets the finished Run, if it takes an argument; the schedule is broken if it
    returns False or raises AssertionError. None holds, so that it may use assert. Without an
    invariant, a schedule is broken if it ends like no serial order.
    ``describe``: a line on the state, for the transcript, before and after.
    ``state``: what to compare with the serial orders; by default all tables that were written.
    ``max_preemptions``: leave schedules out that interrupt sessions more often than that.
    ``budget``: the most schedules to perform, fewest preemptions first. If it isn't enough,
    ``samples`` more are drawn at random from ``seed``.
    ``seconds``: begin no schedule later than that. The result says what was covered until then.
    ``first``: stop at the first broken schedule.
    ``reduce``: leave schedules out that only swap steps which don't concern each other. The same
    outcomes from fewer schedules; at READ COMMITTED only, and without a bound. By default, where
    it is right, and where ``budget`` may be too small for all schedules.
    ``serial``: also look whether each schedule ends like a serial order.
    ``clear_caches``: clear all of Django's caches before each ``setup``.
    ``isolation``: the sessions' level, as “serializable”; by default the connection's.
    ``using``: the database, by alias.
    ``step_timeout``: seconds for a step, after which its session is ended and named.
    ``max_steps``: of one session in one schedule; a session that needs more is cut off.
    ``image``: call ``setup`` once, and bring the rows back that it made before each schedule. That
    is quicker where ``setup`` takes long. It is wrong where ``setup`` sets more than rows.
    ``clock``: make each reading of the clock in Python a step, too, so that other sessions come in
    between. Without it, ``Result.notes`` says where sessions read the clock.
    ``cache``: the same for each operation on one of Django's caches.
    ``watch``: gets the Result before the first schedule. The Result fills up, so that a caller
    who breaks this off still has it.

    The database stays as a schedule left it: the shortest broken one, or else the first. Raises
    RacesError if the sessions can't be explored. An exception that a session raises is a result.
    """
    return Explorer(
        named(sessions),
        setup=setup,
        invariant=invariant,
        describe=describe,
        state=state,
        serial=serial,
        clear_caches=clear_caches,
        isolation=isolation,
        using=using,
        step_timeout=step_timeout,
        max_steps=max_steps,
        image=image,
        clock=clock,
        cache=cache,
    ).explore(
        max_preemptions=max_preemptions,
        budget=budget,
        seconds=seconds,
        first=first,
        samples=samples,
        seed=seed,
        reduce=reduce,
        watch=watch,
    )


def replay(
    schedule: str,
    sessions: Mapping[str, Call] | Iterable[Call],
    *,
    setup: Call = no_setup,
    invariant: Invariant | None = None,
    **options: Any,
) -> Run:
    """Perform one schedule (as ``A*3 B*2 A``) and return how it ended. Options as ``explore``.

    Where the schedule ends before its sessions, they go on without preemption. Raises
    ImpossibleSchedule if a session can't go on where the schedule says so.
    """
    return Explorer(named(sessions), setup=setup, invariant=invariant, **options).replay(schedule)


class Explorer:
    """The sessions, and the options with which schedules are performed and judged."""

    def __init__(
        self,
        sessions: dict[str, Call],
        *,
        setup: Call,
        invariant: Invariant | None = None,
        describe: Callable[[], str] | None = None,
        state: Callable[[], object] | None = None,
        serial: bool = True,
        clear_caches: bool = True,
        isolation: str | None = None,
        using: str = "default",
        step_timeout: float = 10.0,
        max_steps: int = 100,
        image: bool = False,
        clock: bool = False,
        cache: bool = False,
    ) -> None:
        if isolation is not None and isolation.lower() not in ISOLATION_LEVELS:
            raise Misuse(
                f"isolation must be one of {', '.join(ISOLATION_LEVELS)}, not {isolation!r}."
            )
        check_callable("setup", setup)
        for option, call in (("invariant", invariant), ("describe", describe), ("state", state)):
            if call is not None:
                check_callable(option, call)
        self.sessions = sessions
        self.setup = waited_for(setup)
        self.image = image
        self.invariant = waited_for(taking_run(invariant)) if invariant else None
        self.describe = waited_for(describe) if describe else None
        self.state = waited_for(state) if state else None
        self.serial = serial
        self.clear_caches = clear_caches
        self.isolation = isolation.lower() if isolation else None
        self.using = using
        self.step_timeout = step_timeout
        self.max_steps = max_steps
        self.clock = clock
        self.cache = cache
        self.seed = 0
        self.learned = Learned()

    def explore(
        self,
        *,
        max_preemptions: int | None,
        budget: int,
        seconds: float | None,
        first: bool,
        samples: int,
        seed: int,
        reduce: bool | None,
        watch: Callable[[Result], object] = lambda result: None,
    ) -> Result:
        check_bounds(max_preemptions, budget, seconds, samples, seed, reduce)
        self.seed = seed
        limit = Limit(budget, seconds, first)
        with self._ready() as stage:
            result = Result(self, stage.server.version, stage.isolation, broken_off=True)
            watch(result)
            stage.result = result
            stage.warm_up()
            result.upper_bound = self.learned.upper_bound
            if reduce is None:
                reduce = stage.should_reduce(max_preemptions, budget)
            elif reduce:
                stage.check_read_committed()
            search = Search(
                max_preemptions=max_preemptions, reduce=reduce, writes=self.learned.writes
            )
            while not search.is_over and not limit.ends(result):
                walk = search.next()
                performance = stage.perform_branch(walk)
                walk.note_branches(performance)
                result.add(stage.judge(performance), performance.cut)
                result.seconds = limit.seconds_so_far
            result.reduced = reduce
            result.exhaustive = search.is_over and not (search.has_left_out or result.given_up)
            result.complete_up_to = search.complete_up_to
            if result.ended_by == BUDGET:
                stage.sample(result, samples, limit, random.Random(seed), max_preemptions)
            stage.try_serial_orders(result)
            stage.look_where_serial_orders_never_went(result.runs)
            stage.review(result)
            result.retried = stage.retried
        result.broken_off = False
        result.seconds = limit.seconds_so_far
        return result

    def replay(self, wanted: Run | str, expected: Run | None = None) -> Run:
        """Perform a schedule again; raise Unrepeatable if it isn't as ``expected``."""
        recorded = expected or (wanted if isinstance(wanted, Run) else None)
        way = (
            retraced(recorded.performance.points)
            if recorded
            else Given(schedule.parse_schedule(str(wanted), list(self.sessions)))
        )
        with self._ready() as stage:
            stage.warm_up()
            if recorded and recorded.is_serial:
                performance = stage.perform_serially(recorded.order)
            else:
                performance = stage.perform(way.choose)
                way.check_followed(performance)
            run = stage.judge(performance)
        if run is None:
            raise ImpossibleSchedule(f"The schedule doesn't end: {performance.cut}.")
        if recorded:
            check_repeated(recorded.performance, performance, self.learned.by_type)
        return run

    @contextlib.contextmanager
    def _ready(self) -> Iterator[Stage]:
        """Check the connection, open a second one, and switch off pauses and chance."""
        check_transcripts()
        check_no_loop()
        check_connection(self.using)
        chance, memory = random.getstate(), Memory()
        with committing_without_sync(self.using), without_pauses(), clients_keep_to_themselves():
            server = Server(self.using)
            stage = Stage(self, server)
            try:
                with stage.unheld_sql.watching():
                    yield stage
            except Unrepeatable as error:
                advice = memory.advice()
                for note in [*([advice] if advice else []), *stage.ties.notes()]:
                    error.add_note(note)
                raise
            finally:
                stage.note_in_result()
                stage.close()
                server.close()
                random.setstate(chance)
