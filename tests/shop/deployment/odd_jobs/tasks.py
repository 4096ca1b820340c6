"""Jobs of a worker that is watched."""

from __future__ import annotations

import time
from pathlib import Path

from procrastinate.contrib.django import app


@app.task
async def hang_event_loop() -> None:
    time.sleep(3600)


@app.task
def take_a_while(begun: str, may_end: str) -> None:
    """Make the first file, and wait for the second."""
    Path(begun).touch()
    while not Path(may_end).exists():
        time.sleep(0.05)
