"""Reads source: the tables that a view writes, as far as its text tells.

Nothing is called. A function's syntax tree is walked, with those of all functions of the project
that it calls. The names in it are looked up in the modules that Django has loaded, so imports and
decorators are no riddle. Packages, database triggers, and whatever is decided at run time stay
unseen. A write whose table can't be told is kept in ``Effects.unseen``.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import models
from django.db.models import signals

from .effects import (
    DELETE,
    SAVES_EACH,
    Effects,
    cascades_of,
    receivers_of,
)
from .natures import (
    Nature,
    Rows,
    Thing,
    function_of_model,
    owner_of,
)
from .own import (
    bound_layers,
    is_own,
    is_own_somewhere,
)
from .walk import Walk

DEEPEST = 40  # calls within calls that are followed


class Source:
    """Reads functions, each once for each kind of arguments."""

    def __init__(self) -> None:
        self.attributes: dict[tuple[type, str], Nature] = {}
        """The natures of values that were assigned to ``self.name``, by class and name."""
        self._effects: dict[object, Effects] = {}
        self._trees: dict[str, dict[tuple[int, str], Any]] = {}
        self._depth = 0

    def forget_functions(self) -> None:
        """Read functions again: by now more is known about attributes."""
        self._effects.clear()

    def effects_of(
        self, function: object, owner: Nature = None, arguments: tuple[Nature, ...] = ()
    ) -> Effects:
        """The effects of a function of the project, and of the functions that it wraps.

        ``owner``: what it is called on. ``arguments``: the nature of the positional ones.
        """
        found = Effects()
        for layer, bound_to in bound_layers(function):
            if is_own(layer):
                called_on = owner if bound_to is None else owner_of(bound_to)
                effects = self._effects_of_one(layer, called_on, arguments)
                found.add(effects)
                found.returns = effects.returns or found.returns
        return found

    def effects_of_write(self, model: type[models.Model], way: str, method: str) -> Effects:
        """The effects of a method that writes rows: also of the model's own ``save`` or
        ``delete``, of the receivers of its signals, and of deletions that cascade.
        """
        found, meta = Effects(), model._meta
        for table in (meta.db_table, *(each._meta.db_table for each in meta.get_parent_list())):
            found.writes.setdefault(table, set()).add(way)
        if method in SAVES_EACH:
            found.add(self._effects_besides(model, "save", signals.pre_save, signals.post_save))
        elif way == DELETE:
            found.add(
                self._effects_besides(model, "delete", signals.pre_delete, signals.post_delete)
            )
            for table, kind in cascades_of(model).items():
                found.writes.setdefault(table, set()).add(kind)
        return found

    def _effects_besides(
        self, model: type[models.Model], method: str, *sent: signals.ModelSignal
    ) -> Effects:
        found = Effects()
        own = function_of_model(model, method)
        if own is not None and is_own_somewhere(own):
            found.add(self.effects_of(own, Rows(model)))
        for signal in sent:
            for receiver in receivers_of(signal, model):
                found.add(self.effects_of(receiver, None, (Thing(model), Rows(model))))
        return found

    def _effects_of_one(
        self, function: Callable[..., Any], owner: Nature, arguments: tuple[Nature, ...]
    ) -> Effects:
        key = (function, owner, arguments)  # one code may have been wrapped round several views
        if key in self._effects:
            return self._effects[key]
        effects = self._effects[key] = Effects()  # also the end of a recursion
        node = self._node_of(function.__code__)
        if node is None:
            effects.unseen[f"{function.__module__}.{function.__qualname__}()"] = None
        elif self._depth < DEEPEST:
            self._depth += 1
            try:
                Walk(self, function, node, effects, owner, arguments).walk()
            finally:
                self._depth -= 1
        return effects

    def _node_of(self, code: types.CodeType) -> Any:
        if code.co_filename not in self._trees:
            self._trees[code.co_filename] = functions_in(code.co_filename)
        return self._trees[code.co_filename].get((code.co_firstlineno, code.co_name))


def functions_in(file: str) -> dict[tuple[int, str], Any]:
    """The functions of a file, by first line and name."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    found: dict[tuple[int, str], Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[first, node.name] = node
        elif isinstance(node, ast.Lambda):
            found[node.lineno, "<lambda>"] = node
    return found
