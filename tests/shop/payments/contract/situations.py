"""All situations that a payment can get into, each with the end that it must come to.

``prepare`` leads there. ``act`` is the part that is broken off, repeated, and done twice at once:
it calls the shop only. ``end`` is right by reasoning, whichever way ``act`` went.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest
from django.db.models import F

from shop import orders
from shop.exceptions import ShopError
from shop.models import Order, PaymentEvent, Refund, ShopAlert
from shop.orders.checkout import ASK_AGAIN_AFTER
from shop.payments import ProviderUnavailable, StartDeclined
from tests.shop.orders import steps
from tests.shop.payments.contract.bench import Post
from tests.shop.payments.contract.world import PRICE, SHIPPING, TOTAL, End, World

Kind = ShopAlert.Kind
DISPUTED = frozenset({Kind.PAYMENT_DISPUTED})
AT_PROVIDER = frozenset({Kind.PROVIDER_REFUND})
REFUSED = frozenset({Kind.REFUND_REFUSED})

PAID = End("PAID", TOTAL, sold=2)
WAITS = End("PENDING", payments=("STARTED",), available=3)
REFUNDED = End("REFUNDED", refunds=(("RETURNED", TOTAL, "DONE"),), available=5)


class Situation:
    """One situation; the first line of its docstring is its name in the table."""

    end: End
    other_end: End | None = None
    """If a worker's round comes before ``act``, it may end like this."""

    def prepare(self, world: World) -> None:
        """Lead into the situation."""

    def act(self, world: World) -> None:
        """Do what may be broken off, repeated, and done twice at once."""
        raise NotImplementedError

    def go_on(self, world: World) -> None:
        """Do the rest, undisturbed, after ``act`` and all that it leads to."""

    def look(self, world: World) -> None:
        """Check what only this situation shows."""


ALL: dict[str, type[Situation]] = {}


def row(cls: type[Situation]) -> type[Situation]:
    """Enter a situation into the table."""
    ALL[cls.__name__] = cls
    return cls


def name_of(cls: type[Situation]) -> str:
    """The situation in words."""
    return (cls.__doc__ or "").partition("\n")[0].rstrip(".")


# Starting


@row
class StartTwice(Situation):
    """Start twice the same."""

    end = WAITS

    def prepare(self, world: World) -> None:
        world.place()

    def act(self, world: World) -> None:
        assert world.start() == world.start()


@row
class StartLost(Situation):
    """The answer to start is lost, and the buyer clicks again."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.place()
        with world.bench.losing_answers(), pytest.raises(ProviderUnavailable):
            world.start()

    def act(self, world: World) -> None:
        world.start()

    def go_on(self, world: World) -> None:
        world.start()
        world.bench.approve(world.payment)
        world.look()


@row
class StartRefused(Situation):
    """Start is refused for good, and works after staff have mended the cause."""

    end = End("PAID", TOTAL, ("DECLINED", "PAID"), alerts=frozenset({Kind.START_DECLINED}), sold=2)

    def prepare(self, world: World) -> None:
        world.place()
        world.bench.refuse_payments()
        with pytest.raises(StartDeclined):
            world.start()

    def act(self, world: World) -> None:
        with suppress(ShopError):
            world.start()

    def look(self, world: World) -> None:
        # Each try that was refused is a payment on record; only the last one was paid.
        states = [each.state for each in world.order.payments.order_by("pk")]
        assert set(states[:-1]) == {"DECLINED"}
        world.order.payments.filter(state="DECLINED").exclude(pk=world.first_payment.pk).delete()

    def go_on(self, world: World) -> None:
        world.bench.accept_payments()
        a_while_ago = F("decided_at") - ASK_AGAIN_AFTER
        world.order.payments.update(decided_at=a_while_ago)
        world.start()
        world.bench.approve(world.payment)
        world.look()


# The buyer's choice


@row
class Declined(Situation):
    """The buyer's bank declines, and the buyer pays at the second try."""

    end = End("PAID", TOTAL, ("DECLINED", "PAID"), sold=2)

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.bench.decline(world.payment)

    def act(self, world: World) -> None:
        world.look()
        world.start()

    def go_on(self, world: World) -> None:
        world.start()
        world.bench.approve(world.payment)
        world.look()


@row
class Returned(Situation):
    """The buyer has paid and comes back; no message ever comes."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()

    def act(self, world: World) -> None:
        world.look()


@row
class NeverReturned(Situation):
    """The buyer has paid and never comes back; no message ever comes."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()

    def act(self, world: World) -> None:
        world.come_to_rest()


# Messages


@row
class MessageFirst(Situation):
    """The message comes before the buyer returns."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()
        world.look()

    def look(self, world: World) -> None:
        assert world.post(world.posts[0]) == 200


@row
class MessageAgain(Situation):
    """The same message comes five times."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()
        world.posts *= 5

    def act(self, world: World) -> None:
        world.post_all()

    def look(self, world: World) -> None:
        assert PaymentEvent.objects.count() == 1
        assert PaymentEvent.objects.get().deliveries >= 5


@row
class OutOfOrder(Situation):
    """An old message comes after the newer one."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()
        world.posts.append(world.bench.old_message(world.payment))

    def act(self, world: World) -> None:
        world.post_all()


@row
class NewsFirst(Situation):
    """The message of a refund comes before the shop knows of the payment."""

    end = End(
        "PAID",
        TOTAL - 4,
        refunds=(("AT_PROVIDER", Decimal(4), "DONE"),),
        alerts=AT_PROVIDER,
        sold=2,
    )

    def prepare(self, world: World) -> None:
        world.pay()
        world.bench.refund(world.payment, Decimal(4))
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


@row
class WhileOpen(Situation):
    """A message comes while the payment is open, and again when it is paid."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.posts.append(world.bench.old_message(world.payment))

    def act(self, world: World) -> None:
        world.post_all()

    def go_on(self, world: World) -> None:
        assert steps.now(world.order).state == Order.State.PENDING
        world.bench.approve(world.payment)
        assert world.post(world.posts[0]) == 200
        assert steps.now(world.order).state == Order.State.PAID


class Unheard(Situation):
    """A message that changes nothing, though the payment is paid. The worker finds that out."""

    end = PAID
    answer = 400

    def prepare(self, world: World) -> None:
        world.pay()

    def act(self, world: World) -> None:
        for post in world.posts:
            assert world.post(post) in (self.answer, 503)

    def look(self, world: World) -> None:
        assert [world.post(post) for post in world.posts] == [self.answer] * len(world.posts)
        assert not PaymentEvent.objects.exists()


@row
class Foreign(Unheard):
    """A genuine message is about somebody else's payment."""

    answer = 200

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.posts = world.bench.foreign_messages()


@row
class Forged(Unheard):
    """A message is forged."""

    def prepare(self, world: World) -> None:
        super().prepare(world)
        genuine = world.bench.message(world.payment)
        header, signature = list(genuine.headers.items())[-1]
        wrong = signature[:-1] + ("0" if signature[-1] != "0" else "1")
        world.posts = [
            *(Post(genuine.body, {**genuine.headers, header: each}) for each in ("", "x", wrong)),
            Post(genuine.body + b" ", genuine.headers),
        ]


@row
class Old(Unheard):
    """A message is ten minutes old, or of ten minutes to come."""

    def prepare(self, world: World) -> None:
        super().prepare(world)
        now = int(time.time())
        world.posts = [world.bench.message(world.payment, at=now + s) for s in (-600, 600)]


@row
class Malformed(Unheard):
    """A message is signed, and makes no sense."""

    def prepare(self, world: World) -> None:
        super().prepare(world)
        bodies = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": 1}', b"[" * 50_000]
        world.posts = [world.bench.sign(body) for body in bodies]


# Time


@row
class LateGoodsThere(Situation):
    """Paid late, and the goods are still there."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()
        world.lapse()

    def act(self, world: World) -> None:
        world.post_all()


@row
class LateGoodsGone(Situation):
    """Paid late, and the goods are gone."""

    end = End("REFUNDED", refunds=(("GOODS_GONE", TOTAL, "DONE"),), sold=5, available=0)

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()
        world.lapse(taken=True)

    def act(self, world: World) -> None:
        world.post_all()
        world.carry_out()


@row
class TimeOver(Situation):
    """Our time is over, and the provider's not: the shop ends it."""

    end = End("PENDING", payments=("DECLINED",), available=3)

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.bench.end_time(world.payment)

    def act(self, world: World) -> None:
        world.look()

    def look(self, world: World) -> None:
        assert not world.bench.can_be_paid(world.payment)


@row
class PaidBeforeTheEnd(Situation):
    """Our time is over, and the buyer paid just before the shop could end it."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()
        world.bench.end_time(world.payment)

    def act(self, world: World) -> None:
        world.look()


@row
class MoneyComesLater(Situation):
    """The buyer is done, and the money comes later."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.bench.approve_later(world.payment)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()
        world.look()

    def go_on(self, world: World) -> None:
        assert steps.now(world.order).state == Order.State.PENDING
        world.bench.let_money_come(world.payment)
        world.look()


@row
class MoneyNeverComes(Situation):
    """The buyer is done, and the money never comes."""

    end = End("PENDING", payments=("DECLINED",), available=3)

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.bench.approve_later(world.payment)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()
        world.look()

    def go_on(self, world: World) -> None:
        world.bench.let_money_fail(world.payment)
        world.look()


# Paid against expectation


@row
class PaidTwice(Situation):
    """A payment called declined was paid after all, and so was the second one."""

    end = End("PAID", TOTAL, ("PAID", "PAID"), refunds=(("PAID_TWICE", TOTAL, "DONE"),), sold=2)

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.bench.decline(world.payment)
        world.look()
        world.start()
        world.bench.approve(world.payment)
        world.bench.approve_after_decline(world.first_payment)

    def act(self, world: World) -> None:
        world.look()
        orders.settle(world.order.pk)
        world.carry_out()


@row
class PaidAfterCancellation(Situation):
    """The buyer cancels the order, and pays all the same."""

    end = End("CANCELLED", refunds=(("PAID_AFTER_END", TOTAL, "DONE"),), available=5)

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        orders.cancel(world.order.pk, by=orders.CancelledBy.BUYER)
        world.bench.approve(world.payment)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()
        world.carry_out()


@row
class CancelledWhilePaying(Situation):
    """The buyer pays, and cancels the order before the shop knows."""

    end = PaidAfterCancellation.end
    other_end = End("CANCELLED", refunds=(("CANCELLED", TOTAL, "DONE"),))

    def prepare(self, world: World) -> None:
        world.pay()

    def act(self, world: World) -> None:
        orders.cancel(world.order.pk, by=orders.CancelledBy.BUYER)
        world.look()
        world.come_to_rest()


# Refunds


class OfPaid(Situation):
    """A situation of an order that is paid."""

    end = REFUNDED

    def prepare(self, world: World) -> None:
        world.buy()

    def act(self, world: World) -> None:
        world.refund_and_carry_out()


@row
class RefundOnce(OfPaid):
    """A refund of everything."""


@row
class RefundOfPart(OfPaid):
    """A refund of one unit of two."""

    end = End("PAID", PRICE + SHIPPING, refunds=(("RETURNED", PRICE, "DONE"),), sold=1, available=4)

    def act(self, world: World) -> None:
        world.refund_and_carry_out(units=1)


@row
class TwoRefunds(OfPaid):
    """Two refunds of equal amounts, one after the other."""

    end = End("PAID", TOTAL - 8, refunds=(("GOODWILL", Decimal(4), "DONE"),) * 2, sold=2)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund_and_carry_out(amount=Decimal(4))
        world.open_form()

    def act(self, world: World) -> None:
        world.refund_and_carry_out(amount=Decimal(4))


@row
class Cancelled(OfPaid):
    """A paid order is cancelled."""

    end = End("CANCELLED", refunds=(("CANCELLED", TOTAL, "DONE"),), available=5)

    def act(self, world: World) -> None:
        orders.cancel(world.order.pk)
        world.carry_out()


@row
class RefundLost(OfPaid):
    """The answer to a refund is lost."""

    end = End("PAID", TOTAL - 4, refunds=(("GOODWILL", Decimal(4), "DONE"),), sold=2)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund(amount=Decimal(4))
        with world.bench.losing_answers(), pytest.raises(ProviderUnavailable):
            world.carry_out()

    def act(self, world: World) -> None:
        world.carry_out()


@row
class KeysForgotten(OfPaid):
    """The answer to a refund is lost, and the provider forgets its keys before we ask again."""

    # So much is left at the provider that it could give the same once more.
    end = End("PAID", TOTAL - 4, refunds=(("GOODWILL", Decimal(4), "DONE"),), sold=2)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund(amount=Decimal(4))
        with world.bench.losing_answers(), pytest.raises(ProviderUnavailable):
            world.carry_out()
        world.bench.forget_keys()

    def act(self, world: World) -> None:
        world.carry_out()


@row
class RefundRefused(OfPaid):
    """A refund is refused for good."""

    end = End("REFUNDED", refunds=(("RETURNED", TOTAL, "FAILED"),), alerts=REFUSED, available=5)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.refuse_refunds(world.payment)


@row
class RefundPending(OfPaid):
    """A refund is accepted, and carried out later."""

    def prepare(self, world: World) -> None:
        world.bench.hold_refunds()
        super().prepare(world)

    def go_on(self, world: World) -> None:
        assert [each.state for each in world.payment.refunds.all()] == ["DUE"]
        world.bench.let_refund_through(world.payment)


@row
class RefundPendingFails(OfPaid):
    """A refund is accepted, and fails later."""

    end = RefundRefused.end

    def prepare(self, world: World) -> None:
        world.bench.hold_refunds()
        super().prepare(world)

    def go_on(self, world: World) -> None:
        world.bench.fail_refund(world.payment)


@row
class RefundFailsLater(OfPaid):
    """A refund that was done comes back, and nobody tries it again."""

    end = RefundRefused.end

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund_and_carry_out()
        world.bench.fail_refund(world.payment)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


@row
class RefundTriedAgain(OfPaid):
    """A refund that was done comes back, and staff try it again."""

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund_and_carry_out()
        world.bench.fail_refund(world.payment)
        world.note_message()
        world.post_all()

    def act(self, world: World) -> None:
        world.try_again()


@row
class FailsWhileTriedAgain(OfPaid):
    """The message that a refund came back is repeated while staff try it again."""

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund_and_carry_out()
        world.bench.fail_refund(world.payment)
        world.note_message()
        world.post_all()

    def act(self, world: World) -> None:
        world.post_all()
        world.try_again()
        world.post_all()


# Refunds in the provider's dashboard


@row
class DashboardPart(OfPaid):
    """A part is given back in the provider's dashboard."""

    end = NewsFirst.end

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.refund(world.payment, Decimal(4))
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


@row
class DashboardUnheard(OfPaid):
    """A part is given back in the provider's dashboard, and no message comes."""

    end = NewsFirst.end

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.refund(world.payment, Decimal(4))

    def act(self, world: World) -> None:
        world.come_to_rest()


@row
class DashboardBefore(OfPaid):
    """Everything is given back in the dashboard before staff do it here, too."""

    end = End("REFUNDED", refunds=(("AT_PROVIDER", TOTAL, "DONE"),), alerts=AT_PROVIDER)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.refund(world.payment, TOTAL)
        world.note_message()
        world.post_all()
        world.open_form()

    def act(self, world: World) -> None:
        world.refund_and_carry_out()


@row
class DashboardBeforeUnknown(OfPaid):
    """Everything is given back in the dashboard, and staff do it here before we know."""

    # Ours is declined, since nothing is left; then it turns out that the other one covers it.
    end = End("REFUNDED", refunds=(("RETURNED", TOTAL, "DONE"),), alerts=AT_PROVIDER)
    # Staff's form is old then: it says so, and they open it again.
    other_end = End(
        "PAID",
        Decimal(0),
        refunds=(("AT_PROVIDER", TOTAL, "DONE"),),
        alerts=AT_PROVIDER,
        sold=2,
    )

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.refund(world.payment, TOTAL)
        world.note_message()

    def go_on(self, world: World) -> None:
        world.post_all()


@row
class DashboardAfter(OfPaid):
    """A part is given back here, and another part in the dashboard afterwards."""

    end = End(
        "PAID",
        TOTAL - 8,
        refunds=(("GOODWILL", Decimal(4), "DONE"), ("AT_PROVIDER", Decimal(4), "DONE")),
        alerts=AT_PROVIDER,
        sold=2,
    )

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund_and_carry_out(amount=Decimal(4))
        world.bench.refund(world.payment, Decimal(4))
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


# Disputes


@row
class Disputed(OfPaid):
    """The buyer's bank takes the money back."""

    end = End("PAID", Decimal(0), disputes=("OPEN",), alerts=DISPUTED, sold=2)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.dispute(world.payment)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


@row
class DisputeUnheard(OfPaid):
    """The buyer's bank takes the money back, and no message comes."""

    end = Disputed.end

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.dispute(world.payment)

    def act(self, world: World) -> None:
        world.come_to_rest()


class Decided(OfPaid):
    """A dispute that was known while it was open is decided."""

    won: bool

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.dispute(world.payment)
        world.posts = [world.bench.message(world.payment)]
        world.post_all()
        world.bench.decide(world.payment, won=self.won)
        world.posts = [world.bench.message(world.payment)]

    def act(self, world: World) -> None:
        world.post_all()


@row
class DisputeWon(Decided):
    """A dispute is won."""

    won = True
    end = End("PAID", TOTAL, disputes=("WON",), alerts=DISPUTED, sold=2)


@row
class DisputeLost(Decided):
    """A dispute is lost."""

    won = False
    end = End("PAID", Decimal(0), disputes=("LOST",), alerts=DISPUTED, sold=2)


@row
class Inquiry(OfPaid):
    """The buyer's bank asks, and takes nothing."""

    end = End("PAID", TOTAL, disputes=("INQUIRY",), alerts=DISPUTED, sold=2)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.inquire(world.payment)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


@row
class DisputeKnownThenRefund(OfPaid):
    """Everything is disputed, and staff refund the order afterwards: no money is left for it."""

    end = End("REFUNDED", disputes=("OPEN",), alerts=DISPUTED, available=5)

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.dispute(world.payment)
        world.note_message()
        world.post_all()

    def act(self, world: World) -> None:
        world.refund_and_carry_out()


@row
class RefundThenDispute(OfPaid):
    """A part is refunded, and the rest is disputed afterwards."""

    end = End(
        "PAID",
        Decimal(0),
        refunds=(("GOODWILL", Decimal(4), "DONE"),),
        disputes=("OPEN",),
        alerts=DISPUTED,
        sold=2,
    )

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund_and_carry_out(amount=Decimal(4))
        world.bench.dispute(world.payment, TOTAL - 4)
        world.note_message()

    def act(self, world: World) -> None:
        world.post_all()


@row
class WonAfterCancellation(OfPaid):
    """The order was cancelled while a dispute had its money, and the dispute is won."""

    end = End(
        "CANCELLED",
        refunds=(("CANCELLED", TOTAL, "DONE"),),
        disputes=("WON",),
        alerts=DISPUTED,
        available=5,
    )

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.dispute(world.payment)
        world.posts = [world.bench.message(world.payment)]
        world.post_all()
        orders.cancel(world.order.pk)
        world.bench.decide(world.payment, won=True)
        world.posts = [world.bench.message(world.payment)]

    def act(self, world: World) -> None:
        world.post_all()
        world.carry_out()


@row
class DisputeUnknownAndRefund(OfPaid):
    """Everything is disputed, and staff refund the order before we know."""

    # The provider may give the money back to the buyer's bank all the same, or decline to.
    end = End(
        "REFUNDED",
        refunds=(("RETURNED", TOTAL, "DONE"),),
        disputes=("OPEN",),
        alerts=DISPUTED,
    )
    other_end = DisputeKnownThenRefund.end

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.bench.dispute(world.payment)
        world.note_message()

    def go_on(self, world: World) -> None:
        world.post_all()
        refund = world.payment.refunds.first()
        if refund is not None and refund.state == Refund.State.FAILED:
            self.end = replace(
                self.end,
                refunds=(("RETURNED", TOTAL, "FAILED"),),
                alerts=DISPUTED | REFUSED,
            )


# Breakdowns


@row
class DownAtStart(Situation):
    """The provider is down when the buyer wants to pay; a second click doesn't pay twice."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.place()
        with world.bench.down():
            for _ in range(2):
                with pytest.raises(ProviderUnavailable):
                    world.start()
        assert world.order.lines.get().reservation.status == "HELD"

    def act(self, world: World) -> None:
        world.start()

    def go_on(self, world: World) -> None:
        world.bench.approve(world.payment)
        world.look()


@row
class DownAtMessage(Situation):
    """The provider is down while its message is worked on: it comes again."""

    end = PAID

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()
        with world.bench.down():
            assert world.post(world.posts[0]) == 503
            assert world.look().provider_is_silent

    def act(self, world: World) -> None:
        world.post_all()


@row
class DownAtRefund(OfPaid):
    """The provider is down when a refund is due."""

    def prepare(self, world: World) -> None:
        super().prepare(world)
        world.refund()
        with world.bench.down(), pytest.raises(ProviderUnavailable):
            world.carry_out()

    def act(self, world: World) -> None:
        world.carry_out()


class Troubled(Situation):
    end = PAID

    def act(self, world: World) -> None:
        world.start()

    def go_on(self, world: World) -> None:
        world.start()
        world.bench.approve(world.payment)
        world.look()


@row
class SlowAtStart(Troubled):
    """The provider is slow: the buyer doesn't wait for it, and a second click pays once."""

    def prepare(self, world: World) -> None:
        world.place()
        with world.bench.slow(), pytest.raises(ProviderUnavailable):
            world.start()


@row
class GarbledAtStart(Troubled):
    """A proxy answers nonsense in the provider's place."""

    def prepare(self, world: World) -> None:
        world.place()
        with world.bench.garbled(), pytest.raises(ProviderUnavailable):
            world.start()


@row
class GarbledLater(OfPaid):
    """A proxy answers nonsense to every question about a payment and a refund."""

    def prepare(self, world: World) -> None:
        world.pay()
        world.note_message()
        with world.bench.garbled():
            assert world.post(world.posts[0]) == 503
            assert world.look().provider_is_silent
        world.look()
        world.refund()
        with world.bench.garbled(), pytest.raises(ProviderUnavailable):
            world.carry_out()

    def act(self, world: World) -> None:
        world.carry_out()


@row
class FormerProviderDown(Situation):
    """A declined payment's provider is down or gone, and the buyer pays by another one."""

    end = End("PAID", TOTAL, ("DECLINED", "PAID"), sold=2)

    def prepare(self, world: World) -> None:
        world.place()
        world.start()
        world.bench.decline(world.payment)
        world.look()
        # It isn't in the settings any more, so nobody can ask it.
        world.order.payments.update(provider="gone", reference="gone")

    def act(self, world: World) -> None:
        world.look()
        world.start()

    def go_on(self, world: World) -> None:
        world.start()
        world.bench.approve(world.payment)
        world.look()
