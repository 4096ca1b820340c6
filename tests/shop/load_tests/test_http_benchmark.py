"""`manage.py http_benchmark` as people run it. The speeds differ each time, and are not tested."""

from __future__ import annotations

import io
import json
from typing import Any

import psutil
import pytest
from django.core.management import CommandError, call_command

from inventory.experiments.benchmark import rows
from inventory.models import Product

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SHORT = ["--rounds", "1", "--seconds", "0.3", "--warm-up", "0.05", "--threads", "4"]


def http_benchmark(*arguments: str) -> str:
    out = io.StringIO()
    call_command("http_benchmark", *SHORT, *arguments, stdout=out)
    return out.getvalue()


def results_of(*arguments: str) -> dict[str, dict[str, Any]]:
    results = json.loads(http_benchmark("--quiet", "--json", "-", *arguments))["results"]
    return {each["row"]: each for each in results}


def test_every_safe_strategy_reserves_through_the_form_and_keeps_the_law() -> None:
    found = results_of("--buyers", "2")
    assert list(found) == ["insert only", "stock fragment", "product page", *rows.candidates()]
    for row, result in found.items():
        assert result["failed"] == 0, result
        assert result["per_second"] > 0
        assert result["law_holds"] is (row != "insert only")  # it takes no stock for its holds
        assert result["buyers"] == 2
    assert found["insert only"]["to_insert_only"] == found["stock fragment"]["to_read_only"] == 1


def test_it_leaves_nothing_behind() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    text = http_benchmark("--buyers", "2", "--row", "combined")
    assert "gunicorn: 2 workers × 4 threads" in " ".join(text.split())
    assert not Product.objects.exists()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "workers: must be 1 to 64, not 0."),
        (["--threads", "1000"], "threads: must be 1 to 256, not 1000."),
        (["--buyers", "0"], "buyers: must be 1 to 4,096, not 0."),
        (["--row", "combine"], "did you mean combined"),
    ],
)
def test_bad_options_are_named_before_anything_happens(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        http_benchmark(*arguments)
    assert message in str(refused.value)
    assert refused.value.returncode == 2
