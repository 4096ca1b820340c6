"""The app's checks name what is wrong with a project's settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from inventory.checks import durations_are_timedeltas


@pytest.mark.parametrize("name", ["INVENTORY_HOLD_FOR", "INVENTORY_KEEP_ENDED_FOR"])
@pytest.mark.parametrize("value", [10, "10", timedelta(0), timedelta(seconds=-1)])
def test_a_duration_that_is_none(settings: Any, name: str, value: object) -> None:
    setattr(settings, name, value)
    [problem] = durations_are_timedeltas()
    assert str(problem.msg) == f"{name} is {value!r}: it must be a timedelta of more than 0."


def test_durations(settings: Any) -> None:
    settings.INVENTORY_HOLD_FOR = timedelta(seconds=1)
    assert durations_are_timedeltas() == []


def test_pgtrigger_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "pgtrigger")
    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS lacks “pgtrigger”"):
        apps.get_app_config("inventory").import_models()
