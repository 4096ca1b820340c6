"""After the restore of a backup: make good what the database has lost, as the provider knows it.

The provider has each payment and each refund on record, with the copies that we gave it
(``copies``). ``reconcile`` compares them with ours and does again what is unknown here. An order
comes out as it was: paid with its old number and lines, refunded by the same keys, its units sold,
back on sale or written off. Where the units can't be had any more, the money goes back.

Each order has one transaction, so that a process may be killed at any point and started again. Two
may run at once. A plan does the same in one transaction that is rolled back: it says exactly what
would happen.

The provider doesn't know of parcels, received stock, or money that went back another way. The
report names what a person must look at.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    transaction,
)

from inventory.exceptions import ReservationChanged
from inventory.models import Reservation
from shop import logs, payments, shop_alerts
from shop.clock import read_clock
from shop.logs.scrubbing import scrub
from shop.models import Order, Payment, Refund
from shop.money import format_amount
from shop.orders.copies import UnusableCopy
from shop.orders.order_repair import Case, Finding, Found, OrderRepair
from shop.payments.base import ListedPayment, Outcome, RefundRecord, Statement

log = logging.getLogger(__name__)

State = Order.State
Reason = Refund.Reason
# The backup saw one instant, and rows of transactions that were under way then are lost, too. The
# provider's clock may be another.
MARGIN = timedelta(hours=1)
# Raised where an order can't be brought in line with what we have.
EXPLAINED = (UnusableCopy, ReservationChanged)
EXPECTED = (*EXPLAINED, IntegrityError, DataError)
PAYMENT_STATES = {
    Outcome.OPEN: Payment.State.STARTED,
    Outcome.PAID: Payment.State.PAID,
    Outcome.DECLINED: Payment.State.DECLINED,
}


@dataclass(frozen=True)
class Step:
    """The steps that bring one order in line."""

    order: str
    """Its number."""
    amount: str
    done: str
    """Sentences."""


@dataclass
class Report:
    """The outcome, or the plan."""

    listed: dict[str, int]
    """The number of payments that each provider has told us."""
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    to_ship: list[str] = field(default_factory=list)
    """The numbers of the orders that wait to be shipped, and may have been sent already."""


def reconcile(since: datetime, slugs: Sequence[str], *, apply: bool) -> Report:
    """Compare these providers' payments since that time with ours, and return what was found.

    With ``apply``, everything is brought in line; else nothing is changed, and the report says what
    would be done. A repetition finds nothing more to do.

    Raises ProviderUnavailable, LookupError for an unknown provider; then nothing was changed.
    Raises OperationalError if the shop is open, and the plan would have to wait for it.
    """
    asked_at = read_clock()
    found = [each for slug in slugs for each in _ask(slug, since - MARGIN)]
    report = Report(listed={slug: sum(each.provider == slug for each in found) for slug in slugs})
    with _committing() if apply else _rolling_back():
        _bring_in_line(found, since, asked_at, report)
        _compare_ours(found, slugs, since, asked_at, report)
        if apply:
            _alert_staff(found, since, asked_at, report)
    return report


def _ask(slug: str, moment: datetime) -> list[Found]:
    """All payments that the provider lists, and those that we don't know the end of."""
    found = [Found(slug, listed) for listed in payments.list_since(slug, moment)]
    keys = [each.listed.key for each in found]
    older = Payment.objects.unanswered().filter(provider=slug).exclude(reference="")
    found += [Found(slug, _look_up(payment)) for payment in older.exclude(key__in=keys)]
    return found


def _look_up(payment: Payment) -> ListedPayment:
    """The payment as the provider knows it. It may be of another account, and unknown there."""
    statement, problem = Statement(Outcome.OPEN), ""
    try:
        statement = payments.statement(payment)
    except payments.ProviderUnavailable as error:
        problem = str(error)
    return ListedPayment(
        key=payment.key,
        reference=payment.reference,
        amount=payment.amount,
        currency=payment.currency,
        started_at=payment.started_at,
        statement=statement,
        problem=problem,
    )


@contextmanager
def _committing() -> Iterator[None]:
    """Let each order commit by itself."""
    yield


@contextmanager
def _rolling_back() -> Iterator[None]:
    """A transaction that changes nothing. It doesn't wait for others, who may wait for it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # no alert is raised
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '500ms'")
            yield
            transaction.set_rollback(True)
    finally:
        logging.disable(disabled)


# One order after the other


def _bring_in_line(found: list[Found], since: datetime, asked_at: datetime, report: Report) -> None:
    """Bring all orders in line, so that the last units go where they went.

    First the paid orders give units back, then those get theirs that have their holds. The others
    take what they had in the end: so their order doesn't matter, unless there is less than there
    was. Then the first to pay are the first to get it.
    """
    for case in sorted(_sort_into_cases(found, report), key=_turn):
        _bring_case_in_line(case, since, asked_at, report)


def _sort_into_cases(found: list[Found], report: Report) -> list[Case]:
    known = _known_payments(found)
    cases: dict[str, Case] = {}
    for each in found:
        payment = known.get(each.listed.key)
        if each.listed.problem:
            report.findings.append(_unreadable_payment(each, payment))
        elif payment is None and each.listed.statement.outcome is Outcome.DECLINED:
            report.counts["never paid"] += 1
        elif payment is not None and _differs(payment, each):
            report.findings.append(each.as_finding(f"It is another payment here: {payment}."))
        elif payment is not None and _agrees(payment, each):
            report.counts["agreed"] += 1
        else:
            try:
                token = payment.order.token if payment else each.read_copy().order.token
            except UnusableCopy as error:
                report.findings.append(_unknown_payment(each, error))
            else:
                cases.setdefault(token, Case(token)).found.append(each)
    return list(cases.values())


def _known_payments(found: list[Found]) -> dict[UUID, Payment]:
    keys = [each.listed.key for each in found]
    known = Payment.objects.filter(key__in=keys).select_related("order")
    return {payment.key: payment for payment in known}


def _differs(payment: Payment, found: Found) -> bool:
    ours = (payment.provider, payment.amount, payment.currency)
    return ours != (found.provider, found.listed.amount, found.listed.currency)


def _agrees(payment: Payment, found: Found) -> bool:
    """Whether our records say the same at first sight, so that nothing needs to be locked."""
    statement = found.listed.statement
    is_plain = not (statement.refunds or statement.disputes)
    return is_plain and payment.state == PAYMENT_STATES[statement.outcome]


def _unreadable_payment(found: Found, payment: Payment | None) -> Finding:
    order = f"Order {payment.order.number}" if payment else "No order here has it"
    return found.as_finding(
        f"{order}: the provider {found.provider} can't say how this payment stands. "
        f"{shop_alerts.as_sentence(found.listed.problem)} Is it of another account? Else run this "
        "again later."
    )


def _unknown_payment(found: Found, error: UnusableCopy) -> Finding:
    is_open = found.listed.statement.outcome is Outcome.OPEN
    return found.as_finding(
        f"No order here has this payment, and none can be made of it: {error} "
        + ("The buyer may still pay: end it there." if is_open else "Look it up there.")
    )


def _turn(case: Case) -> tuple[int, datetime]:
    """First the paid orders, which only give units back, then those that have their holds."""
    started_at = min(each.listed.started_at for each in case.found)
    order = Order.objects.filter(token=case.token).first()
    if order is None:
        return 2, started_at
    if not order.is_open:
        return 0, started_at
    ended = order.lines.exclude(reservation__status=Reservation.Status.HELD)
    return (2 if ended.exists() else 1), started_at


def _bring_case_in_line(case: Case, since: datetime, asked_at: datetime, report: Report) -> None:
    logs.unbind()
    repair = OrderRepair(case, since, asked_at)
    try:
        with transaction.atomic():
            order = repair.run()
    except (OperationalError, InterfaceError):  # not of this order: the database is busy or gone
        raise
    except Exception as error:  # a fault with one order keeps none of the others
        if not isinstance(error, EXPECTED):
            log.exception("The order of one of the payments can't be repaired.")
        text = _left_as_it_is(case, error)
        report.findings += [each.as_finding(text) for each in case.found]
        return
    report.findings += repair.findings
    report.counts += repair.counts
    if repair.sentences:
        amount = " + ".join(each.amount for each in case.found)
        report.steps.append(Step(order.number, amount, " ".join(repair.sentences)))
    else:
        report.counts["agreed"] += len(case.found)


def _left_as_it_is(case: Case, error: Exception) -> str:
    order = Order.objects.filter(token=case.token).first()
    if order is None:
        number = case.found[0].read_copy().order.number
        text = f"Order {number} was paid and is unknown here. It can't be made again"
    else:
        text = f"Order {order.number} is left as it is here"
    name = "" if isinstance(error, EXPECTED) else f"{type(error).__name__}: "
    # PostgreSQL's errors show whole rows, with names and addresses.
    why = str(error) if isinstance(error, EXPLAINED) else scrub(f"{name}{error}")
    return f"{text}. {' '.join(why.split())}"


# Our records that the provider doesn't have


def _compare_ours(
    found: list[Found],
    slugs: Sequence[str],
    since: datetime,
    asked_at: datetime,
    report: Report,
) -> None:
    """List what is paid or given back by our records alone: we may ask the wrong account."""
    listed = {each.listed.key: each for each in found}
    readable = {key for key, each in listed.items() if not each.listed.problem}
    paid = Payment.objects.filter(
        provider__in=slugs, state=Payment.State.PAID, started_at__range=(since, asked_at)
    )
    for payment in paid.exclude(key__in=listed).select_related("order"):
        report.findings.append(
            _unknown_there(
                payment,
                _lost_there("payment", payment.key),
                f"Order {payment.order.number} is paid",
            )
        )
    done = Refund.objects.filter(
        payment__key__in=readable,
        state=Refund.State.DONE,
        by_hand="",
        carried_out_at__range=(since, asked_at),
    )
    for refund in done.select_related("payment__order"):
        payment = refund.payment
        records = listed[payment.key].listed.statement.refunds
        if not any(_is_same(refund, record) for record in records):
            amount = format_amount(refund.amount, payment.currency)
            words = f"{amount} of order {payment.order.number} are given back"
            report.findings.append(
                _unknown_there(payment, _lost_there("refund", refund.key), words)
            )


def _is_same(refund: Refund, record: RefundRecord) -> bool:
    return refund.key == record.key or bool(refund.reference == record.reference != "")


def _unknown_there(payment: Payment, subject: str, words: str) -> Finding:
    return Finding(
        subject,
        payment.reference,
        format_amount(payment.amount, payment.currency),
        f"{words} here, and the provider {payment.provider} doesn't know of it. Is it the right "
        "account?",
        payment.provider_page,
    )


# Staff


def _alert_staff(found: list[Found], since: datetime, asked_at: datetime, report: Report) -> None:
    """Raise an alert for each finding, and one for the parcels; resolve those that are right now.

    The managers get no e-mail for each order that is made again, as they do for a new one: they
    would send the goods, and may have sent them already.
    """
    waiting = Order.objects.filter(state=State.PAID, placed_at__lt=asked_at)
    report.to_ship = shop_alerts.name_orders_in_doubt(since, waiting)
    for finding in report.findings:
        shop_alerts.raise_once(shop_alerts.left_for_staff(finding.subject, str(finding)))
    compared = {subject for each in found for subject in _subjects(each)}
    shop_alerts.resolve_left_for_staff(compared - {each.subject for each in report.findings})


def _subjects(found: Found) -> list[str]:
    """The subjects of the findings about a payment that hold until they are put right."""
    records = found.listed.statement.refunds
    refunds = [_lost_there("refund", record.key) for record in records if record.key]
    return [found.subject, _lost_there("payment", found.listed.key), *refunds]


def _lost_there(what: str, key: object) -> str:
    """The subject of a record of ours that the provider doesn't have."""
    return f"our {what} {key}"
