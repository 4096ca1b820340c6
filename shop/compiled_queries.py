"""Queries whose SQL Django writes once per process, and not anew for each request.

To write the SQL of a product's page, Django takes ten times as long as PostgreSQL to answer it
(measured). A function that builds a queryset becomes such a query by ``@compiled``. Its parameters
are texts that are known only when the query is sent:

    @compiled
    def products_of(slug: str) -> QuerySet[Product]:
        return Product.objects.filter(slug=slug)

    products_of(slug="lamp").first()
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet

from inventory.database import Question, alias, ask, connection

Row = TypeVar("Row", bound=Model)


class Text(str):
    """Stands in the SQL's parameters for a text that is known only when the query is sent."""


@dataclass(frozen=True)
class Statement:
    """SQL with named parameters, and the values of those that never change."""

    sql: str
    values: dict[str, Any]


class CompiledQuery(Generic[Row]):
    """A queryset whose SQL is written at its first use; see ``compiled``.

    Its rows have the model's own fields, and the annotations.
    """

    def __init__(self, build: Callable[..., QuerySet[Row]]) -> None:
        self._build = build
        self._names = set(inspect.signature(build).parameters)
        self._converters: dict[int, Any] = {}
        """By column, the functions by which Django converts the values that psycopg reads."""

    def __call__(self, **texts: str) -> Results[Row]:
        """The query with these texts. It is sent only when it is looked at."""
        if texts.keys() != self._names:
            raise TypeError(f"The query needs {sorted(self._names)}, not {sorted(texts)}.")
        return Results(self, texts)

    @cached_property
    def _queryset(self) -> QuerySet[Row]:
        queryset = self._build(**{name: Text(name) for name in self._names})
        query = queryset.query
        if not query.default_cols or query.deferred_loading[0] or query.select_related:
            raise TypeError("The query must read all fields of the model, and of no other model.")
        return queryset

    @cached_property
    def rows(self) -> Statement:
        """The statement that reads all rows."""
        compiler = self._queryset.query.get_compiler(alias())
        sql, parameters = compiler.as_sql()
        self._converters = compiler.get_converters(column for column, *_ in compiler.select or ())
        lost = self._names - {each for each in parameters if isinstance(each, Text)}
        if lost:  # a lookup has made another text of it, as ``icontains`` does
            raise TypeError(f"The query's SQL has no parameter for {sorted(lost)} as they are.")
        return self._named(sql, parameters)

    @cached_property
    def count(self) -> Statement:
        """The statement that counts the rows, up to ``at_most``."""
        sql, parameters = self._queryset.order_by().values("pk").query.sql_with_params()
        named = self._named(sql, parameters)
        limited = f"SELECT count(*) FROM ({named.sql} LIMIT %(at_most)s) AS found"
        return Statement(limited, named.values)

    def _named(self, sql: str, parameters: tuple[Any, ...]) -> Statement:
        """The statement with named parameters: a text's own name, or a number."""
        names = [
            str(each) if isinstance(each, Text) else f"{self._build.__name__}_{number}"
            for number, each in enumerate(parameters)
        ]
        values = zip(names, parameters, strict=True)
        return Statement(
            sql.replace("%%", "%%%%") % tuple(f"%({name})s" for name in names),
            {name: value for name, value in values if not isinstance(value, Text)},
        )

    @cached_property
    def _columns(self) -> tuple[list[str], list[str]]:
        """The names of the model's fields and of the annotations, in the order of the SQL."""
        query = self._queryset.query
        fields = [field.attname for field in self._queryset.model._meta.concrete_fields]
        return fields, list(query.annotation_select)

    def read_all(self, cursor: CursorWrapper) -> list[Row]:
        """Read the rows of the answer."""
        return [self._instance(list(row)) for row in cursor.fetchall()]

    def _instance(self, row: list[Any]) -> Row:
        for column, (converters, expression) in self._converters.items():
            for convert in converters:
                row[column] = convert(row[column], expression, connection())
        fields, annotations = self._columns
        instance = self._queryset.model.from_db(alias(), fields, row[: len(fields)])
        for name, value in zip(annotations, row[len(fields) :], strict=True):
            setattr(instance, name, value)
        return instance


def compiled(build: Callable[..., QuerySet[Row]]) -> CompiledQuery[Row]:
    """Make a compiled query of a function that builds a queryset.

    All else than its texts must be the same for the whole life of the process: no settings, no
    lists of varying length.
    """
    return CompiledQuery(build)


@dataclass(frozen=True)
class Results(Generic[Row]):
    """A compiled query with its texts; a list for ``Paginator``. Each look asks the database."""

    query: CompiledQuery[Row]
    texts: dict[str, str]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._fetch())

    def __getitem__(self, part: slice) -> list[Row]:
        """The rows from ``part.start`` to before ``part.stop``."""
        first = part.start or 0
        return self._fetch(
            " LIMIT %(limit)s OFFSET %(offset)s", limit=part.stop - first, offset=first
        )

    def first(self) -> Row | None:
        return next(iter(self[0:1]), None)

    def count(self) -> int:
        return self.count_up_to(None)

    def count_up_to(self, at_most: int | None) -> int:
        """The number of rows; of more than ``at_most``, this number. Fewer are read then."""
        statement = self.query.count
        values = statement.values | self.texts | {"at_most": at_most}
        return ask(Question(statement.sql, values, _read_number))

    def _fetch(self, end: str = "", **values: int) -> list[Row]:
        return ask(self.question(end, **values))

    def question(self, end: str = "", **values: int) -> Question[list[Row]]:
        """The statement that reads the rows, to be sent together with others."""
        statement = self.query.rows
        return Question(
            statement.sql + end, statement.values | self.texts | values, self.query.read_all
        )


def _read_number(cursor: CursorWrapper) -> int:
    [number] = cursor.fetchone()
    return int(number)
