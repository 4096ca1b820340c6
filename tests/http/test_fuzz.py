"""A thousand odd requests find no fault. ``python -m tests.tools.fuzz`` sends more of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from inventory import monitor
from tests.tools.fuzz import changes
from tests.tools.fuzz.drill import Drill
from tests.tools.fuzz.report import report
from tests.tools.fuzz.serving import web_servers

SEED = 1


@pytest.mark.longest
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_thousand_odd_requests(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    settings.DEMO = True  # it has all pages
    settings.BASE_URL = "http://localhost"
    settings.EMAIL_BACKEND = "shop.notifications.outbox.EmailBackend"
    with (
        tempfile.TemporaryFile() as log,
        changes.noted(),
        web_servers(str(tmp_path), log) as servers,
    ):
        results = Drill(servers, SEED).run(range(1000))
    assert not results.found, report(results)
    assert monitor.check() == []
    assert results.kinds["2xx"] > 100  # some are not so odd
    assert results.kinds["3xx"] > 50
    assert results.rows["inventory_reservation"] > 20
    assert results.rows["shop_order"] > 5
