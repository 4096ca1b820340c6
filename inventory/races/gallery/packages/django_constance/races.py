"""The shop closes by a setting, while a customer asks for a page that depends on it."""

from __future__ import annotations

from collections.abc import Callable

from constance import config
from constance.base import Config
from constance.models import Constance

from ...race import Ended, Race
from . import mend


def nothing_stored() -> None:
    Constance.objects.all().delete()


def close(settings: Config) -> Callable[[], object]:
    return lambda: setattr(settings, "OPEN", False)


def page(settings: Config) -> Callable[[], object]:
    return lambda: "open" if settings.OPEN else "closed"


def stored() -> str:
    return ", ".join(Constance.objects.values_list("value", flat=True)) or "nothing"


def shop_is_closed(ended: Ended) -> bool:
    return config.OPEN is False


RACES = [
    Race(
        name="default",
        title="A page that reads a setting overwrites what the admin has set.",
        setup=nothing_stored,
        sessions={"Admin": close(config), "Customer": page(config)},
        invariant=shop_is_closed,
        describe=lambda: f"{stored()} is stored",
        mended={"Admin": close(mend.config), "Customer": page(mend.config)},
        mend=(
            "Don't write where somebody reads. A setting that isn't stored has its default, which "
            "the package also stores at the first read: over what was set meanwhile. A subclass of "
            "the backend returns the default instead. The package could do so, or store the "
            "default with an INSERT that leaves a row alone which is there."
        ),
        known=(
            "Issue 348 of the package, open since 2019: from time to time a setting goes back to "
            "its default. This is one way to get there."
        ),
    )
]
