"""Fill a scratch database as a busy shop would in a few months, and time the admin's pages on it.

    python -m tests.tools.fill_database [--database NAME] [--products N] [--reservations N]
                                        [--orders N]

The database is made beside the project's own, on the same server. If it exists already, its pages
are only timed. Everything in it keeps the law.
"""

from __future__ import annotations

import os
import time

import django

from tests.tools.drills import ErrorsFirstParser

SQL = [
    (
        "products",
        """
        INSERT INTO inventory_product (sku, slug, name, description, price, picture, stock,
            units_received, version, backstop, low_stock_threshold, strategy, is_active,
            is_exhibit, created_at)
        SELECT 'SKU-' || n, 'product-' || n,
            (ARRAY['Lamp', 'Kettle', 'Chair', 'Clock', 'Rug', 'Mug'])[1 + n %% 6] || ' ' || n,
            'A product.', 5 + n %% 200, '', 0, 0, 0, true, CASE WHEN n %% 50 = 0 THEN 3 ELSE 0 END,
            '', n %% 40 <> 0, false, now() - interval '120 days'
        FROM generate_series(1, %(products)s) AS n
        """,
    ),
    (
        "reservations",
        """
        INSERT INTO inventory_reservation (id, product_id, quantity, returned, unit_price, status,
            buyer, expires_at, idempotency_key, strategy, created_at, decided_at)
        SELECT gen_random_uuid(), least(%(products)s, 1 + floor(power(dice, 3) * %(products)s)),
            1 + n %% 3, 0, 5 + n %% 200, status, 'buyer-' || n %% 300000,
            at + interval '10 min', 'key-' || n, 'single_statement', at,
            CASE WHEN status <> 'HELD' THEN at + interval '5 min' END
        FROM (
            SELECT n, random() AS dice,
                CASE WHEN n > %(reservations)s * 0.995 THEN 'HELD' ELSE
                    (ARRAY['SOLD', 'SOLD', 'SOLD', 'SOLD', 'SOLD', 'SOLD', 'SOLD', 'EXPIRED',
                        'EXPIRED', 'RELEASED'])[1 + n %% 10] END AS status,
                now() - (%(reservations)s - n) * (interval '90 days' / %(reservations)s) AS at
            FROM generate_series(1, %(reservations)s) AS n
        ) AS made
        """,
    ),
    (
        "stock",
        """
        UPDATE inventory_product AS product
        SET stock = product.id %% 97, units_received = product.id %% 97 + coalesce(units, 0)
        FROM inventory_product AS same
        LEFT JOIN (
            SELECT product_id, sum(quantity) AS units FROM inventory_reservation
            WHERE status IN ('HELD', 'SOLD') GROUP BY product_id
        ) AS promised ON promised.product_id = same.id
        WHERE same.id = product.id
        """,
    ),
    (
        "movements",
        """
        INSERT INTO inventory_stockmovement
            (product_id, units, reason, note, stock_before, stock_after, made_at)
        SELECT id, units_received, 'DELIVERY', '', 0, units_received, created_at
        FROM inventory_product WHERE units_received > 0
        """,
    ),
    (
        "orders",
        """
        INSERT INTO shop_order (token, number, idempotency_key, buyer, name, email, email_key,
            street, postcode, town, country, currency, shipping_cost, total, state, tracking,
            placed_at, paid_at, shipped_at, closed_at)
        SELECT 'token-' || n, 'N' || lpad(n::text, 8, '0'), 'key-' || n, 'buyer-' || n %% 300000,
            'Customer ' || n, 'customer' || n || '@example.org', 'customer' || n || '@example.org',
            'A street', '10115', 'Springfield', 'DE', 'EUR', 4.90, 104.90, state, '', at,
            CASE WHEN state IN ('PAID', 'SHIPPED') THEN at END,
            CASE WHEN state = 'SHIPPED' THEN at END,
            CASE WHEN state = 'CANCELLED' THEN at END
        FROM (
            SELECT n, CASE WHEN n > %(orders)s * 0.999 THEN 'PENDING' WHEN n %% 20 = 0
                    THEN 'CANCELLED' WHEN n > %(orders)s * 0.98 THEN 'PAID' ELSE 'SHIPPED' END
                    AS state,
                now() - (%(orders)s - n) * (interval '90 days' / %(orders)s) AS at
            FROM generate_series(1, %(orders)s) AS n
        ) AS made
        """,
    ),
    (
        "lines",
        """
        INSERT INTO shop_orderline
            (order_id, reservation_id, sku, name, unit_price, quantity, refunded)
        SELECT orders.id, reservation.id, 'SKU', 'A product', reservation.unit_price,
            reservation.quantity, 0
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM shop_order) AS orders
        JOIN (SELECT *, row_number() OVER (ORDER BY created_at) AS n FROM inventory_reservation
            WHERE status = 'SOLD') AS reservation USING (n)
        """,
    ),
    (
        "payments",
        """
        INSERT INTO shop_payment (order_id, provider, reference, key, amount, currency, state,
            return_url, started_at, expires_at, decided_at)
        SELECT id, 'demo', 'ref-' || id, gen_random_uuid(), total, currency,
            CASE WHEN paid_at IS NULL THEN 'DECLINED' ELSE 'PAID' END, 'http://localhost/',
            placed_at, placed_at + interval '15 min', placed_at
        FROM shop_order
        """,
    ),
    (
        "refunds",
        """
        INSERT INTO shop_refund
            (payment_id, key, amount, reason, note, state, problem, decided_at, carried_out_at)
        SELECT id, key || '-1', 5, 'GOODWILL', '', 'DONE', '', started_at, started_at
        FROM shop_payment WHERE state = 'PAID' AND id %% 20 = 1
        """,
    ),
]

PAGES = {
    "dashboard": "/admin/",
    "products": "/admin/inventory/product/",
    "products, low": "/admin/inventory/product/?stock_is=low",
    "products, found by name": "/admin/inventory/product/?q=kettle",
    "a much sold product": "/admin/inventory/product/1/change/",
    "its history": "/admin/inventory/product/1/stock-history/",
    "its reservations": "/admin/inventory/reservation/?product__id__exact=1",
    "reservations": "/admin/inventory/reservation/",
    "reservations, page 100": "/admin/inventory/reservation/?p=100",
    "reservations, held": "/admin/inventory/reservation/?status__exact=HELD",
    "reservations, released": "/admin/inventory/reservation/?status__exact=RELEASED",
    "reservations, lapse soon": "/admin/inventory/reservation/?lapse=soon",
    "reservations, catalogue": "/admin/inventory/reservation/?status__exact=HELD",
    "reservations, exhibits": "/admin/inventory/reservation/?shelf=exhibits",
    "reservations of a buyer": "/admin/inventory/reservation/?q=buyer-4711",
    "reservations of a SKU": "/admin/inventory/reservation/?q=SKU-4711",
    "its history, older": "/admin/inventory/product/1/stock-history/?before="
    "2100-01-01T00:00:00Z_0_00000000-0000-0000-0000-000000000000",
    "movements": "/admin/inventory/stockmovement/",
    "alerts": "/admin/inventory/stockalert/",
    "orders": "/admin/shop/order/",
    "orders, pending": "/admin/shop/order/?state__exact=PENDING",
    "orders, refunded (none)": "/admin/shop/order/?state__exact=REFUNDED",
    "an order's number": "/admin/shop/order/?q=N00004711",
    "an order's e-mail": "/admin/shop/order/?q=customer4711@example.org",
    "part of a name": "/admin/shop/order/?q=omer+4711",
    "an order": "/admin/shop/order/4711/change/",
    "payments": "/admin/shop/payment/",
    "payments, declined": "/admin/shop/payment/?state__exact=DECLINED",
    "refunds": "/admin/shop/refund/",
    "refusals": "/admin/shop/refusal/?refused_at_from_0=2020-01-01",
}


def main() -> None:
    parser = ErrorsFirstParser(prog="python -m tests.tools.fill_database", description=__doc__)
    parser.add_argument("--database", default="scratch")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--reservations", type=int, default=1_000_000)
    parser.add_argument("--orders", type=int, default=200_000)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    os.environ.setdefault("PAGES_PER_ADDRESS", "off")
    django.setup()
    if use(options.database):
        fill(vars(options))
    measure()


def use(name: str) -> bool:
    """Connect to the database, and make it if it doesn't exist; return whether it was made."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        is_new = cursor.fetchone() is None
        if is_new:
            cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
    connection.settings_dict["NAME"] = name
    return is_new


def migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def fill(numbers: dict[str, int]) -> None:
    from django.db import connection

    migrate()
    for what, sql in SQL:
        started = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(sql, numbers)
            print(f"{what}: {cursor.rowcount} in {time.monotonic() - started:.1f} s", flush=True)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def measure() -> None:
    """Open each page three times, and print the median."""
    from django.contrib.auth.models import User
    from django.db import connection, reset_queries
    from django.test import Client

    from inventory import alerts

    started = time.monotonic()
    broken = alerts.check_all()
    print(f"check: {len(broken)} broken, {time.monotonic() - started:.2f} s")
    user, _ = User.objects.get_or_create(username="fill", is_staff=True, is_superuser=True)
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    connection.force_debug_cursor = True
    for name, url in PAGES.items():
        times = []
        for _ in range(3):
            reset_queries()
            started = time.monotonic()
            response = client.get(url)
            times.append(time.monotonic() - started)
            assert response.status_code == 200, (url, response.status_code)
        slowest = max(connection.queries, key=lambda query: float(query["time"]))
        print(
            f"{name:26} {sorted(times)[1]:.3f} s, {len(connection.queries)} queries, "
            f"the slowest {float(slowest['time']):.3f} s"
        )


if __name__ == "__main__":
    main()
