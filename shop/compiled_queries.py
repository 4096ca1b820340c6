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

from django.db import connection
from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


class Text(str):
    """Stands in the SQL's parameters for a text that is known only when the query is sent."""


@dataclass(frozen=True)
class Statement:
    """SQL, and its parameters in order."""

    sql: str
    parameters: tuple[Any, ...]

    def with_texts(self, texts: dict[str, str]) -> list[Any]:
        """The parameters, with these texts in place of those that stand for them."""
        return [texts[each] if isinstance(each, Text) else each for each in self.parameters]


class CompiledQuery(Generic[Row]):
    """A queryset whose SQL is written at its first use; see ``compiled``.

    Its rows have the model's own fields and annotations, all of the types that psycopg reads.
    """

    def __init__(self, build: Callable[..., QuerySet[Row]]) -> None:
        self._build = build
        self._names = set(inspect.signature(build).parameters)

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
        rows = _written(self._queryset)
        lost = self._names - {each for each in rows.parameters if isinstance(each, Text)}
        if lost:  # a lookup has made another text of it, as ``icontains`` does
            raise TypeError(f"The query's SQL has no parameter for {sorted(lost)} as they are.")
        return rows

    @cached_property
    def count(self) -> Statement:
        """The statement that counts the rows."""
        found = _written(self._queryset.order_by().values("pk"))
        return Statement(f"SELECT count(*) FROM ({found.sql}) AS found", found.parameters)

    @cached_property
    def _columns(self) -> tuple[list[str], list[str]]:
        """The names of the model's fields and of the annotations, in the order of the SQL."""
        query = self._queryset.query
        fields = [field.attname for field in self._queryset.model._meta.concrete_fields]
        return fields, list(query.annotation_select)

    def read(self, row: tuple[Any, ...]) -> Row:
        """The instance that a row of the answer describes."""
        fields, annotations = self._columns
        instance = self._queryset.model.from_db(connection.alias, fields, row[: len(fields)])
        for name, value in zip(annotations, row[len(fields) :], strict=True):
            setattr(instance, name, value)
        return instance


def _written(queryset: QuerySet[Any]) -> Statement:
    return Statement(*queryset.query.sql_with_params())


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
        return self._fetch(" LIMIT %s OFFSET %s", [part.stop - first, first])

    def first(self) -> Row | None:
        return next(iter(self[0:1]), None)

    def count(self) -> int:
        [[number]] = _ask(self.query.count.sql, self.query.count.with_texts(self.texts))
        return int(number)

    def _fetch(self, end: str = "", parameters: list[Any] | None = None) -> list[Row]:
        values = self.query.rows.with_texts(self.texts) + (parameters or [])
        return [self.query.read(row) for row in _ask(self.query.rows.sql + end, values)]


def _ask(sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
