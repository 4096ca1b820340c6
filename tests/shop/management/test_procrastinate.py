"""The shop's command for workers refuses what a worker can't do."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command


@pytest.mark.parametrize("number", ["0", "-1"])
def test_a_worker_that_would_do_no_job(number: str) -> None:
    with pytest.raises(CommandError, match=f"concurrency: must be 1 or more, not {number}") as end:
        call_command("procrastinate", "worker", "--concurrency", number)
    assert end.value.returncode == 2
