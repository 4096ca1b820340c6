"""Shared by the drills: options, figures in words, products, and the crowd of buyers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import NoReturn

import django

from inventory.races.management import output

whole_number = output.whole_number(1, 10_000)
"""A type for argparse: a number of things."""


class ErrorsFirstParser(argparse.ArgumentParser):
    """A parser whose errors are a sentence, without a list of all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(output.USAGE_ERROR, f"{self.prog}: error: {message}\nSee {self.prog} --help.\n")


class Disagreement(Exception):
    """A drill has found something wrong; the message says what and where."""


def unwind_on_sigterm() -> None:
    """Let SIGTERM end the program by an exception: what the program has started ends, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def run_on_scratch_database(drill: Callable[[], object], seed: int) -> None:
    """Run a drill as a program, and print the figures that it returns."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    django.setup()
    from inventory.races.scratch import scratch_database

    unwind_on_sigterm()
    try:
        with scratch_database():
            print(drill())
    except KeyboardInterrupt:
        sys.exit("Broken off. Everything that was started has ended.")
    except Disagreement as error:
        sys.exit(f"seed {seed}: {error}")


def in_words(numbers: Counter[str]) -> str:
    """Such as ``cancelled 3, paid 7``."""
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items()))


class Crowd:
    """The buyers: some at a time, each in a thread. They come as they are let in."""

    def __init__(self, come: Callable[[int], object], number: int, at_once: int) -> None:
        """``come`` is called with the number of each buyer, from 0; at most ``number`` come."""
        self._come = come
        self._buyers = iter(range(number))
        self._allowed = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        # If the drill is broken off, nobody waits for them.
        self._threads = [
            threading.Thread(target=self._let_come, daemon=True) for _ in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def let_in(self, number: int) -> None:
        """Let so many more buyers come."""
        self._allowed.release(number)

    def close(self) -> None:
        """Let nobody in any more."""
        with self._lock:
            self._buyers = iter(())
        self._allowed.release(len(self._threads))

    def let_in_rest(self) -> None:
        """Let in all who haven't come."""
        self._allowed.release(10**6)

    def is_done(self) -> bool:
        """Whether all have gone."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Wait until all have gone. Raises Disagreement if one of them couldn't do all it wanted.

        Call ``close`` or ``let_in_rest`` first.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            words = f"{len(self._errors)} buyers gave up; the first of them: {self._errors[0]}"
            raise Disagreement(words) from self._errors[0]

    def _let_come(self) -> None:
        while True:
            self._allowed.acquire()
            with self._lock:
                number = next(self._buyers, None)
            if number is None:
                return
            try:
                self._come(number)
            except Exception as error:
                self._errors.append(error)


def make_product(
    slug: str, units: int, *, price: Decimal = Decimal("7.35"), strategy: str = "", **more: int
) -> None:
    """Make a product of so many units."""
    from inventory import stock
    from inventory.models import Product

    product = Product.objects.create(
        sku=slug, slug=slug, name=slug, price=price, strategy=strategy, **more
    )
    stock.receive(product, units)
