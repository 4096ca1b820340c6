"""Alerts of trouble that needs a person, other than stock. They stay open until all is right again.

The worker looks every minute (``check_all``). A declined refund raises its alert in the
transaction that records it (``refunds``). No worker can find out that no worker runs: a web
process does, whenever somebody opens the dashboard or a machine asks ``/healthz``
(``update_worker_alert``).

If a trouble comes back within an hour, its alert is opened again and not sent a second time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, QuerySet
from django.db.models.functions import Now
from django.urls import reverse

from inventory.words import counted
from shop import payments
from shop.health import SEEN_LATELY
from shop.jobs import IS_QUEUED_ONCE
from shop.models import Dispute, Order, Payment, PaymentEvent, Refund, ShopAlert
from shop.money import format_amount
from shop.retries import RECEIVERS, WAITS_FOR_RECEIVER

log = logging.getLogger(__name__)

Kind = ShopAlert.Kind

SAME_TROUBLE = timedelta(hours=1)
PAYMENT_LATE = timedelta(minutes=15)  # after the payment's ``expires_at``
REFUND_LATE = timedelta(hours=1)  # after it was decided
MESSAGE_LATE = timedelta(hours=1)  # after the payment is known to be paid
ENOUGH_WITHOUT_MESSAGES = 3  # payments; a single message may be lost
MOST_COUNTED = 1000  # payments without a message; of more, the alert says so
DONE_EVERY_MINUTE_TOO = ["shop.tasks.carry_out_refund", "shop.tasks.send_demo_bank_event"]
# News: no state of ours says when it is right again, so a person does, by acknowledging it. A
# dispute's alert stays until the dispute is decided, too.
NEWS = [Kind.START_DECLINED, Kind.PAYMENT_DISPUTED, Kind.PROVIDER_REFUND, Kind.RESTORED]
SHOWN_NUMBERS = 5
LONGEST_SUBJECT = 128  # characters
SUBJECT_WITHOUT_NUMBER = LONGEST_SUBJECT - 10
FAILED_OFTEN = 5  # attempts, which take some six minutes
AWAY_FOR_LONG = timedelta(minutes=5)  # a receiver, such as the mail server


@dataclass(frozen=True)
class Trouble:
    """A state that needs a person."""

    kind: ShopAlert.Kind
    subject: str
    """Tells it from other troubles of the same kind."""
    text: str
    order_id: int | None = None


# A job waits for three minutes, and no worker was seen lately.
MISSING_WORKER = f"""
    EXISTS (SELECT FROM procrastinate_jobs AS job
        WHERE job.status = 'todo'
            AND coalesce(job.scheduled_at, '-infinity') < statement_timestamp() - interval '3 min'
            AND EXISTS (SELECT FROM procrastinate_events AS event WHERE event.job_id = job.id
                AND event.at < statement_timestamp() - interval '3 min')
    ) AND NOT EXISTS (SELECT FROM procrastinate_workers
        WHERE last_heartbeat > statement_timestamp() - interval '{SEEN_LATELY}')
"""
NO_WORKER = Trouble(
    Kind.WORKER_GONE,
    "worker",
    "Background jobs wait, and no worker runs: no e-mail is sent, no refund is carried out, and "
    "late payments are not looked after. Start a worker: manage.py procrastinate worker.",
)


def check_all() -> list[Trouble]:
    """Look for all trouble that needs a person, update the alerts, and return the troubles.

    Any number of processes may look at once: only one of them raises each alert.
    """
    # First the alerts, then the states: an alert that is raised in between isn't resolved.
    opened = ShopAlert.objects.open().exclude(kind__in=NEWS, acknowledged_at=None)
    before = {(alert.kind, alert.subject): alert.pk for alert in opened}
    troubles = [
        *_undecided_disputes(),
        *_declined_refunds(),
        *_late_refunds(),
        *_missing_messages(),
        *_unsettled_payments(),
        *_failed_jobs(),
        *([NO_WORKER] if worker_is_missing() else []),
    ]
    _update_decided_disputes()
    for trouble in troubles:
        raise_alert(trouble)
        before.pop((trouble.kind, trouble.subject), None)
    _resolve(list(before.values()))
    return troubles


def worker_is_missing() -> bool:
    """Whether jobs wait, and no worker has shown for a while; one cheap query."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {MISSING_WORKER}")
        return bool(cursor.fetchone()[0])


def update_worker_alert(*, is_missing: bool) -> ShopAlert | None:
    """Raise or resolve the alert that no worker runs; return the open one."""
    opened = ShopAlert.objects.open().filter(kind=Kind.WORKER_GONE)
    if is_missing:
        raise_alert(NO_WORKER)
        return opened.first()
    _resolve(list(opened.values_list("pk", flat=True)))
    return None


def raise_alert(trouble: Trouble) -> None:
    """Raise the alert, or update the text of the open one, in the transaction under way."""
    alerts = ShopAlert.objects.filter(kind=trouble.kind, subject=trouble.subject)
    if alerts.open().exists():
        alerts.open().exclude(text=trouble.text).update(text=trouble.text)
        return
    lately = alerts.filter(resolved_at__gt=Now() - SAME_TROUBLE).order_by("-pk").values("pk")[:1]
    # Another process may raise the same alert now: the database keeps one of them.
    with suppress(IntegrityError), transaction.atomic():
        if ShopAlert.objects.filter(pk__in=lately).update(resolved_at=None, text=trouble.text):
            return
    ShopAlert.objects.bulk_create(
        [
            ShopAlert(
                kind=trouble.kind,
                subject=trouble.subject,
                text=trouble.text,
                order_id=trouble.order_id,
            )
        ],
        ignore_conflicts=True,
    )
    log.error("%s: %s", trouble.kind.label, trouble.text, extra=_order_of(trouble))


def _order_of(trouble: Trouble) -> dict[str, str]:
    """The number of the order that the trouble is about, as a field of log lines."""
    order = Order.objects.filter(pk=trouble.order_id).first() if trouble.order_id else None
    return {"order": order.number} if order else {}


def raise_once(trouble: Trouble) -> None:
    """Raise the alert, or bring its text up to date, unless a person has acknowledged it once."""
    seen = ShopAlert.objects.filter(kind=trouble.kind, subject=trouble.subject)
    if not seen.exclude(acknowledged_at=None).exists():
        raise_alert(trouble)


def _resolve(alert_ids: list[int]) -> None:
    if alert_ids:
        ShopAlert.objects.open().filter(pk__in=alert_ids).update(resolved_at=Now())
        log.info("Right again: shop alerts %s", alert_ids)


# Money


def update_refund_alerts(refund: Refund) -> None:
    """Raise or resolve the alerts of a refund just attempted, in the transaction under way."""
    opened = ShopAlert.objects.open().filter(subject=_subject(refund)).exclude(kind__in=NEWS)
    if refund.state == Refund.State.FAILED:
        opened = opened.exclude(kind=Kind.REFUND_REFUSED)
        raise_alert(_declined(refund))
    _resolve(list(opened.values_list("pk", flat=True)))
    if refund.state == Refund.State.UNDONE:
        amount = format_amount(refund.amount, refund.payment.currency)
        made_there = ShopAlert.objects.open().filter(
            kind=Kind.PROVIDER_REFUND, subject=_subject(refund)
        )
        made_there.update(
            text=f"A refund of {amount} for order {refund.payment.order.number} was made at the "
            f"provider {refund.payment.provider} and failed there. The money is back."
        )


def _subject(refund: Refund) -> str:
    return f"refund {refund.pk}"


def _declined(refund: Refund) -> Trouble:
    payment = refund.payment
    to_do = "Try it again, or give the money back another way."
    if payment.disputes.taken().exists():
        to_do = (
            "The buyer's bank has taken money of this payment back, as the payment's page shows. "
            "Don't give the buyer the same money again."
        )
    return Trouble(
        Kind.REFUND_REFUSED,
        _subject(refund),
        f"The buyer did not get the refund of {format_amount(refund.amount, payment.currency)} for "
        f"order {payment.order.number}. The provider {payment.provider} says: "
        f"{as_sentence(refund.problem)} {to_do}",
        payment.order_id,
    )


def as_sentence(words: str) -> str:
    """The provider's words, with an end, so that a sentence can follow."""
    words = words.strip() or "nothing about it."
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _declined_refunds() -> Iterator[Trouble]:
    failed = Refund.objects.filter(state=Refund.State.FAILED).select_related("payment__order")
    return (_declined(refund) for refund in failed)


def _late_refunds() -> Iterator[Trouble]:
    late = Refund.objects.filter(
        state=Refund.State.DUE, decided_at__lt=Now() - REFUND_LATE
    ).select_related("payment__order")
    for refund in late:
        payment = refund.payment
        yield Trouble(
            Kind.REFUND_LATE,
            _subject(refund),
            f"The refund of {format_amount(refund.amount, payment.currency)} for order "
            f"{payment.order.number} has been due for more than an hour: the provider "
            f"{payment.provider} has not carried it out yet or could not be reached, or no worker "
            "runs.",
            payment.order_id,
        )


def _unsettled_payments() -> Iterator[Trouble]:
    late = Payment.objects.unanswered().filter(expires_at__lt=Now() - PAYMENT_LATE)
    for payment in late.select_related("order"):
        amount = format_amount(payment.amount, payment.currency)
        text = (
            f"The provider {payment.provider} has not told us how the payment of {amount} for "
            f"order {payment.order.number} ended, though its time is over. Look it up there."
        )
        if not payment.is_under_way:
            text = (
                f"The provider {payment.provider} has never answered about the payment of {amount} "
                f"for order {payment.order.number}, so the buyer could not pay. The order stays "
                "open until the provider answers."
            )
        yield Trouble(Kind.PAYMENT_UNSETTLED, f"payment {payment.pk}", text, payment.order_id)


def _missing_messages() -> Iterator[Trouble]:
    """The provider's messages don't arrive: we found out only by asking that payments were paid.

    Rejected messages prove nothing, since anybody can post such. Each genuine message ends the
    trouble, whatever payment it is about.
    """
    try:
        provider = payments.current_provider()
    except ImproperlyConfigured:  # ``check`` says so
        return
    paid = Payment.objects.filter(
        provider=provider.slug,
        state=Payment.State.PAID,
        decided_at__lt=Now() - MESSAGE_LATE,
        # Reconcile makes payments of long ago again, whose messages went with the old database.
        decided_at__lte=F("expires_at"),
    )
    messages = PaymentEvent.objects.filter(provider=provider.slug)
    last: datetime | None = messages.aggregate(last=Max("received_at"))["last"]
    if last is not None:
        paid = paid.filter(decided_at__gt=last)
    number = paid[:MOST_COUNTED].count()
    if number < (1 if last is None else ENOUGH_WITHOUT_MESSAGES):
        return
    which = "the last payment" if number == 1 else f"the last {number} payments"
    if number == MOST_COUNTED:
        which = f"the last {number} payments, or more,"
    address = settings.BASE_URL + reverse("payment-events", args=[provider.slug])
    secret = provider.secret_setting
    yield Trouble(
        Kind.NO_MESSAGES,
        provider.slug[:128],
        f"No message of {provider.label} about {which} has arrived. Check that {provider.label} "
        f"sends its messages to {address}, and that "
        f"{f'{secret} is their secret' if secret else 'this shop knows their secret'}. Until then "
        "disputes, and refunds made there, are noticed only at night.",
    )


def report_start_declined(payment: Payment, problem: str) -> None:
    """The provider won't open a payment, however often the buyer tries.

    Many buyers may meet the same problem, such as a wrong key: that is one alert.
    """
    trouble = _start_declined(payment, problem)
    same = ShopAlert.objects.open().filter(kind=trouble.kind, subject=trouble.subject)
    if not same.exists():
        raise_alert(trouble)


def _start_declined(payment: Payment, problem: str) -> Trouble:
    return Trouble(
        Kind.START_DECLINED,
        f"{payment.provider}: {problem}"[:128],
        f"The provider {payment.provider} doesn't accept the payment of "
        f"{format_amount(payment.amount, payment.currency)} for order {payment.order.number}: "
        f"{as_sentence(problem)} The buyer can't pay until you mend that, and others may not "
        "either.",
        payment.order_id,
    )


def provider_refund(refund: Refund, *, is_second: bool = False) -> Trouble:
    """A refund that somebody made at the provider.

    ``is_second``: the provider has carried out a refund of ours that staff had given by hand.
    """
    payment = refund.payment
    amount, number = format_amount(refund.amount, payment.currency), payment.order.number
    text = (
        f"A refund of {amount} for order {number} was made at the provider {payment.provider}, not "
        f"by this shop. {_refund_to_do(payment.order)}"
    )
    if is_second:
        text = (
            f"{amount} for order {number} went back to the buyer twice: staff gave them by hand, "
            f"and the provider {payment.provider} has given them back, too. Ask the buyer to "
            "return one of the two."
        )
    return Trouble(Kind.PROVIDER_REFUND, _subject(refund), text, payment.order_id)


def _refund_to_do(order: Order) -> str:
    if order.is_closed:
        return f"The order is {order.state_for_buyer()}, so you need to do nothing."
    return (
        "The order keeps its units. If the buyer shall not get them, refund the units here: no "
        "more money goes back than is left."
    )


def covered_refund(owed: Refund, made: Refund, amount: Decimal) -> Trouble:
    """``made`` at the provider has given back so much of a refund that it had declined."""
    payment = owed.payment
    left = owed.amount - amount
    to_do = "You need to do nothing."
    if left:
        to_do = f"{format_amount(left, payment.currency)} are still owed to the buyer."
    return Trouble(
        Kind.PROVIDER_REFUND,
        _subject(made),
        f"A refund for order {payment.order.number} was made at the provider {payment.provider}. "
        f"{format_amount(amount, payment.currency)} of it count as the refund that it had declined "
        f"to this shop. {to_do}",
        payment.order_id,
    )


def unknown_refund(payment: Payment, amount: Decimal) -> Trouble:
    """A refund of this shop's that the shop doesn't know."""
    return Trouble(
        Kind.RESTORED,
        f"payment {payment.pk}",
        f"The provider {payment.provider} has given back {format_amount(amount, payment.currency)} "
        f"for order {payment.order.number} on our behalf, and we don't know of it. If you have "
        "restored a backup, run manage.py reconcile.",
        payment.order_id,
    )


def resolve_unknown_refund(payment: Payment) -> None:
    """The payment's refunds are known again: resolve the alert of ``unknown_refund``."""
    opened = ShopAlert.objects.open().filter(kind=Kind.RESTORED, subject=f"payment {payment.pk}")
    _resolve(list(opened.values_list("pk", flat=True)))


def name_orders_in_doubt(since: datetime, waiting: QuerySet[Order]) -> list[str]:
    """After a restore: raise an alert with the paid orders that may have been sent already.

    ``waiting``: the orders that wait to be shipped. Each is named once, so a repetition names those
    that were made again meanwhile. Orders that were placed since the first alert are new. Return
    the numbers of the orders named now.
    """
    subject = f"parcels since {since.isoformat()}"[:SUBJECT_WITHOUT_NUMBER]
    earlier = ShopAlert.objects.filter(kind=Kind.RESTORED, subject__startswith=subject)
    if first := earlier.order_by("pk").first():
        waiting = waiting.filter(placed_at__lt=first.raised_at)
    named = " ".join(earlier.values_list("text", flat=True))
    numbers = waiting.order_by("placed_at").values_list("number", flat=True)
    unnamed = [number for number in numbers if number not in named]
    if unnamed:
        raise_alert(_orders_in_doubt(f"{subject}, {len(earlier) + 1}", unnamed))
    return unnamed


def _orders_in_doubt(subject: str, numbers: list[str]) -> Trouble:
    return Trouble(
        Kind.RESTORED,
        subject,
        "A backup was restored, and no provider knows which parcels were sent after it. Check "
        f"before you send: {counted(len(numbers), 'order waits', 'orders wait')} to be shipped: "
        f"{', '.join(numbers)}.",
    )


def left_for_staff(subject: str, text: str) -> Trouble:
    """After a restore: something that only a person can put right."""
    return Trouble(Kind.RESTORED, subject[:LONGEST_SUBJECT], text)


def resolve_left_for_staff(subjects: Collection[str]) -> None:
    """These are right now: resolve their alerts of ``left_for_staff``."""
    cut = [subject[:LONGEST_SUBJECT] for subject in subjects]
    opened = ShopAlert.objects.open().filter(kind=Kind.RESTORED, subject__in=cut)
    _resolve(list(opened.values_list("pk", flat=True)))


def update_dispute_alerts(dispute: Dispute) -> None:
    """Raise the alert of a dispute that is new or has moved on; its earlier ones are over."""
    trouble = _disputed(dispute)
    raise_alert(trouble)
    earlier = ShopAlert.objects.open().filter(
        kind=trouble.kind, subject__startswith=f"dispute {dispute.pk} "
    )
    earlier.exclude(subject=trouble.subject).update(resolved_at=Now())


def dispute_text(dispute: Dispute) -> str:
    """How the dispute stands, in a sentence for staff."""
    amount = format_amount(dispute.amount, dispute.payment.currency)
    reason = f" (“{dispute.reason}”)" if dispute.reason else ""
    return {
        Dispute.State.INQUIRY: f"The buyer's bank asks about {amount}{reason}.",
        Dispute.State.OPEN: f"The buyer's bank has taken back {amount}{reason}.",
        Dispute.State.WON: f"The dispute of {amount} was decided for the shop.",
        Dispute.State.LOST: f"The dispute of {amount} was decided for the buyer.",
    }[Dispute.State(dispute.state)]


def _dispute_to_do(dispute: Dispute, order: Order) -> str:
    """The sentences for staff that are true of the order as it stands now."""
    is_closed = order.is_closed or not order.worth()
    match Dispute.State(dispute.state):
        case Dispute.State.INQUIRY:
            return "The bank has taken no money. Answer at the provider before its date."
        case Dispute.State.OPEN:
            answer = "Answer at the provider before its date: after it the money is lost."
            return f"{answer} {_open_to_do(order, is_closed=is_closed)}"
        case Dispute.State.WON:
            return _won_to_do(order)
    if is_closed:
        return f"The money is gone. {_stands(order)}, so you need to do nothing."
    return (
        "The money is gone. The order keeps its units: if they are still here or come back, refund "
        "them here, and no more money goes out than is left."
    )


def _open_to_do(order: Order, *, is_closed: bool) -> str:
    if not is_closed:
        if order.state == Order.State.SHIPPED:
            return "The order is shipped, and keeps its units."
        return "The order keeps its units, and isn't shipped yet: think before you ship it."
    back = order.back_if_won()
    if not back:
        return f"{_stands(order)}."
    amount = format_amount(back, order.currency)
    return f"{_stands(order)}: if you win, {amount} goes back to the buyer by itself."


def _won_to_do(order: Order) -> str:
    due = Refund.objects.filter(payment__order=order, state=Refund.State.DUE)
    going = max(order.kept() - order.worth_to_keep(), Decimal(0))
    going += sum((refund.amount for refund in due), Decimal(0))
    if going:
        amount = format_amount(going, order.currency)
        return f"{_stands(order)}, so {amount} goes back to the buyer by itself."
    if order.is_closed:
        return f"{_stands(order)}, and its money is the buyer's."
    return "The money is ours."


def _stands(order: Order) -> str:
    """How the order stands that needs no units any more, as the start of a sentence."""
    if order.is_closed:
        return f"The order is {order.state_for_buyer()}"
    return "Units were taken off the order"


def _disputed(dispute: Dispute) -> Trouble:
    order = dispute.payment.order
    state = Dispute.State(dispute.state)
    return Trouble(
        Kind.PAYMENT_DISPUTED,
        # Each step is news of its own, and is sent.
        f"dispute {dispute.pk} {state}",
        f"Order {order.number}: {dispute_text(dispute)} {_dispute_to_do(dispute, order)}",
        order.pk,
    )


def _undecided_disputes() -> Iterator[Trouble]:
    undecided = Dispute.objects.undecided().select_related("payment__order")
    return (_disputed(dispute) for dispute in undecided)


def _update_decided_disputes() -> None:
    """Bring the open alerts of decided disputes in line with their orders, which go on."""
    opened = ShopAlert.objects.open().filter(kind=Kind.PAYMENT_DISPUTED)
    order_ids = list(opened.values_list("order_id", flat=True))
    decided = Dispute.objects.filter(payment__order__in=order_ids, decided_at__isnull=False)
    for dispute in decided.select_related("payment__order"):
        now = _disputed(dispute)
        # Somebody may acknowledge it at this moment: only an open one is changed.
        opened.filter(subject=now.subject).exclude(text=now.text).update(text=now.text)


# Background work


def _failed_jobs() -> Iterator[Trouble]:
    """Jobs that fail again and again, or were given up; one trouble for each task.

    If a mail server is down, people must know it soon: its e-mails are never given up, and other
    jobs only after a day.
    Jobs that are queued every minute are left out, and so are jobs whose work those do, too.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT job.task_name, count(*), count(*) FILTER (WHERE job.status = 'failed'),
                (array_agg(o.number ORDER BY job.id DESC) FILTER (WHERE o.id IS NOT NULL))[1:%s]
            FROM procrastinate_jobs AS job
            LEFT JOIN shop_refund AS refund ON refund.id = (job.args ->> 'refund_id')::bigint
            LEFT JOIN shop_payment AS payment ON payment.id = refund.payment_id
            LEFT JOIN shop_order AS o
                ON o.id = coalesce((job.args ->> 'order_id')::bigint, payment.order_id)
            WHERE (
                    job.status = 'failed'
                    OR job.status = 'todo' AND job.attempts >= %s
                    OR job.status IN ('todo', 'doing') AND job.priority = %s AND EXISTS (
                        SELECT FROM procrastinate_events AS event
                        WHERE event.job_id = job.id AND event.type = 'deferred_for_retry'
                            AND event.at < statement_timestamp() - make_interval(secs => %s)
                    )
                ) AND {IS_QUEUED_ONCE} AND job.task_name <> ALL(%s)
            GROUP BY job.task_name ORDER BY job.task_name
            """,
            [
                SHOWN_NUMBERS,
                FAILED_OFTEN,
                WAITS_FOR_RECEIVER,
                AWAY_FOR_LONG.total_seconds(),
                DONE_EVERY_MINUTE_TOO,
            ],
        )
        rows = cursor.fetchall()
    return (_failing(*row) for row in rows)


def _failing(
    task_name: str, number: int, given_up: int, order_numbers: list[str] | None
) -> Trouble:
    name = task_name.rpartition(".")[2]
    is_mail = task_name in RECEIVERS["mail server"]
    what = "e-mail" if is_mail else "background job"
    words = f"{counted(number, what)} of the kind {name} failed."
    if order_numbers:
        words += f" Orders: {', '.join(order_numbers)}{' …' if number > SHOWN_NUMBERS else ''}."
    words += " Fix the cause, which is in the worker's log."
    if given_up:
        words += f" {given_up} of them will not be tried again unless you start them."
    else:
        words += " The worker goes on trying."
    return Trouble(Kind.MAIL_FAILED if is_mail else Kind.JOB_FAILED, task_name, words)
