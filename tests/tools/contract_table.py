"""Run the contract test of the payment providers, and print how each situation went.

    python -m tests.tools.contract_table [--provider NAME] [--only WORDS] [--processes N]

The table is in Markdown: a row for each situation, a column for each provider and way.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict

import pytest

from tests.tools.drills import ErrorsFirstParser

CONTRACT = "tests/shop/payments/contract"
NODE = re.compile(r"::test_(?P<test>\w+)\[(?P<provider>\w+)-(?P<situation>\w+)(-(?P<way>\w+))?\]$")
WAYS = {
    "plainly": "plainly",
    "repeated": "again",
    "each_answer_lost lose_answer": "answers lost",
    "each_answer_lost break_down": "not reached",
    "killed_at_each_point": "killed",
    "twice_at_once": "twice at once",
}
OK, NOT_THERE, BROKEN = "ok", "–", "BROKEN"


class Results:
    """How the tests went, as pytest tells a plugin."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str, str], str] = {}
        """By situation, provider and way."""
        self.times: dict[tuple[str, str], int] = defaultdict(int)
        """How often answers were lost, or the shop was killed, by provider and way."""
        self.reasons: dict[tuple[str, str], set[str]] = defaultdict(set)
        """The situations that can't come, by provider and reason."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        match = NODE.search(report.nodeid)
        if match is None or (report.when != "call" and report.passed):
            return
        provider, situation = match["provider"], match["situation"]
        way = WAYS[" ".join(filter(None, [match["test"], match["way"]]))]
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self.reasons[provider, reason.rpartition(": ")[2]].add(situation)
        outcome = NOT_THERE if report.skipped else OK if report.passed else BROKEN
        self.cells[situation, provider, way] = outcome
        if report.passed:
            times = dict(report.user_properties).get("times", 1)
            self.times[provider, way] += int(str(times))


def main() -> None:
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.contract_table", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--provider", default="", help="demo or stripe; all by default")
    parser.add_argument("--only", default="", help="pytest's -k, such as “Refund and killed”")
    parser.add_argument("--processes", default="auto", help="pytest's -n")
    options = parser.parse_args()
    results = Results()
    only = " and ".join(f"({words})" for words in (options.provider, options.only) if words)
    arguments = [
        CONTRACT,
        "--thorough",
        "-q",
        "--tb=short",
        "--show-capture=no",
        "-n",
        options.processes,
    ]
    code = pytest.main([*arguments, "-k", only], plugins=[results])
    print(table(results))
    sys.exit(code)


def table(results: Results) -> str:
    """Return the results in Markdown."""
    from tests.shop.payments.contract.situations import ALL, name_of

    providers = sorted({provider for _, provider, _ in results.cells})
    met = {(provider, way) for _, provider, way in results.cells}
    columns = [(name, way) for name in providers for way in WAYS.values() if (name, way) in met]
    lines = [
        _row("Situation", *(f"{provider}: {way}" for provider, way in columns)),
        _row("---", *("---" for _ in columns)),
    ]
    for name, situation in ALL.items():
        cells = [results.cells.get((name, *column), "") for column in columns]
        if any(cells):
            lines.append(_row(name_of(situation), *cells))
    lines.append(_row("times", *(str(results.times[column]) for column in columns)))
    for (provider, reason), names in sorted(results.reasons.items()):
        lines.append(f"\n{provider}, {NOT_THERE}: {reason} ({', '.join(sorted(names))})")
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
