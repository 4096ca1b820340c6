"""The demo bank's dashboard: the steps of the bank's own staff with an approved charge.

Each step is done once, however often its form is sent, and is reported to the shop in a message.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django.db import transaction

from shop.models import DemoBankCharge, DemoBankDispute, DemoBankRefund
from shop.payments import demo
from shop.payments.base import RefundDeclined

State = DemoBankDispute.State


def find_charge(charge_id: int) -> DemoBankCharge:
    """Return the charge as it stands by the bank's clock. Raises DemoBankCharge.DoesNotExist."""
    return demo.find_charge(DemoBankCharge.objects.get(pk=charge_id).reference)


@transaction.atomic
def give_back(charge_id: int, amount: Decimal, form_key: UUID) -> tuple[DemoBankRefund, bool]:
    """Give an amount back; return the refund, and False if this form was sent before.

    Raises RefundDeclined.
    """
    charge = demo.locked_charges(pk=charge_id).get()
    before = charge.refunds.filter(form_key=form_key).first()
    if before is not None:
        return before, False
    if reason := demo.why_declined(charge, amount):
        raise RefundDeclined(reason)
    refund = charge.refunds.create(amount=amount, form_key=form_key)
    demo.report(charge, "refund.made", refund.pk)
    return refund, True


@transaction.atomic
def let_refund_fail(charge_id: int, refund_id: int) -> tuple[DemoBankRefund, bool]:
    """Send the money of a refund back to the shop; return it, and False if it was done before.

    Raises DemoBankRefund.DoesNotExist.
    """
    charge = demo.locked_charges(pk=charge_id).get()
    refund = charge.refunds.get(pk=refund_id)
    if refund.state == DemoBankRefund.State.FAILED:
        return refund, False
    refund.state, refund.problem = DemoBankRefund.State.FAILED, demo.CAME_BACK
    refund.save(update_fields=["state", "problem"])
    demo.report(charge, "refund.failed", refund.pk)
    return refund, True


@transaction.atomic
def decide_dispute(charge_id: int, *, for_shop: bool) -> tuple[DemoBankDispute, bool]:
    """Decide the dispute; return it, and False if it was decided before: that decision stands.

    Raises DemoBankDispute.DoesNotExist.
    """
    charge = demo.locked_charges(pk=charge_id).get()
    dispute = DemoBankDispute.objects.get(charge=charge)
    if dispute.state != State.OPEN:
        return dispute, False
    dispute.state = State.WON if for_shop else State.LOST
    dispute.save(update_fields=["state"])
    demo.report(charge, "dispute.decided", dispute.pk)
    return dispute, True


@transaction.atomic
def decline_refunds(charge_id: int) -> bool:
    """Decline all further refunds of the charge; False if the bank did that before."""
    charge = demo.locked_charges(pk=charge_id).get()
    if charge.declines_refunds:
        return False
    charge.declines_refunds = True
    charge.save(update_fields=["declines_refunds"])
    demo.report(charge, "refunds.declined", charge.pk)
    return True
