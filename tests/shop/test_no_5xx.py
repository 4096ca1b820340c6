"""No request ends in a 5xx, however odd it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tools import fuzz

SEED = 1


@pytest.mark.longest
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_thousand_odd_requests(settings: Any, tmp_path: Path) -> None:
    """``python -m tests.tools.fuzz`` sends more of them to a web server."""
    settings.MEDIA_ROOT = str(tmp_path)
    settings.DEMO = True  # it has all pages
    kinds, broken = fuzz.run(fuzz.make_world(), fuzz.ask_in_process, range(1000), SEED)
    assert not broken, "\n\n".join(broken)
    assert kinds["2xx"] > 50  # some are not so odd
    assert kinds["4xx"] > 50
