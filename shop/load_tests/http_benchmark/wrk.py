"""wrk, a load generator of Debian's: it costs far less than the server that it drives.

It runs the scripts in the directory ``wrk``, which send the forms and count the answers.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent / "wrk"
SECONDS_TO_ANSWER = 60
CONNECTIONS_A_SECOND = 1000  # so many may begin before the rate counts
SECONDS_TO_END = 90  # more than its own time; after them it is killed


class WrkFailed(Exception):
    """wrk could not run. The message says why."""


@dataclass(frozen=True)
class Answers:
    """The answers that buyers got."""

    good: int
    """Answers, or whole purchases, as they must be."""
    per_second: float
    """The rate of the good ones, once all buyers have connected."""
    bad: int
    first_bad: str
    p50_ms: float
    p99_ms: float


def is_installed() -> bool:
    return shutil.which("wrk") is not None


def version() -> str:
    """wrk's name and version, such as "wrk 4.1.0"."""
    shown = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout.split()
    return f"wrk {shown[1].removeprefix('debian/').split('-')[0]}" if len(shown) > 1 else "wrk"


class Wrk:
    """One run of wrk, which begins at once."""

    def __init__(
        self,
        script: str,
        url: str,
        variables: Mapping[str, str],
        *,
        connections: int,
        seconds: float,
        threads: int = 1,
    ) -> None:
        """``variables`` are the script's options. wrk's seconds are whole, and one at least."""
        skip = connections // CONNECTIONS_A_SECOND
        self._seconds = max(1, round(seconds)) + skip
        command = ["wrk", "--threads", str(threads), "--connections", str(connections)]
        command += ["--duration", f"{self._seconds}s", "--timeout", f"{SECONDS_TO_ANSWER}s"]
        command += ["--script", str(SCRIPTS / f"{script}.lua"), url]
        options = {
            "COMMON": str(SCRIPTS / "common.lua"),
            "HOST": url.removeprefix("http://"),
            "SKIP": str(skip),
            "SEED": str(random.randrange(2**30)),
            **variables,
        }
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **{f"BENCHMARK_{name}": each for name, each in options.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches it through us
        )

    def answers(self) -> Answers:
        """Wait for the end. Raises WrkFailed."""
        try:
            output, _ = self._process.communicate(timeout=self._seconds + SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            raise WrkFailed("wrk doesn't end.") from None
        finally:
            self.end()
        lines = output.splitlines() or [""]
        if self._process.returncode or not lines[-1].startswith("{"):
            raise WrkFailed(f"wrk ended with exit code {self._process.returncode}: {output}")
        return Answers(**json.loads(lines[-1]))

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
