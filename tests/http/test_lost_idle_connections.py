"""A database server that closes all idle connections, as it does when it starts again."""

from __future__ import annotations

import pytest
from django.db import connection

from inventory.models import Reservation
from tests.conftest import MakeProduct
from tests.http.conftest import Served
from tests.http.shopper import Shopper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def close_all_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'"
        )


def test_no_request_fails_after_the_server_closed_its_idle_connections(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(100)
    page = f"/products/{product.slug}/"
    shopper = Shopper(served.url, 1)
    for number in range(2):
        for path in ("/", page, f"{page}stock/", "/basket/", "/orders/", "/healthz"):
            close_all_other_connections()
            assert shopper.get(path).status == 200, path
        form = shopper.get(page).form("/holds/")
        close_all_other_connections()
        assert shopper.send(form, quantity="1").status == 200
        assert Reservation.objects.held().count() == number + 1
