"""The shop's side of a situation: an order, the steps with it, and the checks at the end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

from django.test import Client
from django.urls import reverse

from inventory import monitor, reservations
from inventory.models import Product, Reservation
from shop import orders, shop_alerts
from shop.exceptions import ShopError
from shop.models import Dispute, Order, Payment, Refund, ShopAlert
from shop.orders import refunds, statements, status_page
from shop.payments import ProviderUnavailable, answer_within
from tests.shop.orders import steps
from tests.shop.payments.contract.bench import Bench, Post

PRICE, SHIPPING = Decimal("10.00"), Decimal("5.00")
TOTAL = 2 * PRICE + SHIPPING
BUYER_WAITS = 1.0  # seconds; a real buyer waits for eight (shop.middleware.provider_waits)

Kind = ShopAlert.Kind


@dataclass
class End:
    """The end that a situation must come to, whichever way it went."""

    order: str
    kept: Decimal = Decimal(0)
    payments: tuple[str, ...] = ("PAID",)
    refunds: tuple[tuple[str, Decimal, str], ...] = ()
    """Reason, amount and state of each."""
    disputes: tuple[str, ...] = ()
    alerts: frozenset[Kind] = frozenset()
    """The alerts that are open."""
    sold: int = 0
    """Units of the product."""
    available: int | None = None
    """Units of the product; None: all that aren't sold."""


class World:
    """A shop with five units of one product, and one order of two of them, for 25 with shipping."""

    def __init__(self, bench: Bench, product: Product) -> None:
        self.bench = bench
        self.product = product
        self.posts: list[Post] = []

    @property
    def payment(self) -> Payment:
        """The order's latest payment."""
        return Payment.objects.filter(order=self.order).latest("pk")

    @property
    def first_payment(self) -> Payment:
        return Payment.objects.filter(order=self.order).earliest("pk")

    # The buyer

    def place(self) -> None:
        self.order = steps.place((self.product, 2))

    def start(self) -> str:
        """Go to the provider's page, as a buyer who waits for it."""
        with answer_within(BUYER_WAITS):
            return steps.go_to_bank(self.order)

    def look(self) -> status_page.Standing:
        """Come back from the provider, to the order's page."""
        with answer_within(BUYER_WAITS):
            return status_page.look_up(self.order.token)

    def pay(self) -> None:
        """Place an order, and pay for it; the shop knows nothing of that yet."""
        self.place()
        self.start()
        self.bench.approve(self.payment)

    def buy(self) -> None:
        """Place an order, pay for it, and come back."""
        self.pay()
        self.look()

    def lapse(self, *, taken: bool = False) -> None:
        """Let the order's holds lapse; ``taken``: others buy all units meanwhile."""
        steps.lapse_all(self.order)
        reservations.expire_lapsed()
        if taken:
            others = reservations.reserve(self.product, 5, buyer="B")
            reservations.confirm(others.pk)

    # The provider's messages

    def note_message(self) -> None:
        """Keep the newest message about the payment, for ``post_all``."""
        self.posts.append(self.bench.message(self.payment))

    def post(self, post: Post) -> int:
        """Deliver a message; return the status of the shop's answer."""
        return (
            Client(enforce_csrf_checks=True, raise_request_exception=False)
            .post(
                reverse("payment-events", args=[self.bench.slug]),
                post.body,
                content_type="application/json",
                headers=dict(post.headers),
            )
            .status_code
        )

    def post_all(self) -> None:
        for post in self.posts:
            assert self.post(post) in (200, 503)

    # Staff

    def refund(self, units: int | None = None, amount: Decimal | None = None) -> None:
        """Give money back, by a form that was opened before anything was refunded."""
        line = self.order.lines.get()
        orders.refund(
            self.order.pk,
            units=None if units is None else {line.pk: units},
            amount=amount,
            seen=self.seen,
            restock=amount is None,
        )

    @property
    def seen(self) -> Decimal:
        return getattr(self, "_seen", Decimal(0))

    def open_form(self) -> None:
        """Staff open the form now: it says how much was refunded so far."""
        self._seen = steps.now(self.order).refunded()

    def refund_and_carry_out(self, units: int | None = None, amount: Decimal | None = None) -> None:
        with suppress(ShopError):  # this form was sent before
            self.refund(units, amount)
        self.carry_out()

    def carry_out(self) -> None:
        """Do the jobs of refunds, as a worker does."""
        for refund in refunds.due_refunds():
            refunds.carry_out(refund)

    def try_again(self) -> None:
        """Staff try a failed refund again."""
        for refund in Refund.objects.filter(state=Refund.State.FAILED):
            refunds.carry_out(refund.pk)

    # All that goes on by itself

    def come_to_rest(self, rounds: int = 1) -> None:
        """Do all that a worker does every minute and every night."""
        for _ in range(rounds):
            for order in orders.unsettled_orders():
                with suppress(ProviderUnavailable):
                    orders.settle(order)
            reservations.expire_lapsed()
            for order in orders.abandoned_orders():
                orders.close_abandoned(order)
            for refund in refunds.due_refunds():
                with suppress(ProviderUnavailable):
                    refunds.carry_out(refund)
            statements.look_into_recent()
        shop_alerts.check_all()

    # The checks

    def check_always(self) -> None:
        """Law, money and goods agree after all that has happened, and alerts call staff."""
        assert monitor.check() == []
        self.bench.check_no_money_is_of_others()
        for order in Order.objects.all():
            self._check_money(order)
            self._check_goods(order)
        self._check_alerts()

    def _check_money(self, order: Order) -> None:
        kept, owed = Decimal(0), Decimal(0)
        for payment in order.payments.all():
            books = self.bench.books(payment)
            assert books.opened <= 1
            assert books.charged in (Decimal(0), payment.amount)
            assert (books.charged > 0) == (payment.state == Payment.State.PAID)
            kept += books.kept
            counted = list(payment.refunds.exclude(state=Refund.State.UNDONE))
            assert sum(refund.amount for refund in counted) <= books.charged, "more than was paid"
            for refund in counted:
                gone = [each for each in books.refunds if each.is_gone and refund.key == each.key]
                assert len(gone) <= 1, "given back twice"
                if refund.reference and not gone:
                    gone = [each for each in books.refunds if each.reference == refund.reference]
                if refund.by_hand:
                    assert not gone, "given back by hand, and by the provider"
                elif refund.state == Refund.State.DONE:
                    assert gone, f"{refund} isn't in the provider's books"
                if not gone:
                    owed += refund.amount  # or given by hand: it isn't ours any more
        assert max(kept - owed, Decimal(0)) == order.kept(), order

    def _check_goods(self, order: Order) -> None:
        """Money is kept for goods only; where less is kept than they cost, it's known why."""
        lines = list(order.lines.select_related("reservation"))
        has_goods = order.state in (Order.State.PAID, Order.State.SHIPPED)
        sold = sum(
            line.reservation.kept
            for line in lines
            if line.reservation.status == Reservation.Status.SOLD
        )
        if not has_goods:
            assert order.kept() == Decimal(0), order
            assert not sold, order
            return
        assert {line.reservation.status for line in lines} == {Reservation.Status.SOLD}
        assert sold == sum(line.left for line in lines) > 0
        worth = sum(line.unit_price * line.left for line in lines) + order.shipping_cost
        gone = Dispute.objects.taken().filter(payment__order=order)
        without_goods = Refund.objects.counted().filter(
            payment__order=order, reason__in=[Refund.Reason.GOODWILL, Refund.Reason.AT_PROVIDER]
        )
        explained = sum(each.amount for each in [*gone, *without_goods])
        assert max(worth - explained, Decimal(0)) <= order.kept() <= worth, order

    def _check_alerts(self) -> None:
        for refund in Refund.objects.filter(state=Refund.State.FAILED):
            assert self._is_alerted(Kind.REFUND_REFUSED, f"refund {refund.pk}"), refund
        for refund in Refund.objects.filter(reason=Refund.Reason.AT_PROVIDER):
            assert self._is_alerted(Kind.PROVIDER_REFUND, f"refund {refund.pk}"), refund
        for dispute in Dispute.objects.all():
            subject = f"dispute {dispute.pk} {dispute.state}"
            assert self._is_alerted(Kind.PAYMENT_DISPUTED, subject), dispute
        assert not self._is_alerted(Kind.RESTORED), "a refund of ours is unknown to us"

    def _is_alerted(self, kind: Kind, subject: str | None = None) -> bool:
        alerts = ShopAlert.objects.open().filter(kind=kind)
        return (alerts if subject is None else alerts.filter(subject=subject)).exists()

    def check_end(self, *ends: End) -> None:
        """Check that it came to one of these ends."""
        found = End(
            order=steps.now(self.order).state,
            kept=self.order.kept(),
            payments=tuple(each.state for each in self.order.payments.order_by("pk")),
            refunds=tuple(
                (each.reason, each.amount, each.state)
                for each in Refund.objects.filter(payment__order=self.order).order_by("pk")
            ),
            disputes=tuple(each.state for each in Dispute.objects.order_by("pk")),
            alerts=frozenset(Kind(each.kind) for each in ShopAlert.objects.open()),
            sold=monitor.state_of(self.product.pk).sold,
            available=steps.stock_of(self.product),
        )
        wanted = [_with_all_units(end) for end in ends]
        assert found in wanted, f"\n{found}\ninstead of\n{wanted}"


def _with_all_units(end: End) -> End:
    return end if end.available is not None else replace(end, available=5 - end.sold)
