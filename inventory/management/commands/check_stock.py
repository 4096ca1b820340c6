"""Check that every unit is accounted for; with --repair, set the counts right."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from inventory import alerts, monitor, stock
from inventory.law import LAW
from inventory.management import tables
from inventory.management.base import FoldingCommand
from inventory.management.folding import folded
from inventory.models import Product
from inventory.words import counted


class Command(FoldingCommand):
    help = (
        f"Check the law of stock, {LAW}, for every product, "
        "and raise alerts for products that break it. Exits 1 if there are any."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--exhibits", action="store_true", help="check the exhibits of flash sales, too"
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="set wrong stock to received - held - sold; an oversold product stays oversold "
            "until units are received or orders cancelled",
        )

    def handle(self, *, exhibits: bool, repair: bool, **options: Any) -> None:
        tables.ensure(self.stderr.write)
        broken = alerts.check_all(exhibits=exhibits)
        if repair and broken:
            self.repair(broken)
            broken = alerts.check_all(exhibits=exhibits)
        for state in broken:
            self.stdout.write(folded(str(state)))
        if broken:
            products = counted(len(broken), "product breaks", "products break")
            self.stdout.write(self.style.ERROR(f"{products} the law of stock."))
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("Every unit is accounted for."))

    def repair(self, broken: list[monitor.StockState]) -> None:
        for state in broken:
            movement = stock.repair(
                Product.objects.get(pk=state.product_id), note="check_stock --repair"
            )
            if movement is not None:
                self.stdout.write(
                    f"{state.sku}: stock {movement.stock_before} → {movement.stock_after}"
                )
