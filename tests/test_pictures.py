"""The README's pictures exist, are small, have descriptions, and are drawn by our own code."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Browser

from inventory.experiments.flash_sale import sale
from inventory.experiments.flash_sale.sale import Parameters
from shop.demo import catalogue
from tests import command_line
from tests.browser.conftest import browser  # noqa: F401  (a fixture)
from tests.tools.pictures import drawing
from tests.tools.pictures.drawing import LOOKS, Look

pytestmark = pytest.mark.slow

README = (command_line.ROOT / "README.md").read_text()
MOST_BYTES = 100_000
TEXT = "{http://www.w3.org/2000/svg}text"


class Pictures(HTMLParser):
    """The <picture> elements: the addresses in each, and the words of its <img>."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[list[str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "picture":
            self.addresses.append([])
        elif tag == "source":
            assert given["media"] == "(prefers-color-scheme: dark)"
            self.addresses[-1].append(given["srcset"])
        elif tag == "img":
            self.addresses[-1].append(given["src"])
            self.words.append(given["alt"])


def test_the_readme_begins_with_three_pictures_in_dark_and_light() -> None:
    pictures = Pictures()
    pictures.feed(README.split("## Try it")[0])
    assert len(pictures.addresses) == 3
    for dark, light in pictures.addresses:
        assert light == dark.replace("-dark.", "-light.")
        for address in (dark, light):
            assert 0 < (command_line.ROOT / address).stat().st_size < MOST_BYTES
    assert all(len(words) > 40 for words in pictures.words)


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_is_loaded_from_elsewhere(look: Look) -> None:
    text = drawing.file("flash-sale", look, "svg").read_text()
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert "@" not in text  # no @font-face, no @import
    assert {words_of(text)[0], "naive"} <= set(words_of(text))


@pytest.mark.breaks_law
@pytest.mark.django_db(transaction=True)
def test_the_table_is_drawn_as_the_terminal_shows_it() -> None:
    held = sale.run(Parameters(strategies=["naive", "mutex"]))
    for look in LOOKS:
        text = drawing.of_sale(held, look)
        red = "#{:02x}{:02x}{:02x}".format(*drawing.THEMES[look].ansi_colors[1])
        [red_class] = re.findall(rf"\.(sale-r\d+) {{ fill: {red}", text)
        found = ElementTree.fromstring(text)
        in_red = [each.text or "" for each in found.iter(TEXT) if each.get("class") == red_class]
        assert any("sold" in words.replace("\xa0", " ") for words in in_red)
        assert not any("mutex" in words for words in in_red)
        assert "exact" in words_of(text)
    # The one in the README has the same columns: it is of today's table.
    headings = [word for word in words_of(text) if "refused" in word]
    assert headings
    for look in LOOKS:
        drawn = words_of(drawing.file("flash-sale", look, "svg").read_text())
        assert [word.split() for word in drawn if "refused" in word] == [
            word.split() for word in headings
        ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.breaks_law
def test_shop_and_race_are_photographed(
    browser: Browser,  # noqa: F811
    live_server: Any,
    settings: Any,
) -> None:
    settings.PAGES_PER_ADDRESS = None
    catalogue.load()
    race = drawing.run_race()
    for look in LOOKS:
        shop = Image.open(io.BytesIO(drawing.of_shop(browser, live_server.url, look)))
        lanes = Image.open(io.BytesIO(drawing.of_race(browser, race, look)))
        for name, picture in (("shop", shop), ("race", lanes)):
            drawn = Image.open(drawing.file(name, look, "png"))
            assert abs(drawn.width - picture.width) < 20
            # Both are light or both are dark, by their first pixels.
            first = picture.convert("L").resize((1, 1)).getpixel((0, 0))
            other = drawn.convert("L").resize((1, 1)).getpixel((0, 0))
            assert isinstance(first, int)
            assert isinstance(other, int)
            assert abs(first - other) < 40


def words_of(svg: str) -> list[str]:
    texts = ElementTree.fromstring(svg).iter(TEXT)
    return [(each.text or "").replace("\xa0", " ").strip() for each in texts]
