"""Sending buyers: Locust in a process of its own, which reports the outcome of each buyer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO

from inventory.experiments.flash_sale.buyers import Buyer, Ending, FlashSaleError, Outcome
from shop.load_tests import serving

LOCUSTFILE = "shop/load_tests/locustfile.py"
SECONDS = 600  # for all buyers together
SECONDS_MORE = 60  # for Locust to start and to end


def send(
    host: str,
    product: str,
    buyers: int,
    *,
    think: float,
    own: bool = False,
    served: Callable[[int], object] = lambda number: None,
    outcomes: list[Outcome] | None = None,
) -> list[Outcome]:
    """Send ``buyers`` to ``host`` at once, each for a unit of ``product``; return their outcomes.

    A buyer who is not done after ten minutes has failed. ``served`` is called with the number of
    buyers served since the last call. ``outcomes``, if given, is the list that is filled and
    returned: a caller that breaks this off can still read it.

    Raises FlashSaleError if the buyers can't be sent.
    """
    command = [
        *(sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", "--only-summary"),
        *("--host", host, "--users", str(buyers), "--spawn-rate", str(buyers)),
        *("--run-time", f"{SECONDS}s", "--product", product, "--think", str(think), "--once"),
        *(["--i-own-this-shop"] if own else []),
    ]
    if find_spec("locust") is None:
        raise FlashSaleError("Locust is missing: pip install -r requirements-load.txt")
    outcomes = [] if outcomes is None else outcomes
    with tempfile.TemporaryFile() as log:
        with _locust(command, log) as (locust, lines):
            for line in lines:
                outcomes.append(_outcome(Buyer(len(outcomes), 1), line))
                served(1)
            code = locust.wait(SECONDS_MORE)
        if not outcomes:
            raise FlashSaleError(
                f"The buyers could not be sent: {_last_line(log)} (Locust, {code})"
            )
    if missing := [Buyer(number, 1) for number in range(len(outcomes), buyers)]:
        served(len(missing))
    error = f"no answer within {SECONDS} seconds" if code in (0, 1) else f"Locust ended ({code})"
    outcomes += [Outcome(buyer, Ending.FAILED, error=error) for buyer in missing]
    return outcomes


@contextmanager
def _locust(
    command: list[str], log: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    """Start Locust; yield it, and the text lines of its outcomes. Kill it if it doesn't end."""
    ours, theirs = os.pipe()
    with open(ours) as lines:
        locust = subprocess.Popen(
            [*command, "--outcomes", f"/dev/fd/{theirs}"],
            cwd=serving.ROOT,
            # Locust's own variables are not meant for this sale.
            env={name: os.environ[name] for name in os.environ if not name.startswith("LOCUST_")},
            pass_fds=[theirs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches it through us
        )
        os.close(theirs)
        watch = threading.Timer(SECONDS + SECONDS_MORE, locust.kill)
        watch.start()
        try:
            yield locust, lines
        finally:
            watch.cancel()
            serving.end([locust])


def _outcome(buyer: Buyer, line: str) -> Outcome:
    report = json.loads(line)
    ending = Ending(report["ending"])
    return Outcome(buyer, ending, report["latency"], report["finished"], report["error"])


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "Locust wrote nothing"
