"""Measure the speed of each strategy, compared with the costs of PostgreSQL and Django alone."""

from __future__ import annotations

from argparse import ArgumentParser

from inventory.experiments.benchmark.run import Parameters
from inventory.experiments.benchmark.shapes import SHAPES
from inventory.experiments.management.benchmarks import BenchmarkCommand


class Command(BenchmarkCommand):
    help = (
        "Measure how many purchases a second each safe strategy makes, and how long they take. "
        "Compare them with two ceilings: writing the reservation without a guard, and reading the "
        "product. All take turns, round after round, on products made for it. The law is checked "
        "after each turn. Exits 1 if the law is broken, or if a buyer got no answer."
    )
    default = Parameters()

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--shape",
            action="append",
            default=[],
            metavar="NAME",
            help="measure only this shape; can be repeated. Shapes: "
            + "; ".join(f'"{shape.name}", {shape.description}' for shape in SHAPES.values()),
        )
        parser.add_argument(
            "--rate",
            type=int,
            default=self.default.rate,
            help="buyers a second in the open loop (%(default)s)",
        )
