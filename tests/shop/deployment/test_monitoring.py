"""The alert rules and the dashboard: they are valid, and name only what /metrics shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inventory.models import StockAlert
from shop.metrics.exposition import FAMILIES
from shop.models import Dispute, Payment, Refund, ShopAlert
from tests.command_line import ROOT
from tests.shop.programs import SECONDS

MONITORING = ROOT / "shop" / "deployment" / "monitoring"
RULES = MONITORING / "alert_rules.yml"
RULES_TEST = Path(__file__).with_name("alert_rules_test.yml")
DASHBOARD = json.loads((MONITORING / "grafana_dashboard.json").read_text())
NUMBER_OF_RULES = 6

METRIC = re.compile(r"\b(shop_[a-z_]+|up)\b(?!\")")
OF_HISTOGRAM = re.compile("_(bucket|count|sum)$")
OF_PROMETHEUS = {"le", "job", "instance"}
OPTIONAL = {"shop_replica_lag_seconds"}
"""Shown only with a setting."""


def rule_expressions() -> list[str]:
    return re.findall(r"expr: \|\n((?: {10}.*\n)+)", RULES.read_text())


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


EXPRESSIONS = [*rule_expressions(), *dashboard_expressions()]


def families_in(expression: str) -> set[str]:
    """The families that it names."""
    return {
        name if name in FAMILIES else OF_HISTOGRAM.sub("", name) for name in names_in(expression)
    }


def names_in(expression: str) -> list[str]:
    outside_of_labels = re.sub(r"\{[^}]*\}", "", expression)
    return METRIC.findall(outside_of_labels)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_name_and_label_is_shown(expression: str) -> None:
    families = families_in(expression)
    assert families
    assert families <= {*FAMILIES, *OPTIONAL, "up"}
    known = {*OF_PROMETHEUS, *(label for each in families for label in FAMILIES.get(each, ()))}
    assert set(labels_in(expression)) <= known


def labels_in(expression: str) -> Iterator[str]:
    for selected in re.findall(r"\{([^}]*)\}", expression):
        yield from re.findall(r"(\w+)\s*[=!]", selected)
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        yield from re.findall(r"\w+", grouped)


VALUES = {
    ("shop_stock_units", "state"): {"available", "held", "sold"},
    ("shop_alerts_open", "kind"): {
        kind.lower() for kind in (*StockAlert.Kind.values, *ShopAlert.Kind.values)
    },
    ("shop_payments", "state"): {state.lower() for state in Payment.State.values},
    ("shop_refunds", "state"): {state.lower() for state in Refund.State.values},
    ("shop_disputes", "state"): {state.lower() for state in Dispute.State.values},
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_value_of_a_label_can_be(expression: str) -> None:
    for name, label, values in re.findall(r'(\w+)\{(\w+)=~?"([^"]*)"\}', expression):
        if (name, label) in VALUES:
            assert set(values.split("|")) <= VALUES[name, label]


def test_the_dashboard_shows_every_family() -> None:
    shown = {family for each in dashboard_expressions() for family in families_in(each)}
    assert shown >= set(FAMILIES)


def test_figures_of_the_database_are_not_added_up_over_machines() -> None:
    """They are the same from every machine."""
    counted = re.compile(r"shop_\w+_(total|bucket|count|sum)$")
    for expression in EXPRESSIONS:
        for name in names_in(expression):
            if name != "up" and not counted.search(name):
                used = re.findall(rf"(\w+)(?: by \(\w+\))? ?\({name}", expression)
                assert set(used) <= {"max", "min", "absent"}, expression


def test_a_dashboard_is_read_at_a_glance() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Stock", "Rush", "Money", "Jobs", "Web"]
    source = {"type": "prometheus", "uid": "${datasource}"}
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        assert panel["type"] != "stat" or len(defaults["thresholds"]["steps"]) > 1
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        squares = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not squares & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= squares


def test_six_rules_say_what_to_do() -> None:
    text = RULES.read_text()
    assert len(rule_expressions()) == text.count("- alert: ") == NUMBER_OF_RULES
    for setting in ("severity", "summary", "description", "action"):
        assert len(re.findall(rf"\b{setting}: ", text)) == NUMBER_OF_RULES


def test_prometheus_takes_them(tmp_path: Path) -> None:
    """And each fires for each of its reasons, and not in a healthy shop."""
    program = shutil.which("promtool")
    if program is None:
        message = "There is no promtool on the PATH (Debian: apt install prometheus)."
        if os.environ.get("REQUIRE_PROMTOOL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    for file in (RULES, RULES_TEST):
        shutil.copy(file, tmp_path)
    for arguments in (["check", "rules", RULES.name], ["test", "rules", RULES_TEST.name]):
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
