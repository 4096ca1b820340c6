"""Functions that remember are found without touching other objects."""

from __future__ import annotations

from django.utils.functional import SimpleLazyObject

from inventory.races.memory import remembering_functions


def test_lazy_objects_stay_lazy() -> None:
    def refuse() -> object:
        raise AssertionError("Nobody needs it.")

    lazy = SimpleLazyObject(refuse)
    list(remembering_functions())
    assert "refuse" in repr(lazy)  # else it would say what it stands for
