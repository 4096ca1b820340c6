"""`manage.py http_benchmark` as people run it. The speeds differ each time, and are not tested."""

from __future__ import annotations

import io
import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.test import RequestFactory

from inventory.models import Product
from shop.load_tests.http_benchmark import course, rows, servers, visitors, wrk
from shop.load_tests.http_benchmark.books import Figures
from shop.load_tests.http_benchmark.rows import Row
from shop.middleware import buyer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
SHORT = ["--rounds", "1", "--seconds", "0.3", "--warm-up", "0", "--threads", "4"]


def http_benchmark(*arguments: str) -> str:
    out = io.StringIO()
    call_command("http_benchmark", *SHORT, *arguments, stdout=out)
    return out.getvalue()


def results_of(*arguments: str) -> dict[str, dict[str, Any]]:
    results = json.loads(http_benchmark("--quiet", "--json", "-", *arguments))["results"]
    return {each["row"]: each for each in results}


@pytest.fixture(autouse=True)
def fewer_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making thousands of visitors takes longer than measuring them."""
    monkeypatch.setattr(course, "BUYERS_OF_RUSH", 4)
    monkeypatch.setattr(servers, "OWN_VISITORS", 500)
    monkeypatch.setattr(servers, "MET_VISITORS", 20)


@pytest.fixture
def with_wrk() -> None:
    """Skip the test without wrk; with REQUIRE_WRK=1 fail."""
    if wrk.is_installed():
        return
    message = "wrk isn't installed (Debian: apt install wrk)."
    if os.environ.get("REQUIRE_WRK") == "1":
        pytest.fail(message)
    pytest.skip(message)


def check(found: dict[str, dict[str, Any]]) -> None:
    for name, result in found.items():
        assert result["failed"] == 0, result
        assert result["per_second"] > 0
        assert 0 < result["p50_ms"] <= result["p99_ms"]
        # Insert only takes no stock for its holds.
        assert result["law_holds"] is (not name.startswith("insert only"))


@pytest.mark.usefixtures("with_wrk")
def test_acts_are_served_as_they_must_be_and_nothing_is_left_behind() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    chosen = ("purchase, lane", "reserve, Django", "order list in a rush, lane")
    found = results_of("--connections", "2", *(f"--only={row}" for row in chosen))
    assert set(found) == set(chosen)
    check(found)
    assert found["order list in a rush, lane"]["beside_per_second"] > 0
    assert found["purchase, lane"]["server_ms"] > 0
    assert not Product.objects.exists()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.mark.thorough
@pytest.mark.usefixtures("with_wrk")
def test_every_act_is_served_as_it_must_be_in_every_way() -> None:
    found = results_of("--connections", "2")
    ways = ("lane", "Django", "gthread")
    of_each_way = ("reserve", "sold out", "product page", "stock fragment", "purchase")
    of_django = ("insert only", *rows.strategies_of_form())
    assert set(found) == {
        *(f"{act}, {way}" for act in of_each_way for way in ways),
        *("order list, lane", "order list in a rush, lane"),
        *(f"{act}, Django" for act in of_django),
    }
    check(found)
    for name, result in found.items():
        if "in a rush" in name:
            assert result["beside_per_second"] > 0
        else:
            assert result["server_ms"] > 0
            assert 0 <= result["generator_share"] <= 1


@pytest.mark.thorough
@pytest.mark.usefixtures("with_wrk")
def test_another_checkout_is_served_beside_and_compared() -> None:
    arguments = ["--only", "reserve", "--only", "gthread"]
    text = http_benchmark(
        *("--json", "-", "--connections", "2", "--beside", str(ROOT), *arguments),
        *("--only", "beside", "--only", "reserve, lane"),
    )
    written = json.loads(text)
    found = {each["row"]: each for each in written["results"]}
    assert set(found) == {f"reserve, {way}" for way in ("lane", "gthread", "beside")}
    check(found)
    [compared] = [each for each in written["compared"] if "beside" in each["rows"]]
    assert compared["rows"] == "reserve, lane : reserve, beside, 2 buyers"
    assert compared["per_second"] > 0
    assert compared["less_server_ms"] > 0
    assert written["generator"].startswith("wrk 4")
    assert "fsync on" in written["machine"]


def test_without_wrk_a_client_in_python_measures_what_it_can() -> None:
    text = http_benchmark(
        *("--generator", "python", "--connections", "2"),
        *("--only", "reserve, gthread", "--only", "insert only, Django"),
    )
    found = [line.split("  ")[0] for line in text.splitlines() if line.rstrip().endswith("holds")]
    assert found == ["reserve, gthread"]
    assert "insert only, Django" in text
    flat = " ".join(text.split())
    assert "only wrk can measure them: purchase, order list, order list in a rush" in flat
    assert "buyers in 1 process" in flat
    assert "gunicorn: 2 workers × 4 threads" in flat


@pytest.mark.usefixtures("with_wrk")
def test_an_answer_of_the_wrong_status_is_a_loud_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, "status", HTTPStatus.NOT_FOUND)
    out = io.StringIO()
    with pytest.raises(SystemExit) as end:
        arguments = ["--connections", "2", "--only", "stock fragment, gthread"]
        call_command("http_benchmark", *SHORT, *arguments, stdout=out)
    assert end.value.code == 1
    assert "failed: The shop answered 200 instead of 404" in " ".join(out.getvalue().split())


def test_its_visitors_are_buyers_whom_the_shop_knows() -> None:
    """Else Django gives each of them a new cookie, and the fast lane has nothing to do."""
    key = "k" * 32
    request = RequestFactory().get("/", headers={"cookie": visitors.own_cookies(key)})
    assert buyer.read_key(request) == key


@pytest.mark.parametrize(
    ("act", "good", "figures", "problem"),
    [
        ("reserve", 3, Figures(3, 3, 0), ""),
        ("reserve", 3, Figures(4, 4, 0), ""),  # the last buyer had hung up
        ("reserve", 3, Figures(2, 2, 0), "3 buyers were told “reserved”, and 2 have a hold."),
        ("sold out", 3, Figures(0, 0, 0), ""),
        ("sold out", 3, Figures(1, 1, 0), "Units of a sold-out product were reserved."),
        ("product page", 3, Figures(0, 0, 0), ""),
        ("purchase", 3, Figures(3, 3, 3), ""),
        ("purchase", 3, Figures(3, 3, 2), "3 buyers were told “paid”, and 2 orders are."),
    ],
)
def test_answers_are_compared_with_the_database(
    act: str, good: int, figures: Figures, problem: str
) -> None:
    row = Row(act, "lane")
    assert course.problem_in_books(row, good, Figures(0, 0, 0), figures) == problem


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], ["reserve, lane", "reserve, Django", "product page, lane", "product page, Django"]),
        (["reserve"], ["reserve, lane", "reserve, Django"]),
        (["lane"], ["reserve, lane", "product page, lane"]),
        (["lane", "reserve"], ["reserve, lane"]),
        (["product page, Django"], ["product page, Django"]),
        (["product page, Django", "lane"], ["reserve, lane", "product page, lane",
                                            "product page, Django"]),
    ],
)  # fmt: skip
def test_acts_and_ways_narrow_each_other_down(names: list[str], chosen: list[str]) -> None:
    all_rows = [Row(act, way) for act in ("reserve", "product page") for way in ("lane", "Django")]
    assert rows.chosen_rows(names, all_rows) == chosen


def test_slow_strategies_have_no_turn_with_thousands_of_buyers() -> None:
    assert Row("select_for_update", "Django").has_turn(256, fewest=32)
    assert not Row("select_for_update", "Django").has_turn(2000, fewest=32)
    assert Row("reserve", "Django").has_turn(2000, fewest=32)
    assert not Row("purchase", "lane").has_turn(256, fewest=32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "workers: must be 1 to 64, not 0."),
        (["--threads", "1000"], "threads: must be 1 to 256, not 1000."),
        (["--threads", "200"], "3 servers × 2 × 200, the fast lane and our own need 1234"),
        (["--connections", "0"], "buyers: must be 1 to 4,096, not 0."),
        (["--only", "reserv"], "only: there is no “reserv”; there are reserve, sold out"),
        (["--only", "reserve, beside"], "only: there is no “reserve, beside”"),
        (["--beside", "/nowhere"], "beside: /nowhere has no manage.py."),
        (["--only", "mutex, lane"], "only: there is no “mutex, lane”"),
    ],
)
def test_bad_options_are_named_before_anything_happens(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        http_benchmark(*arguments)
    assert message in str(refused.value)
    assert refused.value.returncode == 2


def test_wrk_that_is_wanted_and_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandError) as refused:
        http_benchmark("--generator", "wrk")
    assert "generator: wrk isn't installed" in str(refused.value)
    assert refused.value.returncode == 2
