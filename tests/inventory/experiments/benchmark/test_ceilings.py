"""A ceiling that collapses is reported, and nothing is compared with it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from inventory.experiments.benchmark import report, rows, run
from inventory.experiments.benchmark.buyers import Load, Measurement
from inventory.experiments.benchmark.rows import MOST_CONNECTIONS
from inventory.experiments.benchmark.run import DIRECT, Parameters, Result

INSERT_ONLY, READ_ONLY = "insert only", "read only"


def result(row: str, buyers: int, per_second: float, shape: str = "hot") -> Result:
    measured = Measurement(per_second, 1.0, 2.0, failed=0)
    load = Load(buyers, seconds=1, warm_up=0)
    return Result(shape, row, load, guards=False, rounds=[measured], law_held=[True])


def compared(*results: Result) -> dict[tuple[str, int], Result]:
    run.compare(list(results), DIRECT.ceilings)
    return {(each.row, each.load.buyers): each for each in results}


def test_a_ceiling_far_below_its_own_rate_with_fewer_has_collapsed() -> None:
    found = compared(
        result(INSERT_ONLY, 64, 2800), result(READ_ONLY, 64, 3000), result("combined", 64, 9000),
        result(INSERT_ONLY, 1024, 2700), result(READ_ONLY, 1024, 2), result("combined", 1024, 7200),
    )  # fmt: skip
    assert found[READ_ONLY, 1024].collapsed == (
        "read only served only 2 of 1,024 buyers a second, and read only 3,000 of 64. So it is no "
        "ceiling there, and its ratios are left out."
    )
    assert found["combined", 1024].ratios_to_ceilings == {INSERT_ONLY: pytest.approx(7200 / 2700)}
    assert found["combined", 64].ratios_to_ceilings[READ_ONLY] == 3
    assert not any(each.collapsed for key, each in found.items() if key != (READ_ONLY, 1024))


def test_an_insert_far_below_one_under_a_lock_has_collapsed() -> None:
    found = compared(
        result(INSERT_ONLY, 1024, 100), result(READ_ONLY, 1024, 3000),
        result("single_statement", 1024, 800), result("combined", 1024, 9000),
    )  # fmt: skip
    assert "and single_statement 800 of 1,024" in found[INSERT_ONLY, 1024].collapsed
    assert list(found["combined", 1024].ratios_to_ceilings) == [READ_ONLY]


def test_combined_may_pass_a_ceiling_and_refusing_may_cost_less_than_inserting() -> None:
    hot = compared(
        result(INSERT_ONLY, 64, 2800), result(READ_ONLY, 64, 3000), result("combined", 64, 9000)
    )
    assert not any(each.collapsed for each in hot.values())
    sold_out = compared(
        *(
            result(row, 64, rate, "sold out")
            for row, rate in ((INSERT_ONLY, 1000), (READ_ONLY, 3000), ("single_statement", 5000))
        )
    )
    assert not any(each.collapsed for each in sold_out.values())


def test_fewer_buyers_may_be_served_at_a_lower_rate() -> None:
    found = compared(
        result(INSERT_ONLY, 1, 500), result(READ_ONLY, 1, 600),
        result(INSERT_ONLY, 64, 2800), result(READ_ONLY, 64, 3000),
    )  # fmt: skip
    assert not any(each.collapsed for each in found.values())


def test_the_report_says_so_and_has_no_number_in_its_place() -> None:
    results = list(compared(
        result(INSERT_ONLY, 64, 2800), result(READ_ONLY, 64, 3000), result("combined", 64, 9000),
        result(INSERT_ONLY, 1024, 2700), result(READ_ONLY, 1024, 2), result("combined", 1024, 7200),
    ).values())  # fmt: skip
    parameters = Parameters(rows=["combined"], shapes=["hot"], buyers=[64, 1024], rounds=1)
    out = io.StringIO()
    report.show(parameters, results, Console(file=out, width=200))
    assert "read only served only 2 of 1,024 buyers a second" in out.getvalue()
    last = [line for line in out.getvalue().splitlines() if line.startswith("combined")][-1]
    assert last.split() == ["combined", "7,200", "1.0", "2.0", "2.67", "–", "holds"]
    written = report.as_json(parameters, results)["results"]
    assert [each["to_read_only"] for each in written if each["row"] == "combined"] == [3, None]


@pytest.mark.parametrize(("row", "threads"), [(READ_ONLY, MOST_CONNECTIONS), ("mutex", 1000)])
def test_ceilings_have_no_more_threads_than_connections(row: str, threads: int) -> None:
    """Hundreds of threads that wait for a connection leave nobody time to use one."""
    assert rows.make_row(row).most_threads(1000, processes=4) == threads
    assert rows.make_row(row).most_threads(2, processes=4) == 2


def test_ratios_are_those_of_the_same_round() -> None:
    one, other = result("mutex", 64, 100), result(INSERT_ONLY, 64, 200)
    one.rounds.append(replace(one.rounds[0], per_second=300))
    other.rounds.append(replace(other.rounds[0], per_second=300))
    ratio = run.median_ratio(one, other, lambda measured: measured.per_second)
    assert ratio == pytest.approx(0.75)  # of 0.5 and 1
