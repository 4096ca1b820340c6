"""The rows that a request may change, by reasoning about who sends it and how.

This is an oracle: it says what must hold, and reads no permission of the shop.

- Any request may take back a lapsed hold, and end the session that it came with.
- A customer's form changes what is the customer's own; the secret address of an order or of its
  payment makes that order one's own, but for the address that its parcel goes to.
- A page of an order asks the bank first how its payment stands.
- Staff change what their group is for, by forms of the admin.
- Nobody deletes orders, money or the record of what was done, or changes what was agreed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from tests.tools.fuzz.changes import Change
from tests.tools.fuzz.owners import Owners
from tests.tools.fuzz.senders import PASSWORD, Sender
from tests.tools.fuzz.wire import Request

ORDER_PAGE = re.compile(r"/orders/[^/]+/")
STAFF_PAGE = re.compile(r"/(admin|demo-bank/charges)/")
CHECK_NOW = "/admin/check-stock/"
LOGIN = "/admin/login/"
EMPTY = "e30:"  # the beginning of a session's data before it is anybody's
CHANGE_PASSWORD = "/admin/password_change/"
AUTHOR = {"django_admin_log": "user_id", "inventory_importfile": "uploaded_by_id"}
"""The column that says who did it."""
CONTACT = {"name", "email", "email_key", "street", "postcode", "town", "country"}

# Nobody changes these columns of a row that is there, whoever it is.
FIXED = {
    "inventory_reservation": {"id", "product_id", "buyer", "unit_price", "created_at"},
    "shop_order": {"id", "token", "number", "buyer", "currency", "shipping_cost", "placed_at"},
    "shop_orderline": {"id", "order_id", "reservation_id", "unit_price", "quantity"},
    "shop_payment": {"id", "order_id", "provider", "key", "amount", "currency"},
    "shop_refund": {"id", "payment_id", "key"},
    "shop_demobankcharge": {"id", "key", "reference", "amount", "currency"},
}
# Nobody changes or deletes a row of these.
APPEND_ONLY = {"inventory_stockmovement", "django_admin_log"}
# Nobody deletes a row of these; old ones are tidied up by the worker.
KEPT = {
    *FIXED,
    "inventory_stockalert",
    "shop_dispute",
    "shop_paymentevent",
    "shop_shopalert",
    "shop_outboxmail",
    "shop_demobankrefund",
    "shop_demobankdispute",
    "procrastinate_jobs",
    "procrastinate_events",
}

# The tables of an order, and of what belongs to it.
OF_ORDERS = {
    "shop_order",
    "shop_orderline",
    "shop_payment",
    "shop_refund",
    "shop_dispute",
    "shop_paymentevent",
    "shop_shopalert",
    "shop_demobankcharge",
    "shop_demobankrefund",
    "shop_demobankdispute",
}
# The tables that the check of all products writes to, as the worker does each minute.
OF_CHECKS = {"inventory_stockcheck", "inventory_stockalert", "shop_shopalert"}
CHECKERS = ("merchant", "superuser")
JOBS = {"procrastinate_jobs", "procrastinate_events"}
# The alert that no worker runs, and the e-mail about it.
OF_HEALTH = {"shop_shopalert", "shop_outboxmail", *JOBS}
TRACES = {"shop_refusal", "shop_holdaddress"}
"""Notes of attempts to reserve."""

# The tables that staff change by the admin's forms.
BY_STAFF: dict[str, set[str]] = {
    "clerk": set(),
    "auditor": set(),
    "merchant": {
        "inventory_product",
        "inventory_stockmovement",
        "inventory_reservation",
        "inventory_stockalert",
        "inventory_stockcheck",
        "inventory_importfile",
        "django_admin_log",
        *OF_ORDERS,
        *JOBS,
        *TRACES,
    },
}
BY_STAFF["superuser"] = {
    *BY_STAFF["merchant"],
    "inventory_flashsale",
    "inventory_flashsaleresult",
    "auth_user",
    "auth_user_groups",
    "auth_user_user_permissions",
    "auth_group",
    "auth_group_permissions",
    "django_session",
}


@dataclass(frozen=True)
class Rights:
    """The right of one request to change rows."""

    sender: Sender
    request: Request
    owners: Owners
    new_buyers: set[str]
    """The keys of buyers whom nobody has seen before this request."""

    def forbidden(self, changes: list[Change]) -> list[str]:
        """The changes that this request must not make, in words."""
        wrong = [str(change) for change in changes if not self.allows(change)]
        return wrong or self._unexplained_stock(changes)

    def allows(self, change: Change) -> bool:
        """Whether the request may make this change."""
        if self._is_fixed(change):
            return False
        if is_lapse(change) or (change.table == "inventory_product" and is_of_stock(change)):
            return True
        if change.table == "django_session" and self._is_own_session(change):
            return True
        if self.request.is_forged:
            return False
        return self._allows_by_page(change)

    def _allows_by_page(self, change: Change) -> bool:
        path, method = self.request.decoded_path, self.request.method
        if path == "/healthz":
            return change.table in OF_HEALTH
        if method in ("GET", "HEAD") and ORDER_PAGE.fullmatch(path):
            return self._allows_order_page(change)
        if method != "POST":
            return False
        if STAFF_PAGE.match(path):
            return self._allows_staff(change)
        return self._allows_customer(change)

    def _is_fixed(self, change: Change) -> bool:
        """Whether it changes what nobody may change."""
        if change.table in APPEND_ONLY:
            return change.operation != "INSERT"
        if change.operation == "DELETE":
            return change.table in KEPT
        if change.operation == "UPDATE":
            return bool(change.columns & FIXED.get(change.table, set()))
        return False

    def _is_own_session(self, change: Change) -> bool:
        return str(change.row["session_key"]) in self.request.headers.get("Cookie", "")

    def _allows_order_page(self, change: Change) -> bool:
        if change.table == "shop_order" and change.columns & CONTACT:
            return False
        return change.table == "procrastinate_events" or self._is_of_own_order(change)

    def _is_of_own_order(self, change: Change) -> bool:
        if change.table not in {*OF_ORDERS, *JOBS, "inventory_reservation"}:
            return False
        order = self.owners.order_of(change)
        return self.owners.may_use(order, self.sender, self.request)

    def _allows_customer(self, change: Change) -> bool:
        if change.table in TRACES | JOBS and not self.owners.order_of(change):
            return True
        if change.table in ("inventory_reservation", "shop_order"):
            if self._is_mine(change.row["buyer"]):
                return True
            if change.table == "shop_order" and change.columns & CONTACT:
                return False  # the parcel would go to somebody else
        return self._is_of_own_order(change) or self._is_of_new_order(change)

    def _is_of_new_order(self, change: Change) -> bool:
        """Whether it belongs to an order of a buyer whom nobody has seen before."""
        words = self.owners.orders.get(self.owners.order_of(change))
        return words is not None and self._is_mine(words.buyer)

    def _is_mine(self, buyer: str) -> bool:
        """Whether it is the sender's key; or a new one, which the sender just got."""
        return buyer in self.new_buyers or Owners.is_buyer(buyer, self.sender)

    def _allows_login(self, change: Change) -> bool:
        """Whether it is a note of a failed login; or of one with the right name and password."""
        if change.table.startswith("axes_"):
            return True
        if not self.request.contains(PASSWORD):
            return False
        if change.table == "auth_user" and change.columns == {"last_login"}:
            return self.request.contains(change.row["username"])
        is_new = change.before.get("session_data", EMPTY).startswith(EMPTY)
        return change.table == "django_session" and is_new

    def _allows_staff(self, change: Change) -> bool:
        if self.request.decoded_path == LOGIN:
            return self._allows_login(change)
        if not self.sender.is_staff:
            return False
        if self.request.decoded_path == CHANGE_PASSWORD and change.table == "auth_user":
            return change.columns == {"password"} and change.row["id"] == self.sender.user
        if self.request.decoded_path == CHECK_NOW and self.sender.role in CHECKERS:
            return change.table in OF_CHECKS | JOBS
        if change.row.get(AUTHOR.get(change.table, ""), self.sender.user) != self.sender.user:
            return False
        if change.table == "shop_order" and change.columns & CONTACT:
            return False
        return change.table in BY_STAFF[self.sender.role]

    def _unexplained_stock(self, changes: list[Change]) -> list[str]:
        """Changes of a product's stock without a hold, a sale or a movement that explains them.

        Units that leave the stock are held or sold, and those that come were held, sold or
        received.
        """
        balance: dict[int, int] = {}
        touched: dict[int, Change] = {}
        for change in changes:
            if change.table == "inventory_product" and change.operation == "UPDATE":
                product, more = change.row["id"], change.after["stock"] - change.before["stock"]
                touched[product] = change
            elif change.table == "inventory_reservation":
                product = change.row["product_id"]
                more = units(change.after) - units(change.before)
            elif change.table == "inventory_stockmovement":
                product, more = change.row["product_id"], -change.row["units"]
                if change.row["reason"] == "REPAIR":
                    return []
            else:
                continue
            balance[product] = balance.get(product, 0) + more
        return [str(touched[each]) for each in touched if balance[each]]


def is_lapse(change: Change) -> bool:
    """Whether it takes back a hold whose time was over."""
    if change.table != "inventory_reservation" or change.after.get("status") != "EXPIRED":
        return False
    ends = parse_datetime(change.before.get("expires_at", ""))
    return (
        change.before["status"] == "HELD"
        and change.columns <= {"status", "decided_at"}
        and ends is not None
        and ends <= timezone.now()
    )


def is_of_stock(change: Change) -> bool:
    return change.operation == "UPDATE" and change.columns <= {"stock", "version"}


def units(row: dict[str, object]) -> int:
    """The units that a reservation keeps from the stock."""
    if row.get("status") not in ("HELD", "SOLD"):
        return 0
    return int(json.dumps(row["quantity"])) - int(json.dumps(row["returned"]))
