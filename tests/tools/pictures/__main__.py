"""Draw the README's pictures from real runs, each in light and in dark.

    python -m tests.tools.pictures

A flash sale, the shop and a race, on a database that is made for it and dropped afterwards. Needs
a Chromium.
"""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright has a loop, and none of our code in it


def main() -> None:
    django.setup()
    from playwright.sync_api import sync_playwright

    from inventory.races.scratch import scratch_database
    from tests.browser.conftest import ARGS
    from tests.tools.pictures import drawing

    with scratch_database():
        race, sale = drawing.run_race(), drawing.run_sale()
        with drawing.served_shop() as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=drawing.chromium(), args=ARGS)
            for look in drawing.LOOKS:
                shop = drawing.of_shop(browser, address, look)
                lanes = drawing.of_race(browser, race, look)
                drawing.file("flash-sale", look, "svg").write_text(drawing.of_sale(sale, look))
                drawing.file("shop", look, "png").write_bytes(shop)
                drawing.file("race", look, "png").write_bytes(lanes)
            browser.close()


if __name__ == "__main__":
    main()
