"""The rounds of a benchmark. In each round all rows take turns, so noise hits all of them alike."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from inventory import strategies
from inventory.exceptions import InventoryError
from inventory.experiments.benchmark import rows, shapes
from inventory.experiments.benchmark.buyers import Load, Measurement, measure
from inventory.experiments.benchmark.rows import INSERT_ONLY, READ_ONLY
from inventory.experiments.benchmark.shapes import SHAPES, Shape, exhibits, keeps_law
from inventory.experiments.load import NotReady, processes
from inventory.experiments.parameters import InvalidParameters, check_within
from inventory.models import Product

MOST_BUYERS = 4096
MOST_ROUNDS = 1000
MOST_SECONDS = 600.0
MOST_PROCESSES = 64
MOST_PER_SECOND = 1_000_000
# These insert for one buyer after the other, as the ceiling does, and guard the stock as well.
ONE_AT_A_TIME = ("mutex", "select_for_update", "conditional_update", "single_statement")
COLLAPSED = 0.5  # a ceiling below this part of the rate that it must have is none


class Measure(Protocol):
    """Let buyers run a row on these products. Raises NotReady."""

    def __call__(
        self, row: str, products: list[Product], load: Load, *, is_sold_out: bool
    ) -> Measurement: ...


@dataclass(frozen=True)
class Comparison:
    """Two rows, each with a number of buyers, and the words for them in the report."""

    words: str
    row: str
    buyers: int
    other_row: str
    other_buyers: int


@dataclass(frozen=True)
class Course:
    """The rows of a benchmark, their products, and their buyers."""

    choose_rows: Callable[[Sequence[str]], list[str]]
    """The rows that these names mean, in the order of their turns. Without names, all rows.

    Raises UnknownStrategy, InvalidParameters."""
    guards: Callable[[str], bool]
    """Whether this row guards the stock at all."""
    buyers: Callable[[int, str], AbstractContextManager[Measure]]
    """Makes the buyers, in so many processes, for the length of a block; given a name for their
    connections."""
    make_products: Callable[[Shape, str, str], AbstractContextManager[list[Product]]]
    """Makes the products for a shape and a row, for the length of a block; given a name for their
    SKUs."""
    notes: Sequence[str]
    """Sentences below the tables on how to read them."""
    ceilings: Sequence[str] = ()
    """The rows that all others are compared with. There are none, or one that only inserts and
    one that only reads."""
    keeps_law: Callable[[str, list[Product]], bool] = lambda row, products: keeps_law(products)
    """Whether every unit of the row's products is accounted for."""
    has_turn: Callable[[str, Load], bool] = lambda row, load: True
    """Whether this row is measured under this load."""
    comparisons: Sequence[Comparison] = ()
    generator: str = ""
    """The load generator, such as "wrk 4.1.0". Empty: buyers in processes of ours."""
    seconds_between_turns: float = 0.3
    """Roughly, for the estimate of the duration."""


def _rows_to_measure(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in (INSERT_ONLY, READ_ONLY):
            strategies.get(name)
    return list(dict.fromkeys([INSERT_ONLY, READ_ONLY, *(names or rows.candidates())]))


def _exhibits_for(shape: Shape, row: str, name: str) -> AbstractContextManager[list[Product]]:
    return exhibits(shape, name)


@contextmanager
def buyers_in_processes(
    number: int, name: str, make_row: Callable[[str], rows.Row]
) -> Iterator[Measure]:
    """Start processes of buyers for the length of a block. ``make_row`` must be picklable."""
    with processes(number, name) as started:

        def measure_row(
            row: str, products: list[Product], load: Load, *, is_sold_out: bool
        ) -> Measurement:
            made = partial(make_row, row)
            return measure(started, made, products, load, is_sold_out=is_sold_out)

        yield measure_row


DIRECT = Course(
    choose_rows=_rows_to_measure,
    guards=lambda row: rows.make_row(row).guards,
    buyers=partial(buyers_in_processes, make_row=rows.make_row),
    make_products=_exhibits_for,
    ceilings=(INSERT_ONLY, READ_ONLY),
    notes=(
        "insert only writes the same reservation and guards nothing; read only reads the product.",
        "Closed loop: each buyer comes again as soon as served. More than 64 share 64 connections. "
        "A ceiling has 64 buyers at the most: more threads would only slow it down.",
    ),
)


class BenchmarkError(InventoryError):
    """The benchmark could not run. The message says why."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a benchmark. Raises InvalidParameters, UnknownStrategy."""

    rows: Sequence[str] = ()
    """Names of the course's rows; if empty, all. The ceilings are always measured."""
    shapes: Sequence[str] = ()
    """Names of shapes; if empty, all."""
    buyers: Sequence[int] = (16, 64, 256, 1024)
    """Buyers at once in the closed loop, in all processes together; one load for each number."""
    rate: int = 1000
    """Buyers a second in the open loop."""
    processes: int = 4
    threads: int = 16
    """Threads of each process in the open loop."""
    rounds: int = 5
    seconds: float = 1.0
    """Seconds for which each row is measured in a round."""
    warm_up: float = 0.5
    """Seconds for which each row runs before it is measured."""
    course: Course = DIRECT

    def __post_init__(self) -> None:
        self.course.choose_rows(self.rows)
        for name in self.shapes:
            if name not in SHAPES:
                raise InvalidParameters(
                    f"shape: there is no “{name}”; there are {', '.join(SHAPES)}."
                )
        for number in self.buyers:
            check_within("buyers", number, 1, MOST_BUYERS)
        check_within("rate", self.rate, 1, MOST_PER_SECOND)
        check_within("processes", self.processes, 1, MOST_PROCESSES)
        check_within("threads", self.threads, 1, MOST_BUYERS)
        check_within("rounds", self.rounds, 1, MOST_ROUNDS)
        check_within("seconds", self.seconds, 0.01, MOST_SECONDS)
        check_within("warm-up", self.warm_up, 0, MOST_SECONDS)

    def chosen_rows(self) -> list[str]:
        """The rows in the order of their turns, the ceilings first."""
        return self.course.choose_rows(self.rows)

    def chosen_shapes(self) -> list[Shape]:
        return [shape for name, shape in SHAPES.items() if not self.shapes or name in self.shapes]

    def loads(self, shape: Shape) -> list[Load]:
        """The loads of this shape, in the order of their turns."""
        times = {"seconds": self.seconds, "warm_up": self.warm_up}
        if shape.is_open:
            return [Load(self.processes * self.threads, rate=self.rate, **times)]
        return [Load(number, **times) for number in dict.fromkeys(self.buyers)]

    def cells(self) -> list[tuple[Shape, Load, str]]:
        """Each shape, load and row that has a turn in a round, in the order of the turns."""
        return [
            (shape, load, row)
            for shape in self.chosen_shapes()
            for load in self.loads(shape)
            for row in self.chosen_rows()
            if self.course.has_turn(row, load)
        ]

    def number_of_turns(self) -> int:
        """The number of turns: one for each round, row, shape and load."""
        return self.rounds * len(self.cells())

    def estimated_minutes(self) -> float:
        """The approximate duration of the benchmark."""
        between = self.course.seconds_between_turns
        return self.number_of_turns() * (self.seconds + self.warm_up + between) / 60


@dataclass
class Result:
    """A row under one load: its measurement in each round, and its ratios to the ceilings."""

    shape: str
    row: str
    load: Load
    guards: bool
    rounds: list[Measurement] = field(default_factory=list)
    law_held: list[bool] = field(default_factory=list)
    ratios_to_ceilings: dict[str, float] = field(default_factory=dict)
    """The medians of the rounds' ratios of ``per_second``, by the ceiling's name."""
    collapsed: str = ""
    """The reason why this row is no ceiling, if it should be one."""

    @property
    def per_second(self) -> float:
        return statistics.median(measured.per_second for measured in self.rounds)

    @property
    def p50_ms(self) -> float:
        return statistics.median(measured.p50_ms for measured in self.rounds)

    @property
    def p99_ms(self) -> float:
        return statistics.median(measured.p99_ms for measured in self.rounds)

    @property
    def server_ms(self) -> float | None:
        return _median([measured.server_ms for measured in self.rounds])

    @property
    def generator_share(self) -> float | None:
        return _median([measured.generator_share for measured in self.rounds])

    @property
    def beside_per_second(self) -> float | None:
        return _median([measured.beside_per_second for measured in self.rounds])

    @property
    def failed(self) -> int:
        return sum(measured.failed for measured in self.rounds)

    @property
    def first_error(self) -> str:
        return next((measured.first_error for measured in self.rounds if measured.first_error), "")

    @property
    def law_holds(self) -> bool:
        return all(self.law_held)


def _median(numbers: Sequence[float | None]) -> float | None:
    """The median of the known numbers; None if there is none."""
    known = [number for number in numbers if number is not None]
    return statistics.median(known) if known else None


class Progress(Protocol):
    """Called before a row's turn, with the round (from 1)."""

    def __call__(self, result: Result, round_: int) -> object: ...


def empty_results(parameters: Parameters) -> list[Result]:
    """A result for every row under every load, without measurements."""
    return [
        Result(shape.name, row, load, guards=parameters.course.guards(row))
        for shape, load, row in parameters.cells()
    ]


def run(
    parameters: Parameters,
    results: list[Result],
    *,
    progress: Progress = lambda result, round_: None,
) -> None:
    """Measure every row under every load, round after round, and add it to ``results``.

    ``results`` come from ``empty_results``. After a break-off they have the measurements until
    then. The products are made for the benchmark, and removed again. Raises BenchmarkError.
    """
    run_name = secrets.token_hex(4)
    try:
        with parameters.course.buyers(parameters.processes, f"benchmark {run_name}") as measure_row:
            for round_ in range(1, parameters.rounds + 1):
                for shape in parameters.chosen_shapes():
                    results_of_shape = [result for result in results if result.shape == shape.name]
                    progress_of_round = partial(progress, round_=round_)
                    _run_round(
                        measure_row,
                        parameters.course,
                        shape,
                        results_of_shape,
                        f"{run_name}-{round_}",
                        progress_of_round,
                    )
    except NotReady as error:
        raise BenchmarkError(str(error)) from error
    finally:
        compare(results, parameters.course.ceilings)


def _run_round(
    measure_row: Measure,
    course: Course,
    shape: Shape,
    results: list[Result],
    name: str,
    progress: Callable[[Result], object],
) -> None:
    """Give each row a turn under each load, on its own products. Check the law after each turn."""
    with ExitStack() as until_the_end:
        products = {
            row: until_the_end.enter_context(course.make_products(shape, row, f"{name}-{index}"))
            for index, row in enumerate(dict.fromkeys(result.row for result in results))
        }
        shapes.tidy_tables()
        for result in results:
            progress(result)
            products_of_row = products[result.row]
            measured = measure_row(
                result.row, products_of_row, result.load, is_sold_out=shape.is_sold_out
            )
            result.law_held.append(course.keeps_law(result.row, products_of_row))
            result.rounds.append(measured)


def compare(results: list[Result], ceilings: Sequence[str]) -> None:
    """Compare the results with the ceilings, except with those that are none."""
    _note_collapsed(results, ceilings)
    _set_ratios(results, ceilings)


def _note_collapsed(results: list[Result], ceilings: Sequence[str]) -> None:
    """Note which ceilings are none: buyers who only get in each other's way measure nothing.

    A ceiling must not be far below its own rate with fewer buyers. And one that only
    inserts must not be far below a strategy that inserts, too, for one buyer at a time.
    """
    for result in results:
        if result.row not in ceilings or not result.rounds or result.load.rate:
            continue
        of_shape = [other for other in results if other.shape == result.shape and other.rounds]
        fewer = [other for other in of_shape if other.load.buyers <= result.load.buyers]
        rivals = [other for other in fewer if other.row == result.row]
        if result.row == INSERT_ONLY and not SHAPES[result.shape].is_sold_out:
            rivals += [
                other for other in fewer if other.load == result.load and other.row in ONE_AT_A_TIME
            ]
        best = max(rivals, key=lambda other: other.per_second)
        if result.per_second < COLLAPSED * best.per_second:
            result.collapsed = (
                f"{result.row} served only {result.per_second:,.0f} of {result.load.buyers:,} "
                f"buyers a second, and {best.row} {best.per_second:,.0f} of "
                f"{best.load.buyers:,}. So it is no ceiling there, and its ratios are left out."
            )


def _set_ratios(results: list[Result], ceilings: Sequence[str]) -> None:
    """Compare every row with the ceilings of the same shape, load and round."""
    found = {(result.shape, result.load, result.row): result for result in results}
    for result in results:
        for name in ceilings:
            ceiling = found[result.shape, result.load, name]
            ratio = median_ratio(result, ceiling, lambda measured: measured.per_second)
            if ratio is not None and not ceiling.collapsed:
                result.ratios_to_ceilings[name] = ratio


def median_ratio(
    ours: Result, theirs: Result, figure: Callable[[Measurement], float | None]
) -> float | None:
    """The median of the rounds' ratios of a figure; None if no round has both figures."""
    pairs = [
        (figure(one), figure(other)) for one, other in zip(ours.rounds, theirs.rounds, strict=False)
    ]
    ratios = [one / other for one, other in pairs if one is not None and other]
    return statistics.median(ratios) if ratios else None
