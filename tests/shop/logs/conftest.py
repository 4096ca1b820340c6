"""Lines as the shop writes them: a logger with one of its formatters, into a list."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest

from shop.logs.context import NOTHING, _context
from shop.logs.formats import FORMATTERS

Written = Callable[[], str]


@pytest.fixture(autouse=True)
def about_nothing() -> Iterator[None]:
    """Lines of a test are about nothing that another test has left."""
    token = _context.set(NOTHING)
    yield
    _context.reset(token)


@pytest.fixture(params=FORMATTERS)
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    """A function that returns all that was logged in the test, in one of the two formats."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATTERS[request.param]())
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream.getvalue
    root.removeHandler(handler)
