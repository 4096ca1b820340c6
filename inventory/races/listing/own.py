"""Which code is the project's own, and what decorators put round it."""

from __future__ import annotations

import functools
import inspect
import site
import sysconfig
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django

PACKAGE = Path(__file__).resolve().parent.parent
LIBRARIES = tuple(
    Path(path).resolve()
    for path in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        str(Path(django.__file__).parent),
        str(PACKAGE),
    }
)


def is_own(value: object) -> bool:
    """Whether a function or class is the project's own: not Python's, nor of a package."""
    if isinstance(value, type):
        module = inspect.getmodule(value)
        file = getattr(module, "__file__", None)
    else:
        code = getattr(value, "__code__", None)
        file = code.co_filename if code else None
    return bool(file) and is_own_file(file)


@functools.cache
def is_own_file(name: str) -> bool:
    path = Path(name).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts) or not path.is_file():
        return False
    return not any(path.is_relative_to(library) for library in LIBRARIES)


def layers(function: object) -> Iterator[Callable[..., Any]]:
    """The function, and those that it wraps: what decorators were put round."""
    return (layer for layer, _ in bound_layers(function))


def bound_layers(function: object) -> Iterator[tuple[Callable[..., Any], object]]:
    """The layers, each with the object whose method it is; None for a function."""
    todo: list[tuple[Any, object]] = [(function, None)]
    seen = set()
    while todo:
        each, owner = todo.pop(0)
        each = each.func if isinstance(each, functools.partial) else each
        owner, each = getattr(each, "__self__", owner), getattr(each, "__func__", each)
        if id(each) in seen or not isinstance(each, types.FunctionType):
            continue
        seen.add(id(each))
        yield each, owner
        todo.append((getattr(each, "__wrapped__", None), owner))
        if not (is_own(each) and hasattr(each, "__wrapped__")):
            todo += [(inside, owner) for inside in closure_of(each).values()]


def closure_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The values that a function took from the function around it, by name."""
    found = {}
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return found


def is_own_somewhere(function: object) -> bool:
    """Whether the function, or one that it wraps, is the project's own."""
    return any(is_own(each) for each in layers(function))


def is_of_a_package(function: object) -> bool:
    code = getattr(function, "__code__", None)
    parts = Path(code.co_filename).parts if code else ()
    return bool({"site-packages", "dist-packages"} & set(parts))


def shown_path(path: Path) -> str:
    """From the current directory, if it is in there."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
