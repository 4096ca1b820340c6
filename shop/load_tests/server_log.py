"""The log of the programs that a load test runs: shown where something went wrong."""

from __future__ import annotations

from typing import IO

MOST_LINES = 30


def lines_of(log: IO[bytes]) -> list[str]:
    log.seek(0)
    return log.read().decode(errors="replace").splitlines()


def last_traceback(lines: list[str]) -> list[str]:
    """The last traceback in the log, and all after it; empty if there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    return lines[starts[-1] :][:MOST_LINES] if starts else []
