"""The addresses of the shop, read from its URLconf: a new one is asked without being listed."""

from __future__ import annotations

import functools
import inspect
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.urls.resolvers import RoutePattern

from tests.tools.fuzz.matching import text_matching

NAMED_PART = re.compile(r"<(?:\w+:)?(?P<name>\w+)>")
READ_NAME = re.compile(r"""GET(?:\.get(?:list)?\(|\[)["'](\w+)["']""")
READ_FORM = re.compile(r"(\w+)\(request\.GET\b")
NAMED_GROUP = re.compile(r"\(\?P(<\w+>)[^)]*\)")


@dataclass(frozen=True)
class Address:
    """An address with parts such as ``<slug>``, and the pattern that each part must match."""

    route: str
    parts: dict[str, str] = field(default_factory=dict)
    queried: tuple[str, ...] = ()
    """The names that its view reads from a query."""

    @property
    def names(self) -> list[str]:
        return NAMED_PART.findall(self.route)

    def path(self, values: dict[str, str]) -> str:
        """The path with these values of its parts, which are encoded already."""
        return "/" + NAMED_PART.sub(lambda found: values[found["name"]], self.route)

    def some_value(self, name: str, chance: random.Random) -> str:
        """A value that the part takes, by its converter alone."""
        return text_matching(self.parts.get(name, r"[0-9]{1,2}"), chance)


def walk(resolver: Any, before: str = "", parts: dict[str, str] | None = None) -> Iterator[Address]:
    """All addresses of a resolver, also those of the resolvers in it."""
    for each in resolver.url_patterns:
        pattern = each.pattern
        route = before + str(pattern).removeprefix("^").removesuffix("$")
        found = {**(parts or {}), **patterns_of_parts(pattern)}
        route = NAMED_GROUP.sub(r"\1", route)
        if hasattr(each, "url_patterns"):
            yield from walk(each, route, found)
        else:
            yield Address(route, found, names_read(each.callback))


def patterns_of_parts(pattern: Any) -> dict[str, str]:
    """The regular expression of each part of a route that has converters."""
    if not isinstance(pattern, RoutePattern):
        return {}
    return {name: converter.regex for name, converter in pattern.converters.items()}


def names_read(view: Callable[..., Any]) -> tuple[str, ...]:
    """The names in queries that the module of a view reads, so that new ones are tried, too."""
    module = inspect.getmodule(inspect.unwrap(view))
    return _names_in(module.__name__) if module else ()


@functools.cache
def _names_in(module: str) -> tuple[str, ...]:
    """The names that the source names itself, and the fields of forms that it reads queries by."""
    try:
        source = inspect.getsource(sys.modules[module])
    except OSError:
        return ()
    forms = [getattr(sys.modules[module], name, None) for name in READ_FORM.findall(source)]
    fields = [name for form in forms for name in getattr(form, "base_fields", {})]
    return tuple(sorted({*READ_NAME.findall(source), *fields}))
