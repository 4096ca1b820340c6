"""The README's three pictures, drawn from what really ran."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from inventory.experiments.flash_sale import report as sale_report
from inventory.experiments.flash_sale.sale import Parameters, plan, run_planned
from inventory.experiments.models import FlashSale
from inventory.experiments.strategy_races import StrategyRace
from inventory.experiments.strategy_races import race as explore
from inventory.races import report as race_report
from shop.demo import catalogue
from shop.load_tests.serving import ServedShop
from tests.browser.conftest import CHROMIUM

Look = Literal["light", "dark"]
LOOKS: tuple[Look, ...] = ("light", "dark")

PLACE = Path(__file__).resolve().parent
STRATEGIES = ("naive", "unguarded_decrement", "mutex", "select_for_update", "combined")
COLUMNS = 80
SHOP_SIZE, RACE_SIZE = (1000, 640), (820, 700)  # of the windows, in pixels
COLOURS = 128  # of a picture in PNG

# Background, foreground, and the eight colours of a terminal.
THEMES = {
    "light": TerminalTheme(
        (250, 247, 241),
        (32, 38, 45),
        [
            *((32, 38, 45), (179, 38, 30), (36, 97, 58), (138, 90, 0)),
            *((11, 80, 138), (154, 47, 135), (11, 110, 138), (90, 99, 109)),
        ],
    ),
    "dark": TerminalTheme(
        (20, 24, 28),
        (236, 232, 224),
        [
            *((236, 232, 224), (255, 138, 128), (134, 210, 156), (242, 184, 75)),
            *((122, 178, 240), (238, 143, 220), (92, 200, 230), (169, 177, 185)),
        ],
    ),
}
# As rich has it, without the fonts that it would load from elsewhere.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", \
monospace; line-height: {line_height}px; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def file(name: str, look: Look, ending: str) -> Path:
    return PLACE / f"{name}-{look}.{ending}"


# A flash sale


def run_sale() -> FlashSale:
    """The classic: ten laptops, fifteen buyers."""
    sale = plan(Parameters(strategies=STRATEGIES))
    run_planned(sale)
    return sale


def of_sale(sale: FlashSale, look: Look) -> str:
    """The table as a terminal shows it, as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(sale_report.as_table(sale, COLUMNS))
    return console.export_svg(
        title="manage.py flash_sale", theme=THEMES[look], code_format=SVG, unique_id="sale"
    )


# The shop


@contextmanager
def served_shop() -> Iterator[str]:
    """The address of a shop with the catalogue, for the length of the block."""
    catalogue.load()
    shop = ServedShop()
    try:
        shop.start_web()
        yield shop.url
    finally:
        shop.stop()


def of_shop(browser: Browser, address: str, look: Look) -> bytes:
    """The first things that a visitor sees, as PNG."""
    with opened(browser, look, SHOP_SIZE) as page:
        page.goto(address, wait_until="networkidle")  # with its pictures
        return small(page.screenshot())


# A race


def run_race() -> StrategyRace:
    """Two buyers after the last unit, by the strategy that loses updates."""
    return explore("naive", buyers=2, max_preemptions=1)


def of_race(browser: Browser, race: StrategyRace, look: Look) -> bytes:
    """The shortest run in which it goes wrong, each buyer in a lane, as PNG."""
    with opened(browser, look, RACE_SIZE) as page:
        page.set_content(race_report.result_as_html(race.result, title="Two buyers, one unit"))
        return small(page.locator("section").screenshot())


def chromium() -> str:
    """The path of the browser. Raises FileNotFoundError."""
    for name in CHROMIUM:
        if program := shutil.which(name):
            return program
    raise FileNotFoundError(f"No Chromium is installed: none of {', '.join(CHROMIUM)}.")


@contextmanager
def opened(browser: Browser, look: Look, size: tuple[int, int]) -> Iterator[Page]:
    """A page of a window of that size."""
    width, height = size
    context = browser.new_context(
        color_scheme=look, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    try:
        yield context.new_page()
    finally:
        context.close()


def small(png: bytes) -> bytes:
    """The same picture with few colours, in fewer bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS)
    smaller = io.BytesIO()
    picture.save(smaller, "PNG", optimize=True)
    return smaller.getvalue()
