"""The rows of the benchmark over HTTP: an act of the buyers, and the way in which it is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from inventory.experiments.benchmark import rows as strategy_rows
from inventory.experiments.benchmark.rows import INSERT_ONLY, InsertOnly
from inventory.experiments.benchmark.run import Comparison
from inventory.experiments.parameters import InvalidParameters

# Ways of serving
LANE, DJANGO, GTHREAD, BESIDE = "lane", "Django", "gthread", "beside"

# Acts
RESERVE, SOLD_OUT = "reserve", "sold out"
PRODUCT_PAGE, STOCK_FRAGMENT = "product page", "stock fragment"
PURCHASE = "purchase"
ORDER_LIST, ORDER_LIST_IN_RUSH = "order list", "order list in a rush"
OF_EACH_WAY = (RESERVE, SOLD_OUT, PRODUCT_PAGE, STOCK_FRAGMENT)
OF_FEW_BUYERS = (PURCHASE, ORDER_LIST, ORDER_LIST_IN_RUSH)
NEED_WRK = OF_FEW_BUYERS

MOST_BUYERS_OF_STRATEGIES = 256  # with more, the slow ones would answer nobody while measured


@dataclass(frozen=True)
class Row:
    """An act, and the way in which it is served."""

    act: str
    way: str

    @property
    def name(self) -> str:
        return f"{self.act}, {self.way}"

    @property
    def strategy(self) -> str:
        """The product's strategy; empty for the shop's own."""
        if self.act == INSERT_ONLY:
            return InsertOnly.slug
        return self.act if self.act in strategy_rows.candidates() else ""

    @property
    def posts(self) -> bool:
        """Whether it sends the form that reserves."""
        return self.act in (RESERVE, SOLD_OUT, INSERT_ONLY) or bool(self.strategy)

    @property
    def guards(self) -> bool:
        return self.posts and self.act != INSERT_ONLY

    @property
    def status(self) -> HTTPStatus:
        """The status that each answer must have."""
        if self.act == SOLD_OUT:
            return HTTPStatus.CONFLICT
        return HTTPStatus.FOUND if self.posts else HTTPStatus.OK

    def has_turn(self, buyers: int, fewest: int) -> bool:
        """Whether it is measured with so many buyers, where ``fewest`` is the least number."""
        if self.act in OF_FEW_BUYERS:
            return buyers == fewest
        if self.strategy:
            return buyers <= max(fewest, MOST_BUYERS_OF_STRATEGIES)
        return True


def all_rows(ways: Sequence[str], *, with_wrk: bool) -> list[Row]:
    """The rows of these ways, in the order of their turns. Rows that are compared come together."""
    found = [Row(act, way) for act in (*OF_EACH_WAY, PURCHASE) for way in ways]
    if LANE in ways:
        found += [Row(ORDER_LIST, LANE), Row(ORDER_LIST_IN_RUSH, LANE)]
    if DJANGO in ways:
        found += [Row(act, DJANGO) for act in (INSERT_ONLY, *strategies_of_form())]
    return [row for row in found if with_wrk or row.act not in NEED_WRK]


def strategies_of_form() -> list[str]:
    """All safe strategies but the shop's own, which serves the other rows."""
    return [slug for slug in strategy_rows.candidates() if slug != "combined"]


def chosen_rows(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The names of the rows that these acts, ways and rows name; of all rows without names.

    An act and a way narrow each other down. Raises InvalidParameters for a name of none.
    """
    acts, ways = {row.act for row in rows}, {row.way for row in rows}
    known = [*dict.fromkeys(row.act for row in rows), *dict.fromkeys(row.way for row in rows)]
    whole = {row.name for row in rows}
    for name in names:
        if name not in known and name not in whole:
            raise InvalidParameters(f"only: there is no “{name}”; there are {', '.join(known)}.")
    wanted_acts, wanted_ways = acts.intersection(names), ways.intersection(names)
    if wanted_acts or wanted_ways or not names:
        narrowed = {
            row.name
            for row in rows
            if row.act in (wanted_acts or acts) and row.way in (wanted_ways or ways)
        }
    else:
        narrowed = set()
    return [row.name for row in rows if row.name in narrowed or row.name in names]


def find_row(name: str) -> Row:
    """The row of this name, as ``chosen_rows`` gives it."""
    act, way = name.rsplit(", ", 1)
    return Row(act, way)


def comparisons(buyers: Sequence[int], ways: Sequence[str]) -> Iterator[Comparison]:
    """The comparisons of the report: those whose rows are measured are shown."""
    for number in buyers:
        for act in (*OF_EACH_WAY, PURCHASE):
            for way in ways:
                if way != LANE:
                    yield _compared(Row(act, LANE), Row(act, way), number)
        for act in (INSERT_ONLY, *strategies_of_form()):
            yield _compared(Row(RESERVE, LANE), Row(act, DJANGO), number)
        yield _compared(Row(SOLD_OUT, LANE), Row(RESERVE, LANE), number)
        yield _compared(Row(ORDER_LIST_IN_RUSH, LANE), Row(ORDER_LIST, LANE), number)
    for fewer, more in zip(sorted(buyers), sorted(buyers)[1:], strict=False):
        row = Row(RESERVE, LANE).name
        words = f"{row}: {more:,} buyers : {fewer:,}"
        yield Comparison(words, row, more, row, fewer)


def _compared(ours: Row, theirs: Row, buyers: int) -> Comparison:
    words = f"{ours.name} : {theirs.name}, {buyers:,} buyers"
    return Comparison(words, ours.name, buyers, theirs.name, buyers)
