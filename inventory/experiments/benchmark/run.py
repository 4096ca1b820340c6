"""The rounds of a benchmark. In each round all rows take turns, so noise hits all of them alike."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from inventory import strategies
from inventory.exceptions import InventoryError
from inventory.experiments.benchmark import rows, shapes
from inventory.experiments.benchmark.buyers import Load, Measurement, measure
from inventory.experiments.benchmark.rows import INSERT_ONLY, READ_ONLY
from inventory.experiments.benchmark.shapes import SHAPES, Shape, exhibits, keeps_law
from inventory.experiments.load import NotReady, Processes, processes
from inventory.experiments.parameters import InvalidParameters, check_within
from inventory.models import Product

MOST_BUYERS = 4096
MOST_ROUNDS = 1000
MOST_SECONDS = 600.0
MOST_PROCESSES = 64
MOST_PER_SECOND = 1_000_000


@dataclass(frozen=True)
class Course:
    """The rows of a benchmark, and their products."""

    make_row: Callable[[str], rows.Row]
    """Makes the row of that name. The function must be picklable."""
    make_products: Callable[[Shape, str, str], AbstractContextManager[list[Product]]]
    """Makes the products for a shape and a row, for the length of a block; given a name for their
    SKUs."""
    ceilings: tuple[str, str]
    """The rows that all others are compared with: one only inserts, and one only reads."""
    notes: Sequence[str]
    """Sentences below the tables on how to read them."""
    more_rows: Sequence[str] = ()
    """More rows that are always measured."""


def _exhibits_for(shape: Shape, row: str, name: str) -> AbstractContextManager[list[Product]]:
    return exhibits(shape, name)


DIRECT = Course(
    rows.make_row,
    _exhibits_for,
    ceilings=(INSERT_ONLY, READ_ONLY),
    notes=(
        "insert only writes the same reservation and guards nothing; read only reads the product.",
        "Closed loop: each buyer comes again as soon as served. More than 64 share 64 connections.",
    ),
)


class BenchmarkError(InventoryError):
    """The benchmark could not run. The message says why."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a benchmark. Raises InvalidParameters, UnknownStrategy."""

    rows: Sequence[str] = ()
    """Slugs of strategies; if empty, all safe ones. The ceilings are always measured."""
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
        for name in self.rows:
            if name not in (*self.course.ceilings, *self.course.more_rows):
                strategies.get(name)
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
        chosen = self.rows or rows.candidates()
        return list(dict.fromkeys([*self.course.ceilings, *self.course.more_rows, *chosen]))

    def chosen_shapes(self) -> list[Shape]:
        return [shape for name, shape in SHAPES.items() if not self.shapes or name in self.shapes]

    def loads(self, shape: Shape) -> list[Load]:
        """The loads of this shape, in the order of their turns."""
        times = {"seconds": self.seconds, "warm_up": self.warm_up}
        if shape.is_open:
            return [Load(self.processes * self.threads, rate=self.rate, **times)]
        return [Load(number, **times) for number in dict.fromkeys(self.buyers)]

    def number_of_turns(self) -> int:
        """The number of turns: one for each round, row, shape and load."""
        cells = sum(len(self.loads(shape)) for shape in self.chosen_shapes())
        return self.rounds * cells * len(self.chosen_rows())

    def estimated_minutes(self) -> float:
        """The approximate duration of the benchmark."""
        return self.number_of_turns() * (self.seconds + self.warm_up + 0.3) / 60


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
    def failed(self) -> int:
        return sum(measured.failed for measured in self.rounds)

    @property
    def first_error(self) -> str:
        return next((measured.first_error for measured in self.rounds if measured.first_error), "")

    @property
    def law_holds(self) -> bool:
        return all(self.law_held)


class Progress(Protocol):
    """Called before a row's turn, with the round (from 1)."""

    def __call__(self, result: Result, round_: int) -> object: ...


def empty_results(parameters: Parameters) -> list[Result]:
    """A result for every row under every load, without measurements."""
    return [
        Result(shape.name, row, load, guards=parameters.course.make_row(row).guards)
        for shape in parameters.chosen_shapes()
        for load in parameters.loads(shape)
        for row in parameters.chosen_rows()
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
        with processes(parameters.processes, f"benchmark {run_name}") as started:
            for round_ in range(1, parameters.rounds + 1):
                for shape in parameters.chosen_shapes():
                    results_of_shape = [result for result in results if result.shape == shape.name]
                    progress_of_round = partial(progress, round_=round_)
                    _run_round(
                        started,
                        parameters.course,
                        shape,
                        results_of_shape,
                        f"{run_name}-{round_}",
                        progress_of_round,
                    )
    except NotReady as error:
        raise BenchmarkError(str(error)) from error
    finally:
        _set_ratios(results, parameters.course.ceilings)


def _run_round(
    started: Processes,
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
            measured = measure(
                started,
                partial(course.make_row, result.row),
                products_of_row,
                result.load,
                is_sold_out=shape.is_sold_out,
            )
            result.law_held.append(keeps_law(products_of_row))
            result.rounds.append(measured)


def _set_ratios(results: list[Result], ceilings: Sequence[str]) -> None:
    """Compare every row with the ceilings of the same shape, load and round."""
    found = {(result.shape, result.load, result.row): result for result in results}
    for result in results:
        for name in ceilings:
            ceiling = found[result.shape, result.load, name]
            ratios = [
                ours.per_second / theirs.per_second
                for ours, theirs in zip(result.rounds, ceiling.rounds, strict=False)
                if theirs.per_second
            ]
            if ratios:
                result.ratios_to_ceilings[name] = statistics.median(ratios)
