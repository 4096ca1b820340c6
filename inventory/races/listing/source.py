"""Reads source: the tables that a view writes, as far as its text tells.

Nothing is called. A function's syntax tree is walked, with those of all functions of the project
that it calls. The names in it are looked up in the modules that Django has loaded, so imports and
decorators are no riddle. Packages, database triggers, and whatever is decided at run time stay
unseen. A write whose table can't be told is kept in ``Effects.unseen``.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import re
import site
import sysconfig
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models import signals
from django.forms import BaseForm
from django.http import HttpRequest

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
DEEPEST = 40  # calls within calls that are followed

SAVE, CREATE, UPDATE, DELETE, SQL = "save", "create", "update", "delete", "sql"
WAYS = {
    "save": SAVE, "bulk_update": SAVE, "create": CREATE, "bulk_create": CREATE,
    "get_or_create": CREATE, "update_or_create": CREATE, "update": UPDATE, "delete": DELETE,
    "_raw_delete": DELETE,
}  # fmt: skip
RELATED = {"add", "set", "remove", "clear"}
SAVES_EACH = {"save", "create", "get_or_create", "update_or_create"}
"""Methods that call the model's ``save``."""
TELLS_A_WRITE = set(WAYS) - {"update", "_raw_delete"}
"""Names so seldom used for anything else that they count where the model is unknown."""
OF_COLLECTIONS = {*dir(list), *dir(dict), *dir(set), *dir(str), "popleft", "appendleft"}
QUERIES = {"filter", "exclude", "all", "order_by", "select_for_update"}
SHORTCUTS = {"get_object_or_404", "get_list_or_404", "aget_object_or_404", "aget_list_or_404"}
WRAPPERS = {
    "list", "tuple", "set", "sorted", "reversed", "iter", "next", "enumerate", "min", "max",
    "filter", "partial", "cast",
}  # fmt: skip
TARGET = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+(?:ONLY\s+)?(?:\"?\w+\"?\.)?\"?(\w+)",
    re.I,
)
LOCKING = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bLOCK\s+TABLE\b", re.I)
FROM = re.compile(r"\bFROM\s+(?:\"?\w+\"?\.)?\"?(\w+)", re.I)
ADVISORY = re.compile(r"advisory", re.I)

# The nature of an expression, as far as it is known (``Nature``)


@dataclass(frozen=True)
class Rows:
    """A model's instance, its manager, or a queryset of it."""

    model: type[models.Model]
    is_new: bool = False
    """Made here, and so not read before."""
    through: str = ""
    """The table between two models, behind a many-to-many field."""


@dataclass(frozen=True, eq=False)
class Thing:
    """An object that a name stands for: a module, a class, a function, a constant."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True)
class Instance:
    """An instance of a class that is no model."""

    cls: type
    value: Any = field(default=None, compare=False)
    """The object itself, where there is one already."""
    is_new: bool = False
    """A form or serializer that was given no row to change."""


@dataclass(frozen=True)
class Method:
    """A function that is called on something."""

    function: Callable[..., Any]
    owner: Rows | Instance | Thing


@dataclass(frozen=True)
class Above:
    """``super()``: what the classes after ``cls`` say."""

    owner: Rows | Instance
    cls: type


@dataclass(frozen=True)
class Request:
    """The request."""


@dataclass(frozen=True)
class Session:
    """The dictionary ``request.session``, which is saved whole."""


Nature = Rows | Thing | Instance | Method | Above | Request | Session | None


@dataclass
class Effects:
    """The tables that a function touches, by itself and by what it calls."""

    writes: dict[str, set[str]] = field(default_factory=dict)
    """By table: the ways in which it is written: save, create, update, delete, sql."""
    reads: set[str] = field(default_factory=set)
    locks: set[str] = field(default_factory=set)
    """Tables whose rows it locks (SELECT … FOR UPDATE)."""
    has_advisory_lock: bool = False
    looks_at_post: bool = False
    """Whether it mentions ``request.POST``, ``request.method`` or the request's body."""
    unseen: dict[str, None] = field(default_factory=dict)
    """Places whose effects can't be told, as “orders/views.py:12 form.save()”."""
    returns: Nature = None

    def add(self, other: Effects) -> None:
        for table, ways in other.writes.items():
            self.writes.setdefault(table, set()).update(ways)
        self.reads |= other.reads
        self.locks |= other.locks
        self.unseen |= other.unseen
        self.has_advisory_lock |= other.has_advisory_lock
        self.looks_at_post |= other.looks_at_post


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


class Walk(ast.NodeVisitor):
    """Walks one function from top to bottom, and notes its effects."""

    def __init__(
        self,
        source: Source,
        function: Callable[..., Any],
        node: Any,
        effects: Effects,
        owner: Nature,
        arguments: tuple[Nature, ...],
    ) -> None:
        self.source = source
        self.function = function
        self.node = node
        self.effects = effects
        self.owner = owner
        self.outside = {**vars(builtins), **function.__globals__, **closure_of(function)}
        self.names: dict[str, Nature] = {}
        self._natures: dict[ast.AST, Nature] = {}
        self._name_parameters(node.args, owner, arguments)

    def walk(self) -> None:
        body = self.node.body
        for statement in body if isinstance(body, list) else [body]:
            self.visit(statement)
        if isinstance(self.node, ast.Lambda):
            self.effects.returns = self.nature(self.node.body)
        elif self.node.returns is not None and self.effects.returns is None:
            self.effects.returns = self.annotated(self.node.returns)

    def _name_parameters(
        self, given: ast.arguments, owner: Nature, arguments: tuple[Nature, ...]
    ) -> None:
        positional = [*given.posonlyargs, *given.args]
        # A function that api_view() made into a method still begins with its request.
        takes_owner = positional and positional[0].arg != "request" and not self._is_static()
        if owner is not None and takes_owner:
            self.names[positional.pop(0).arg] = owner
        natures = dict(zip((each.arg for each in positional), arguments, strict=False))
        for each in [*positional, *given.kwonlyargs]:
            nature = natures.get(each.arg) or self.annotated(each.annotation)
            if nature is None and each.arg == "request":
                nature = Request()
            if nature is None and isinstance(owner, Instance):
                nature = form_of(owner.cls, each.arg)
            self.names[each.arg] = nature

    def _is_static(self) -> bool:
        cls = self.owner.cls if isinstance(self.owner, Instance) else None
        if cls is None:
            return False
        return isinstance(inspect.getattr_static(cls, self.function.__name__, None), staticmethod)

    # Statements

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, self.nature(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        nature = self.annotated(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            nature = nature or self.nature(node.value)
        self._assign(node.target, nature)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if isinstance(node.target, ast.Subscript | ast.Attribute):
            self._assign(node.target, None)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._assign(node.target, self.nature(node.value))

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._assign(node.target, self.nature(node.iter))
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    visit_AsyncFor = visit_For

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, self.nature(item.context_expr))
        for statement in node.body:
            self.visit(statement)

    visit_AsyncWith = visit_With

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        self._assign(node.target, self.nature(node.iter))
        for condition in node.ifs:
            self.visit(condition)

    def _visit_comprehension_first(self, node: Any) -> None:
        for generator in node.generators:
            self.visit(generator)
        for part in ("key", "value", "elt"):
            if hasattr(node, part):
                self.visit(getattr(node, part))

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = (
        _visit_comprehension_first
    )

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """A function inside: as if it were called where it stands."""
        for each in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            self.names[each.arg] = self.annotated(each.annotation)
        for statement in node.body:
            self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.visit(node.value)
            self.effects.returns = self.effects.returns or self.nature(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            name = each.asname or each.name.partition(".")[0]
            self.names[name] = thing_named(each.name if each.asname else name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        package = self.function.__globals__.get("__package__") or ""
        for each in node.names:
            self.names[each.asname or each.name] = thing_named(
                "." * node.level + (node.module or ""), each.name, package
            )

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._assign(target, None)

    def _assign(self, target: ast.AST, nature: Nature) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = nature
        elif isinstance(target, ast.Tuple | ast.List):
            for each in target.elts:
                self._assign(each, nature)
        elif isinstance(target, ast.Starred):
            self._assign(target.value, nature)
        elif isinstance(target, ast.Subscript):
            if isinstance(self.nature(target.value), Session):
                self._note_session()
        elif isinstance(target, ast.Attribute):
            owner = self.nature(target.value)
            if isinstance(owner, Instance) and nature is not None:
                self.source.attributes[owner.cls, target.attr] = nature

    # Expressions

    def visit_Call(self, node: ast.Call) -> None:
        self.nature(node)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.nature(node)
        self.generic_visit(node)

    def nature(self, node: ast.AST | None) -> Nature:
        """The nature of an expression; None if it isn't known."""
        if node is None:
            return None
        if node not in self._natures:
            self._natures[node] = None
            self._natures[node] = self._nature(node)
        return self._natures[node]

    def _nature(self, node: ast.AST) -> Nature:
        match node:
            case ast.Name():
                if node.id in self.names:
                    return self.names[node.id]
                return nature_of(self.outside[node.id]) if node.id in self.outside else None
            case ast.Attribute():
                return self._attribute(self.nature(node.value), node.attr)
            case ast.Call():
                return self._call(node)
            case ast.Await() | ast.Subscript() | ast.NamedExpr() | ast.Starred():
                return self.nature(node.value)
            case ast.IfExp():
                return self.nature(node.body) or self.nature(node.orelse)
            case ast.BoolOp():
                return first(self.nature(each) for each in node.values)
            case ast.BinOp():
                return self.nature(node.left) or self.nature(node.right)
            case ast.List() | ast.Tuple() | ast.Set():
                return first(self.nature(each) for each in node.elts)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                self._visit_comprehension_first(node)
                return self.nature(node.elt)
            case ast.Constant():
                return Thing(node.value) if isinstance(node.value, str) else None
        return None

    def _attribute(self, owner: Nature, name: str) -> Nature:
        match owner:
            case Rows():
                return self._of_rows(owner, name)
            case Instance():
                return self._of_instance(owner, name)
            case Thing():
                return of_thing(owner.value, name)
            case Above():
                return above(owner, name)
            case Request():
                if name in ("POST", "method", "body", "FILES", "data"):
                    self.effects.looks_at_post = True
                if name in ("user", "auser"):
                    return user_rows()
                return Session() if name == "session" else None
        return None

    def _of_rows(self, owner: Rows, name: str) -> Nature:
        related = related_rows(owner.model, name)
        if related is not None:
            return related
        found = function_of_model(owner.model, name)
        if isinstance(found, property | functools.cached_property):
            getter = found.fget if isinstance(found, property) else found.func
            return self._follow(getter, owner, ())
        return Method(found, owner) if found is not None and is_own_somewhere(found) else None

    def _of_instance(self, owner: Instance, name: str) -> Nature:
        if (owner.cls, name) in self.source.attributes:
            return self.source.attributes[owner.cls, name]
        found = inspect.getattr_static(owner.cls, name, None)
        if isinstance(found, property | functools.cached_property):
            getter = found.fget if isinstance(found, property) else found.func
            return self._follow(getter, owner, ())
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        if isinstance(found, types.FunctionType):
            return Method(found, owner)
        if name == "request":
            return Request()
        if name in ("object", "instance"):
            model = model_of(owner.cls)
            return Rows(model) if model else None
        if found is None:
            found = getattr(owner.value, "__dict__", {}).get(name)
        return self._annotated_attribute(owner.cls, name) if found is None else nature_of(found)

    def _annotated_attribute(self, cls: type, name: str) -> Nature:
        for each in cls.__mro__:
            text = inspect.get_annotations(each).get(name)
            if text is not None:
                space = vars(inspect.getmodule(each) or builtins)
                return annotated(text, {**vars(builtins), **space})
        return None

    def annotated(self, node: ast.AST | None) -> Nature:
        """The nature of a value with this annotation."""
        return annotated(node, self.outside)

    # Calls

    def _call(self, node: ast.Call) -> Nature:
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        natures = [self.nature(each) for each in given]
        for nature in natures:  # a function that is handed on is taken as called: on_commit(…)
            if isinstance(nature, Method) or is_function(nature):
                self._follow_nature(nature, ())
        if isinstance(node.func, ast.Attribute):
            name, owner = node.func.attr, self.nature(node.func.value)
            if ADVISORY.search(ast.unparse(node.func)):
                self.effects.has_advisory_lock = True
            is_of_cursor = owner is None and name in ("execute", "executemany")
            if natures and (is_of_cursor or (isinstance(owner, Rows) and name == "raw")):
                self._note_sql(node, natures[0])
            if isinstance(owner, Rows):
                return self._call_on_rows(node, owner, name)
            if isinstance(owner, Above) and isinstance(owner.owner, Rows):
                called = above(owner, name)
                if called is None:
                    return self._call_on_rows(node, owner.owner, name)
            if isinstance(owner, Session) and name in ("pop", "update", "setdefault", "flush"):
                self._note_session()
        called = self.nature(node.func)
        if called is None and isinstance(node.func, ast.Name) and node.func.id == "super":
            return None
        return self._call_of(node, called, natures)

    def _call_of(self, node: ast.Call, called: Nature, natures: list[Nature]) -> Nature:
        arguments = tuple(natures[: len(node.args)])
        match called:
            case Method():
                return self._call_method(node, called, arguments)
            case Thing(value=value) if isinstance(value, type):
                return self._call_class(node, value, arguments)
            case Thing(value=value):
                return self._call_function(node, value, natures)
        self._note_if_unseen(node, natures)
        return None

    def _call_method(self, node: ast.Call, called: Method, arguments: tuple[Nature, ...]) -> Nature:
        if is_own_somewhere(called.function):
            return self._follow(called.function, called.owner, arguments)
        if isinstance(called.owner, Instance):
            return self._call_of_library(node, called.owner, called.function.__name__)
        return None

    def _call_of_library(self, node: ast.Call, owner: Instance, name: str) -> Nature:
        """A method that a form, a serializer or a view has from a package."""
        cls, model = owner.cls, model_of(owner.cls)
        if name in ("save", "asave") and hasattr(cls, "is_valid"):
            if model is not None and not is_without_commit(node):
                self._note_write(model, CREATE if owner.is_new else SAVE, "save")
            return Rows(model, is_new=owner.is_new) if model else None
        if name == "get_object" or name == "get_queryset":
            return self._read(Rows(model)) if model else None
        if name in ("get_form", "get_serializer", "get_form_class"):
            return form_of(cls, "form") or form_of(cls, "serializer")
        if name == "form_valid":
            self._note_form_valid(cls, model)
            return None
        if model is not None and name in ("create", "update", "perform_create", "perform_update"):
            self._note_write(model, SAVE if "update" in name else CREATE, "save")
        return None

    def _note_form_valid(self, cls: type, model: type[models.Model] | None) -> None:
        if model is None:
            return
        names = {each.__name__ for each in cls.__mro__}
        if "DeletionMixin" in names:
            self._note_write(model, DELETE, "delete")
        elif "ModelFormMixin" in names:
            self._note_write(model, CREATE if "BaseCreateView" in names else SAVE, "save")

    def _call_class(self, node: ast.Call, cls: type, arguments: tuple[Nature, ...]) -> Nature:
        if cls is super and isinstance(self.owner, Rows | Instance):
            return Above(self.owner, self._class_of_this_function())
        if cls.__name__ in WRAPPERS:
            return first(each for each in arguments if each is not None)
        if issubclass(cls, models.Model):
            return Rows(cls, is_new=True)
        init = inspect.getattr_static(cls, "__init__", None)
        if isinstance(init, types.FunctionType) and is_own(init):
            self._follow(init, Instance(cls), arguments)
        changes_a_row = any(keyword.arg == "instance" for keyword in node.keywords)
        return Instance(cls, is_new=not changes_a_row)

    def _call_function(self, node: ast.Call, function: Any, natures: list[Nature]) -> Nature:
        name = getattr(function, "__name__", "")
        arguments = tuple(natures[: len(node.args)])
        if name in SHORTCUTS:
            found = natures[0] if natures else None
            if isinstance(found, Thing) and is_model(found.value):
                found = Rows(found.value)
            return self._read(found) if isinstance(found, Rows) else None
        if name in WRAPPERS:
            return first(each for each in natures if each is not None)
        if is_own_somewhere(function):
            return self._follow(function, None, arguments)
        module = getattr(function, "__module__", "") or ""
        if module == "django.contrib.auth" and name in ("login", "alogin", "logout", "alogout"):
            self._note_session()
            return None
        if not module.startswith("django.") and is_of_a_package(function):
            self._note_if_unseen(node, natures)
        return None

    def _call_on_rows(self, node: ast.Call, owner: Rows, name: str) -> Nature:
        method = name[1:] if name.startswith("a") and name[1:] in {*WAYS, *RELATED} else name
        found = function_of_model(owner.model, name)
        if found is not None and is_own_somewhere(found) and method not in SAVES_EACH | {"delete"}:
            arguments = tuple(self.nature(each) for each in node.args)
            return self._follow(found, owner, arguments) or owner
        if name == "select_for_update":
            self.effects.locks.add(owner.model._meta.db_table)
        if owner.through and method in {*RELATED, "create", "get_or_create"}:
            self.effects.writes.setdefault(owner.through, set()).add(CREATE)
            return Rows(owner.model)
        if method in RELATED:
            self._note_write(owner.model, UPDATE, method)
        elif method in WAYS:
            is_new = owner.is_new and WAYS[method] == SAVE
            self._note_write(owner.model, CREATE if is_new else WAYS[method], method)
        elif re.match(r"(create|update|delete)_", name):  # a manager of a package: create_user()
            self._note_write(owner.model, name.partition("_")[0], method)
        elif not owner.is_new:
            self._read(owner)
        return Rows(owner.model)

    def _follow_nature(self, nature: Nature, arguments: tuple[Nature, ...]) -> None:
        if isinstance(nature, Method):
            self._follow(nature.function, nature.owner, arguments)
        elif isinstance(nature, Thing):
            self._follow(nature.value, None, arguments)

    def _follow(self, function: Any, owner: Nature, arguments: tuple[Nature, ...]) -> Nature:
        effects = self.source.effects_of(function, owner, arguments)
        self.effects.add(effects)
        return effects.returns

    def _class_of_this_function(self) -> type:
        cls = closure_of(self.function).get("__class__")
        return cls if isinstance(cls, type) else object

    # Notes

    def _read(self, rows: Rows) -> Rows:
        self.effects.reads.add(rows.model._meta.db_table)
        return Rows(rows.model)

    def _note_write(self, model: type[models.Model], way: str, method: str) -> None:
        self.effects.add(self.source.effects_of_write(model, way, method))

    def _note_session(self) -> None:
        table = session_table()
        if table is not None:
            self.effects.writes.setdefault(table, set()).add(SAVE)

    def _note_sql(self, node: ast.Call, nature: Nature) -> None:
        text = nature.value if isinstance(nature, Thing) else None
        if isinstance(node.args[0] if node.args else None, ast.JoinedStr):
            text = "".join(
                str(each.value) if isinstance(each, ast.Constant) else "?"
                for each in node.args[0].values  # type: ignore[attr-defined]
            )
        if not isinstance(text, str):
            self._note_unseen(node)
            return
        for _, table in TARGET.findall(text):
            if table.upper() != "SET":  # ON CONFLICT DO UPDATE SET
                self.effects.writes.setdefault(table, set()).add(SQL)
        read = set(FROM.findall(text)) & known_tables()
        self.effects.reads |= read
        if LOCKING.search(text):
            self.effects.locks |= read
        if ADVISORY.search(text):
            self.effects.has_advisory_lock = True

    def _note_if_unseen(self, node: ast.Call, natures: list[Nature]) -> None:
        """Note a call that can't be followed, if it may write: by its name, or by what it gets."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        asks = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call)
        is_query = name == "update" and asks and method_in(node.func.value) & QUERIES  # type: ignore[attr-defined]
        has_rows = any(isinstance(each, Rows | Request) for each in natures)
        has_rows = has_rows and name not in OF_COLLECTIONS
        if name in TELLS_A_WRITE or is_query or has_rows:
            self._note_unseen(node)

    def _note_unseen(self, node: ast.Call) -> None:
        path = Path(self.function.__code__.co_filename)
        text = ast.unparse(node.func)
        text = text if len(text) <= 40 else "…" + text[-39:]
        self.effects.unseen[f"{shown_path(path)}:{node.lineno} {text}()"] = None


def first(natures: Any) -> Nature:
    return next((each for each in natures if each is not None), None)


def shown_path(path: Path) -> str:
    """From the current directory, if it is in there."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


# Objects, and their attributes


def nature_of(value: object) -> Nature:
    """The nature of an object that a name stands for."""
    if isinstance(value, models.Manager | models.QuerySet):
        return Rows(value.model) if value.model else None
    if isinstance(value, models.Model):
        return Rows(type(value))
    if isinstance(value, functools.partial):
        return nature_of(value.func)
    if isinstance(value, types.MethodType):
        return Method(value.__func__, owner_of(value.__self__))
    return Thing(value)


def owner_of(value: object) -> Rows | Instance | Thing:
    """The nature of the object that a bound method belongs to."""
    nature = nature_of(value)
    if isinstance(nature, Rows):
        return nature
    return Thing(value) if isinstance(value, type) else Instance(type(value), value)


def of_thing(value: Any, name: str) -> Nature:
    """The attribute of a module, a class, or another object, without running any code of it."""
    if isinstance(value, types.ModuleType):
        found = vars(value).get(name)
        return nature_of(found) if found is not None else thing_named(value.__name__, name)
    if is_model(value) and any(manager.name == name for manager in value._meta.managers):
        return Rows(value)
    is_class = isinstance(value, type)
    found = inspect.getattr_static(value if is_class else type(value), name, None)
    if isinstance(found, classmethod):
        return Method(found.__func__, Thing(value))
    if isinstance(found, staticmethod):
        return Thing(found.__func__)
    if found is not None and isinstance(found, types.FunctionType):
        return Thing(found) if is_class else Method(found, Instance(type(value), value))
    if found is None and not is_class:
        found = getattr(value, "__dict__", {}).get(name)
    return nature_of(found) if found is not None else None


def above(owner: Above, name: str) -> Nature:
    """The method of this name that comes after the class in its order of bases."""
    cls = owner.owner.model if isinstance(owner.owner, Rows) else owner.owner.cls
    mro = list(cls.__mro__)
    after = mro[mro.index(owner.cls) + 1 :] if owner.cls in mro else mro[1:]
    for each in after:
        found = each.__dict__.get(name)
        if isinstance(found, types.FunctionType):
            is_builtin = isinstance(owner.owner, Rows) and not is_own_somewhere(found)
            return None if is_builtin else Method(found, owner.owner)
    return None


def thing_named(module: str, name: str = "", package: str = "") -> Nature:
    """The object that an import would give; None if there is no such thing."""
    try:
        found = importlib.import_module(module, package or None)
        if not name:
            return Thing(found)
        if hasattr(found, name):
            return nature_of(getattr(found, name))
        return Thing(importlib.import_module(f"{found.__name__}.{name}"))
    except Exception:  # an import that fails is none of ours
        return None


def annotated(node: object, outside: dict[str, Any]) -> Nature:
    """The nature of a value with this annotation, given as a tree, as text, or as an object."""
    if isinstance(node, str):
        try:
            node = ast.parse(node, mode="eval").body
        except SyntaxError:
            return None
    match node:
        case ast.Constant(value=str() as text):
            return annotated(text, outside)
        case ast.BinOp():
            return annotated(node.left, outside) or annotated(node.right, outside)
        case ast.Subscript():
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return first(annotated(each, outside) for each in parts)
        case ast.Name() | ast.Attribute():
            found = outside.get(ast.unparse(node).partition(".")[0])
            for name in ast.unparse(node).split(".")[1:]:
                found = getattr(found, name, None)
            return annotated(found, outside)
    if isinstance(node, type):
        if is_model(node):
            return Rows(node)
        if issubclass(node, HttpRequest) or node.__name__ == "Request":
            return Request()
        return Instance(node) if is_own(node) or issubclass(node, BaseForm) else None
    return None


def is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, models.Model) and hasattr(value, "_meta")


def is_function(nature: Nature) -> bool:
    return isinstance(nature, Thing) and isinstance(nature.value, types.FunctionType)


def is_own_somewhere(function: object) -> bool:
    """Whether the function, or one that it wraps, is the project's own."""
    return any(is_own(each) for each in layers(function))


def is_of_a_package(function: object) -> bool:
    code = getattr(function, "__code__", None)
    parts = Path(code.co_filename).parts if code else ()
    return bool({"site-packages", "dist-packages"} & set(parts))


def is_without_commit(node: ast.Call) -> bool:
    return any(
        keyword.arg == "commit"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is False
        for keyword in node.keywords
    )


def method_in(node: ast.AST) -> set[str]:
    """The names of the methods in a chain of calls."""
    return {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


# Models, forms, signals


def form_of(cls: type, name: str) -> Nature:
    """The form or serializer that a view's methods get under this name."""
    for attribute in ("form_class", "serializer_class"):
        found = getattr(cls, attribute, None)
        if attribute.startswith(name) and isinstance(found, type):
            return Instance(found)
    return None


def model_of(cls: type) -> type[models.Model] | None:
    """The model of a form, a serializer or a generic view."""
    for holder in (cls, getattr(cls, "form_class", None), getattr(cls, "serializer_class", None)):
        for place in (holder, getattr(holder, "_meta", None), getattr(holder, "Meta", None)):
            model = getattr(place, "model", None)
            if is_model(model):
                return model
    queryset = inspect.getattr_static(cls, "queryset", None)
    return queryset.model if isinstance(queryset, models.QuerySet | models.Manager) else None


def related_rows(model: type[models.Model], name: str) -> Rows | None:
    """The rows behind a field that relates, or behind the other side of one."""
    meta = model._meta
    try:
        found: Any = meta.get_field(name)
    except FieldDoesNotExist:
        found = next(
            (each for each in meta.related_objects if each.get_accessor_name() == name), None
        )
    if found is None or not found.is_relation or not is_model(found.related_model):
        return None
    through = getattr(found, "through", None) or getattr(
        getattr(found, "remote_field", None), "through", None
    )
    return Rows(found.related_model, through=through._meta.db_table if through else "")


def function_of_model(model: type[models.Model], name: str) -> Any:
    """A method or property of the model, of its managers, or of their querysets."""
    found = inspect.getattr_static(model, name, None)
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if isinstance(found, types.FunctionType | property | functools.cached_property):
        return found
    for manager in model._meta.managers:
        for cls in (type(manager), getattr(manager, "_queryset_class", object)):
            found = inspect.getattr_static(cls, name, None)
            if isinstance(found, types.FunctionType):
                return found
    return None


def receivers_of(signal: signals.ModelSignal, model: type[models.Model]) -> list[Any]:
    """The project's functions that a signal of this model calls."""
    found: Any = signal._live_receivers(model)
    flat = [each for part in found for each in part] if isinstance(found, tuple) else found
    return [each for each in flat if is_own_somewhere(each)]


def cascades_of(model: type[models.Model]) -> dict[str, str]:
    """The tables that a deletion changes besides, and how."""
    found: dict[str, str] = {}
    todo = [model]
    while todo:
        for relation in todo.pop()._meta.get_fields(include_hidden=True):
            if not (relation.auto_created and relation.is_relation and not relation.concrete):
                continue
            on_delete = getattr(relation, "on_delete", None)
            related: Any = relation.related_model
            table = related._meta.db_table
            if table in found or on_delete is None:
                continue
            if on_delete is models.CASCADE:
                found[table] = DELETE
                todo.append(related)
            elif on_delete in (models.SET_NULL, models.SET_DEFAULT):
                found[table] = UPDATE
    return found


def user_rows() -> Rows | None:
    try:
        return Rows(get_user_model())
    except ImproperlyConfigured:
        return None


@functools.cache
def known_tables() -> frozenset[str]:
    return frozenset(model._meta.db_table for model in apps.get_models(include_auto_created=True))


def session_table() -> str | None:
    """The table of sessions, if that is where they are."""
    engine = settings.SESSION_ENGINE
    if engine.rpartition(".")[2] in ("db", "cached_db"):
        return "django_session"
    return None
