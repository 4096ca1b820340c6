"""The owner of each row, and the words by which a page that shows it is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inventory.models import Reservation
from shop.models import DemoBankCharge, Order, OrderLine, Payment
from tests.tools.fuzz.changes import Change
from tests.tools.fuzz.people import ADA, BOB
from tests.tools.fuzz.senders import Sender
from tests.tools.fuzz.wire import Request

NEWEST = 100


@dataclass
class OrderWords:
    """Texts that are in no page but those about this order."""

    buyer: str
    secret: set[str]
    """Only its buyer may know these; staff may not."""
    private: set[str]


@dataclass
class Owners:
    """Kept up to date by the changes that the database notes."""

    buyers: dict[str, None] = field(default_factory=dict)
    """In the order in which they came."""
    orders: dict[int, OrderWords] = field(default_factory=dict)
    order_of_hold: dict[str, int] = field(default_factory=dict)
    order_of_payment: dict[int, int] = field(default_factory=dict)
    payment_of_key: dict[str, int] = field(default_factory=dict)
    key_of_charge: dict[int, str] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)
    """The buyer of each hold."""

    def read(self) -> None:
        """Read all from the database."""
        for order in Order.objects.all():
            self._add_order(vars(order))
        for hold in Reservation.objects.values("id", "buyer"):
            self._add_hold({**hold, "id": str(hold["id"])})
        for line in OrderLine.objects.values("reservation_id", "order_id"):
            self.order_of_hold[str(line["reservation_id"])] = line["order_id"]
        for payment in Payment.objects.values("id", "order_id", "key", "reference"):
            self._add_payment({**payment, "key": str(payment["key"])})
        for charge in DemoBankCharge.objects.values("id", "key", "reference"):
            self._add_charge({**charge, "key": str(charge["key"])})

    def learn(self, changes: list[Change]) -> set[str]:
        """Add the rows that these changes have made; return the keys of buyers that are new.

        Rows that are gone stay known.
        """
        known = set(self.buyers)
        for change in changes:
            row = change.after
            match change.table:
                case "shop_order" if row:
                    self._add_order(row)
                case "inventory_reservation" if row:
                    self._add_hold(row)
                case "shop_orderline" if row:
                    self.order_of_hold[row["reservation_id"]] = row["order_id"]
                case "shop_payment" if row:
                    self._add_payment(row)
                case "shop_demobankcharge" if row:
                    self._add_charge(row)
        return set(self.buyers) - known

    def _add_order(self, row: dict[str, Any]) -> None:
        private = {row["number"], row["name"], row["email"], row["street"]}
        # An odd value, such as "x", is in other pages, too.
        private = {
            word for word in private if len(word) > 8 and "zq" not in word and "=" not in word
        }
        known = self.orders.get(row["id"])
        if known is not None:
            known.private |= private  # its buyer may have typed those of an earlier order
        else:
            self.orders[row["id"]] = OrderWords(row["buyer"], {row["token"]}, private)
        self.buyers[row["buyer"]] = None

    def _add_hold(self, row: dict[str, Any]) -> None:
        self.holds[row["id"]] = row["buyer"]
        self.buyers[row["buyer"]] = None

    def _add_payment(self, row: dict[str, Any]) -> None:
        self.order_of_payment[row["id"]] = row["order_id"]
        self.payment_of_key[row["key"]] = row["id"]
        if row["reference"] and row["order_id"] in self.orders:
            self.orders[row["order_id"]].secret.add(row["reference"])

    def _add_charge(self, row: dict[str, Any]) -> None:
        self.key_of_charge[row["id"]] = row["key"]
        order = self.order_of_key(row["key"])
        if order in self.orders:
            self.orders[order].secret.add(row["reference"])

    def order_of_key(self, key: str) -> int:
        """The order of a payment's key; 0 if there is none."""
        return self.order_of_payment.get(self.payment_of_key.get(key, 0), 0)

    def order_of(self, change: Change) -> int:
        """The order that a row belongs to; 0 if it belongs to none."""
        row = change.row
        match change.table:
            case "shop_order":
                return int(row["id"])
            case "shop_orderline" | "shop_payment" | "shop_shopalert" | "shop_outboxmail":
                return int(row["order_id"] or 0)
            case "inventory_reservation":
                return self.order_of_hold.get(row["id"], 0)
            case "shop_refund" | "shop_dispute" | "shop_paymentevent":
                return self.order_of_payment.get(row["payment_id"], 0)
            case "shop_demobankcharge":
                return self.order_of_key(row["key"])
            case "procrastinate_jobs":
                return self._order_of_job(row["args"])
            case "shop_demobankrefund" | "shop_demobankdispute":
                return self.order_of_key(self.key_of_charge.get(row["charge_id"], ""))
        return 0

    def _order_of_job(self, arguments: dict[str, Any]) -> int:
        """The order that a job's arguments name; 0 if they name none."""
        if "charge_id" in arguments:
            return self.order_of_key(self.key_of_charge.get(arguments["charge_id"], ""))
        return int(arguments.get("order_id", 0))

    def watched_orders(self) -> list[tuple[int, OrderWords]]:
        """The orders whose words are looked for: those of Ada and Bob, and the newest others."""
        numbers = list(self.orders)
        newest = set(numbers[-NEWEST:])
        return [
            (number, words)
            for number, words in self.orders.items()
            if number in newest or words.buyer in (ADA.key, BOB.key)
        ]

    def watched_buyers(self) -> list[str]:
        return list(dict.fromkeys([ADA.key, BOB.key, *list(self.buyers)[-NEWEST:]]))

    def watched_holds(self) -> list[tuple[str, str]]:
        """The newest holds, each with its buyer."""
        return list(self.holds.items())[-NEWEST:]

    def may_use(self, order: int, sender: Sender, request: Request) -> bool:
        """Whether the order is the sender's, or the request has one of its secret addresses.

        Anybody who knows the address of an order, or of its payment at the bank, may use it.
        """
        words = self.orders.get(order)
        if words is None:
            return False
        parts = request.decoded_path.split("/")
        return self.is_buyer(words.buyer, sender) or any(secret in parts for secret in words.secret)

    @staticmethod
    def is_buyer(buyer: str, sender: Sender) -> bool:
        return bool(sender.buyer) and buyer == sender.buyer
