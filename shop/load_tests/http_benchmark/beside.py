"""Another checkout of the shop, served beside this one: an earlier commit, for example.

Its own programs make its tables and products, and serve it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from inventory.experiments.benchmark.shapes import PLENTY
from inventory.experiments.parameters import InvalidParameters
from shop.load_tests.serving import Command, NotServed

SECONDS = 300  # for a command of its manage.py
MAKE_PRODUCT = """
from decimal import Decimal
from inventory import reservations, stock
from inventory.models import Product
product = Product.objects.create(sku={slug!r}, slug={slug!r}, name={slug!r}, price=Decimal("9.99"))
stock.receive(product, {units})
if {units} == 1:
    reservations.reserve(product, 1, buyer="an earlier buyer")
"""


@dataclass(frozen=True)
class OtherShop:
    """The checkout in the directory ``root``. Raises InvalidParameters if there is none."""

    root: Path

    def __post_init__(self) -> None:
        for name in ("manage.py", "shop/wsgi.py", "shop/gunicorn_conf.py"):
            if not (self.root / name).is_file():
                raise InvalidParameters(
                    f"beside: {self.root} has no {name}. Give the directory of a checkout of the "
                    "shop, such as a git worktree."
                )

    @property
    def python(self) -> str:
        """Its own interpreter; ours if it has none."""
        own = self.root / ".venv/bin/python"
        return str(own) if own.exists() else sys.executable

    def web_server(self, bind: str) -> Command:
        """The command line of its web server, as this commit has one."""
        has_asgi = (self.root / "shop/asgi.py").exists()
        application = "shop.asgi:application" if has_asgi else "shop.wsgi"
        module = [self.python, "-m", "gunicorn", "-c", "python:shop.gunicorn_conf"]
        return [*module, "--bind", bind, application]

    def migrate(self, database_url: str) -> None:
        self._manage(database_url, "migrate", "--verbosity", "0")

    def make_product(self, database_url: str, slug: str, *, is_sold_out: bool = False) -> None:
        code = MAKE_PRODUCT.format(slug=slug, units=1 if is_sold_out else PLENTY)
        self._manage(database_url, "shell", "--command", code)

    def _manage(self, database_url: str, *arguments: str) -> None:
        """Run its manage.py. Raises NotServed."""
        run = subprocess.run(
            [self.python, "manage.py", *arguments],
            cwd=self.root,
            env={**os.environ, "DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if run.returncode:
            raise NotServed(f"manage.py {arguments[0]} in {self.root} failed: {run.stderr[-2000:]}")
