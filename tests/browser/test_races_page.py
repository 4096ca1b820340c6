"""The page with a transcript: it unfolds without a script, and fits a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from inventory.races import report
from tests.inventory.races.made import made_result, two_checkouts

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_long_transcript_unfolds(
    browser: Browser, tmp_path: Path, width: int, colours: str
) -> None:
    file = tmp_path / "races.html"
    result = made_result([two_checkouts("a_customer_with_a_long_name", "Bob")])
    file.write_text(report.result_as_html(result, title="Two checkouts"), encoding="utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if colours == "dark" else "light",
        java_script_enabled=False,
    )
    page = context.new_page()
    page.goto(file.as_uri())
    lines, folds = page.locator(".label:visible"), page.locator(".fold:visible")
    expect(lines).to_have_count(7)
    expect(folds).to_have_count(3)
    for each in page.locator(".step:visible").all():
        box = each.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    page.get_by_label("Show all 74 lines").check()
    expect(lines).to_have_count(74)
    expect(folds).to_have_count(0)
    context.close()
