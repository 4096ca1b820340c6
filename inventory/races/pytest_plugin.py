"""The fixture ``races``: ``explore``, with the test database set up as it needs it.

It is there where the package is installed; where the folder was copied, conftest.py says
``pytest_plugins = ["inventory.races.pytest_plugin"]``. With ``--races-report DIRECTORY`` every
exploration that finds something leaves an HTML page there.

pytest loads this in every project that has the package: what needs Django or rich waits until a
test asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .result import Result


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("races").addoption(
        "--races-report",
        type=Path,
        metavar="DIRECTORY",
        help="where explorations that find a race leave a page with its transcript",
    )


@pytest.fixture
def races(request: pytest.FixtureRequest, transactional_db: None) -> Callable[..., Result]:
    """``explore``, on a test database whose rows other connections can see.

    Takes and returns what ``explore`` does; call ``assert_holds()`` on the result.
    """
    from .explorer import explore
    from .report import result_as_html

    directory: Path | None = request.config.getoption("--races-report")
    reports = 0

    def explore_and_report(sessions: Any, **options: Any) -> Result:
        nonlocal reports
        result = explore(sessions, **options)
        if directory is not None and result.shortest is not None:
            reports += 1
            name = re.sub(r"[^\w.-]+", "_", f"{request.node.nodeid}-{reports}")
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name}.html").write_text(
                result_as_html(result, title=request.node.name), encoding="utf-8"
            )
        return result

    return explore_and_report
