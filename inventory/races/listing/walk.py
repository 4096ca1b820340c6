"""Walks the syntax tree of one function, and notes its effects."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import models

from .effects import (
    CREATE,
    DELETE,
    SAVE,
    SAVES_EACH,
    SQL,
    UPDATE,
    WAYS,
    Effects,
    known_tables,
    session_table,
    way_of_library,
)
from .natures import (
    Above,
    Instance,
    Method,
    Nature,
    Request,
    Rows,
    Session,
    Thing,
    above,
    annotated,
    first,
    form_of,
    function_of_model,
    is_function,
    is_model,
    model_of,
    nature_of,
    of_thing,
    related_rows,
    thing_named,
    user_rows,
)
from .own import (
    closure_of,
    is_of_a_package,
    is_own,
    is_own_somewhere,
    shown_path,
)

if TYPE_CHECKING:
    from .source import Source

RELATED = {"add", "set", "remove", "clear"}
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
        way = way_of_library({each.__name__ for each in cls.__mro__}, name)
        if model is not None and way is not None:
            self._note_write(model, way, "delete" if way == DELETE else "save")
        return None

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
