"""How fast each strategy is, set against what PostgreSQL and Django cost anyway."""

from __future__ import annotations

from argparse import ArgumentParser

from inventory.experiments.benchmark.run import Parameters
from inventory.experiments.benchmark.shapes import SHAPES
from inventory.experiments.management.benchmarks import BenchmarkCommand


class Command(BenchmarkCommand):
    help = (
        "Measure how many purchases a second each safe strategy makes, and how long they take, "
        "beside two ceilings: writing the reservation without a guard, and reading the product. "
        "All take turns, round after round, on products made for it; the law is checked after "
        "each turn. Exits 1 if it is broken, or a buyer got no answer."
    )
    default = Parameters()

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--shape",
            action="append",
            default=[],
            metavar="NAME",
            help="only this one; may be given again. There are: "
            + "; ".join(f'"{shape.name}", {shape.words}' for shape in SHAPES.values()),
        )
        parser.add_argument(
            "--rate",
            type=int,
            default=self.default.rate,
            help="of the open loop, buyers a second (%(default)s)",
        )
