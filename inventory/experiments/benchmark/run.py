"""Rounds of all rows in turn, so that a noisy machine hurts all alike."""

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
from inventory.experiments.benchmark.buyers import Load, Measured, measure
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
    """Where the rows run: what each one is, and on which products."""

    row: Callable[[str], rows.Row]
    """Makes the row of that name; a function that can be pickled."""
    products: Callable[[Shape, str, str], AbstractContextManager[list[Product]]]
    """Those for a shape and a row, with a name for their SKUs; for the length of a block."""
    ceilings: tuple[str, str]
    """The rows that all are set against: one that only inserts, and one that only reads."""
    how_to_read_it: Sequence[str]
    """What a reader has to know of the figures, beside how they were taken."""
    beside: Sequence[str] = ()
    """More rows that are always measured."""


def _exhibits_for(shape: Shape, row: str, name: str) -> AbstractContextManager[list[Product]]:
    return exhibits(shape, name)


DIRECT = Course(
    rows.row,
    _exhibits_for,
    ceilings=(INSERT_ONLY, READ_ONLY),
    how_to_read_it=(
        "insert only writes the same reservation and guards nothing; read only reads the product.",
        "Closed loops: a buyer comes again as soon as served. More than 64 share 64 connections.",
    ),
)


class BenchmarkError(InventoryError):
    """The benchmark could not be run; the message says why."""


@dataclass(frozen=True)
class Parameters:
    """What is measured, and how long. Raises InvalidParameters, UnknownStrategy."""

    rows: Sequence[str] = ()
    """Strategies; none: all safe ones. The ceilings are always measured."""
    shapes: Sequence[str] = ()
    """Names; none: all."""
    buyers: Sequence[int] = (16, 64, 256, 1024)
    """At once, in all processes together, where each comes again as soon as served."""
    rate: int = 1000
    """Buyers a second in the open loop."""
    processes: int = 4
    threads: int = 16
    """Of each process, in the open loop."""
    rounds: int = 5
    seconds: float = 1.0
    """How long a row is measured in a round."""
    warm_up: float = 0.5
    """How long it runs before that, in seconds."""
    course: Course = DIRECT

    def __post_init__(self) -> None:
        for name in self.rows:
            if name not in (*self.course.ceilings, *self.course.beside):
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
        return list(dict.fromkeys([*self.course.ceilings, *self.course.beside, *chosen]))

    def chosen_shapes(self) -> list[Shape]:
        return [shape for name, shape in SHAPES.items() if not self.shapes or name in self.shapes]

    def loads(self, shape: Shape) -> list[Load]:
        """Who comes, for this shape, one after the other."""
        times = {"seconds": self.seconds, "warm_up": self.warm_up}
        if shape.is_open:
            return [Load(self.processes * self.threads, rate=self.rate, **times)]
        return [Load(number, **times) for number in dict.fromkeys(self.buyers)]

    def turns(self) -> int:
        """How many times a row is measured, in all."""
        cells = sum(len(self.loads(shape)) for shape in self.chosen_shapes())
        return self.rounds * cells * len(self.chosen_rows())

    def minutes(self) -> float:
        """About how long it takes."""
        return self.turns() * (self.seconds + self.warm_up + 0.3) / 60


@dataclass
class Result:
    """A row under one load: what each round measured, and how it stands to the ceilings."""

    shape: str
    row: str
    load: Load
    guards: bool
    rounds: list[Measured] = field(default_factory=list)
    law_held: list[bool] = field(default_factory=list)
    to_ceilings: dict[str, float] = field(default_factory=dict)
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


def planned(parameters: Parameters) -> list[Result]:
    """A result for every row under every load, without anything measured yet."""
    return [
        Result(shape.name, row, load, guards=parameters.course.row(row).guards)
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
    """Measure every row under every load, round after round, into the ``planned`` results.

    Broken off, it leaves in them what was measured until then. The products are made for it, and
    removed again. Raises BenchmarkError.
    """
    run_name = secrets.token_hex(4)
    try:
        with processes(parameters.processes, f"benchmark {run_name}") as started:
            for round_ in range(1, parameters.rounds + 1):
                for shape in parameters.chosen_shapes():
                    of_shape = [result for result in results if result.shape == shape.name]
                    turn = partial(progress, round_=round_)
                    _round(
                        started, parameters.course, shape, of_shape, f"{run_name}-{round_}", turn
                    )
    except NotReady as error:
        raise BenchmarkError(str(error)) from error
    finally:
        _compare(results, parameters.course.ceilings)


def _round(
    started: Processes,
    course: Course,
    shape: Shape,
    results: list[Result],
    name: str,
    progress: Callable[[Result], object],
) -> None:
    """Each row's turn under each load, on products of its own; the law is checked after each."""
    with ExitStack() as until_the_end:
        products = {
            row: until_the_end.enter_context(course.products(shape, row, f"{name}-{place}"))
            for place, row in enumerate(dict.fromkeys(result.row for result in results))
        }
        shapes.tidy_tables()
        for result in results:
            progress(result)
            stock_of = products[result.row]
            measured = measure(
                started,
                partial(course.row, result.row),
                stock_of,
                result.load,
                is_sold_out=shape.is_sold_out,
            )
            result.law_held.append(keeps_law(stock_of))
            result.rounds.append(measured)


def _compare(results: list[Result], ceilings: Sequence[str]) -> None:
    """Set every row against the ceilings of the same shape, load and round."""
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
                result.to_ceilings[name] = statistics.median(ratios)
