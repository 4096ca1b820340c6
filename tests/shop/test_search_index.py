"""The index of the search, on a PostgreSQL that has its extension, and on one that hasn't."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.db import connection

from shop import catalogue, search_index
from tests.command_line import ROOT, environment
from tests.conftest import MakeProduct
from tests.shop.test_many_products import ADD_PRODUCTS
from tests.tools.dearest_statements.postgres import Cluster, NoServer

PRODUCTS = 20_000  # so many that reading all of them is dearer


@pytest.mark.django_db(transaction=True)
def test_without_the_extension_there_is_no_index_and_no_error() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
        if cursor.fetchone() != (0,):
            pytest.skip("this server has the extension")
    search_index.make("default")
    assert not search_index.is_missed("default")  # among few products


@pytest.mark.django_db
def test_among_many_products_it_is_missed(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "MANY", 1)
    make_product()
    make_product()
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX IF EXISTS shop_product_words")
        cursor.execute("ANALYZE inventory_product")
    assert search_index.is_missed("default")


@pytest.mark.slow
@pytest.mark.longest
def test_migrate_makes_it_and_the_search_uses_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("postgres")
    for directory in (home, *home.parents):
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o001)  # for the server's user
    try:
        cluster = Cluster(home / "server")
    except NoServer as problem:
        pytest.skip(str(problem))
    with cluster.running():
        _migrate(cluster)
        cluster.execute("postgres", ADD_PRODUCTS.replace("% ", "%% "), [PRODUCTS])
        cluster.execute("postgres", "VACUUM ANALYZE inventory_product")
        assert "shop_product_words" in _plan(cluster)
        # One whose making was interrupted is made again.
        cluster.execute(
            "postgres", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = "
            "'shop_product_words'::regclass"
        )  # fmt: skip
        assert "shop_product_words" not in _plan(cluster)
        _migrate(cluster)
        assert "shop_product_words" in _plan(cluster)


def _migrate(cluster: Cluster) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0"],
        cwd=ROOT,
        env={**environment(), "DATABASE_URL": cluster.url("postgres")},
        check=True,
    )


def _plan(cluster: Cluster) -> str:
    """The plan of the shop's own search for a word."""
    found: Any = catalogue.search(["kettle"], ["name"])._products
    sql, values = found.order_by().values("pk").query.sql_with_params()
    lines = cluster.execute("postgres", f"EXPLAIN {sql}", values)
    return "\n".join(line for (line,) in lines)
