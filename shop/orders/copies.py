"""Copies that the payment provider keeps for us: an order, and the decision of a refund.

A database that is restored from a backup lacks the last orders and refunds. The provider returns
these copies, and ``reconcile`` makes the orders and refunds again. A copy is JSON text, is written
once, and never changes, since a repeated request to the provider must be the same.

Reading is strict. A text may be cut off, or come from another version of the shop: then nothing is
made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models

from shop.exceptions import ShopError
from shop.models import Order, OrderLine, Refund

VERSION = 1
LONGEST_URL = 500
ORDER_TEXTS = ("number", "token", "idempotency_key", "buyer", "currency")
ORDER_AMOUNTS = ("shipping_cost", "total")


class UnusableCopy(ShopError):
    """The text is no copy that this version of the shop can read; the message says why."""


@dataclass(frozen=True)
class OrderCopy:
    """An order as it was when its payment was started."""

    order: Order
    """It isn't saved, and has all that the buyer and the checkout wrote."""
    lines: list[OrderLine]
    """They aren't saved either. Each has its reservation's id, without a reservation."""
    return_url: str
    """``Payment.return_url``."""


@dataclass(frozen=True)
class Decision:
    """The decision to give money back, and what it did to the order's units."""

    reason: Refund.Reason
    note: str = ""
    cancels: bool = False
    """Whether it cancelled the order, so that all its units went back on sale."""
    units: Mapping[UUID, int] = field(default_factory=dict)
    """The units refunded, by reservation. Empty: none in particular."""
    restock: bool = False
    """Whether these units went back on sale; else they were written off."""


# Writing


def write_order(order: Order, lines: Iterable[OrderLine], return_url: str) -> str:
    """The copy of an order, with all its lines, whose payment is about to be started.

    See ``Payment.copy``.
    """
    return _write(
        {
            **{name: getattr(order, name) for name in ORDER_TEXTS},
            **{name: str(getattr(order, name)) for name in ORDER_AMOUNTS},
            "placed_at": order.placed_at.isoformat(),
            "typed": {name: _typed_text(order, name) for name in Order.CHECKOUT_FIELDS},
            "return_url": return_url,
            "lines": [_line_fields(line) for line in lines],
        }
    )


def _typed_text(order: Order, name: str) -> str | None:
    """The buyer's entry in a field, which may be of any kind, as text."""
    is_empty = getattr(order, name) is None
    return None if is_empty else _field(name).value_to_string(order)


def _field(name: str) -> models.Field[Any, Any]:
    field = Order._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field


def _line_fields(line: OrderLine) -> dict[str, object]:
    return {
        "reservation": str(line.reservation_id),
        "sku": line.sku,
        "name": line.name,
        "quantity": line.quantity,
        "unit_price": str(line.unit_price),
    }


def write_decision(decision: Decision) -> str:
    """The copy of a decision to give money back (``Refund.copy``)."""
    return _write(
        {
            "reason": decision.reason,
            "note": decision.note,
            "cancels": decision.cancels,
            "units": {str(reservation): units for reservation, units in decision.units.items()},
            "restock": decision.restock,
        }
    )


def _write(values: dict[str, object]) -> str:
    # As short as it can be: providers keep little.
    return json.dumps(
        {"version": VERSION, **values}, ensure_ascii=False, separators=(",", ":"), default=str
    )


# Reading


def read_order(text: str) -> OrderCopy:
    """Read ``Payment.copy``. Raises UnusableCopy."""
    values = _read(text)
    order = Order(
        **{name: _text(values, name) for name in ORDER_TEXTS},
        **{name: _amount(values, name) for name in ORDER_AMOUNTS},
        placed_at=_moment(values, "placed_at"),
    )
    typed = _get(values, "typed", dict)
    for name in Order.CHECKOUT_FIELDS:
        setattr(order, name, _read_typed(typed, name))
    lines = [_read_line(line) for line in _get(values, "lines", list)]
    _check_order(order, lines)
    return_url = _text(values, "return_url")
    if not return_url.startswith(("http://", "https://")) or len(return_url) > LONGEST_URL:
        raise UnusableCopy(f"“{return_url}” is no address of an order's page.")
    return OrderCopy(order, lines, return_url)


def _read_typed(typed: dict[str, Any], name: str) -> Any:
    if name in typed and typed[name] is None:
        return None
    return _checked(_field(name).to_python, _text(typed, name))


def _read_line(values: Any) -> OrderLine:
    if not isinstance(values, dict):
        raise UnusableCopy("One of its lines is no line of an order.")
    line = OrderLine(
        reservation_id=_uuid(_text(values, "reservation")),
        sku=_text(values, "sku"),
        name=_text(values, "name"),
        quantity=_units(values, "quantity"),
        unit_price=_amount(values, "unit_price"),
    )
    _checked(line.clean_fields, {"order", "reservation", "refunded"})
    return line


def _check_order(order: Order, lines: list[OrderLine]) -> None:
    _checked(order.clean_fields, {"email_key", "state"})
    if not (order.number and order.token):
        raise UnusableCopy("It must have a number and a token.")
    if len({line.reservation_id for line in lines}) != len(lines) or not lines:
        raise UnusableCopy("It must have lines, each with a reservation of its own.")
    if order.total != order.shipping_cost + sum(line.total for line in lines):
        raise UnusableCopy("The total isn't the sum of its lines and the shipping cost.")


def read_decision(text: str) -> Decision:
    """Read ``Refund.copy``. Raises UnusableCopy."""
    values = _read(text)
    reason = _text(values, "reason")
    if reason not in Refund.Reason.values:
        raise UnusableCopy(f"There is no reason “{reason}” for a refund.")
    units = _get(values, "units", dict)
    decision = Decision(
        reason=Refund.Reason(reason),
        note=_text(values, "note"),
        cancels=_get(values, "cancels", bool),
        units={_uuid(reservation): _units(units, reservation) for reservation in units},
        restock=_get(values, "restock", bool),
    )
    _checked(Refund(note=decision.note).clean_fields, {"payment", "key", "amount", "reason"})
    return decision


def _read(text: str) -> dict[str, Any]:
    if not text:
        raise UnusableCopy("The provider has no copy of it.")
    try:
        values = json.loads(text)
        json.dumps(values, ensure_ascii=False).encode()  # fails for half a character
    except (ValueError, RecursionError) as error:
        raise UnusableCopy("The copy is cut off, or no copy of this shop's.") from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise UnusableCopy("The copy is of another version of the shop.")
    return values


def _get(values: dict[str, Any], name: str, kind: type) -> Any:
    value = values.get(name)
    if type(value) is not kind:  # True is an int, too
        raise UnusableCopy(f"The copy's “{name}” is missing or makes no sense.")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    text: str = _get(values, name, str)
    if "\0" in text:
        raise UnusableCopy(f"The copy's “{name}” has a NUL character.")
    return text


def _units(values: dict[str, Any], name: str) -> int:
    units: int = _get(values, name, int)
    if units < 1:
        raise UnusableCopy(f"{units} is no number of units.")
    return units


def _amount(values: dict[str, Any], name: str) -> Decimal:
    text = _text(values, name)
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise UnusableCopy(f"“{text}” is no amount.") from error
    if not amount.is_finite() or amount < 0:
        raise UnusableCopy(f"“{text}” is no amount.")
    return amount


def _moment(values: dict[str, Any], name: str) -> datetime:
    text = _text(values, name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnusableCopy(f"“{text}” is no time.") from error
    if moment.tzinfo is None:
        raise UnusableCopy(f"“{text}” has no time zone.")
    return moment


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise UnusableCopy(f"“{text}” is no reservation.") from error


def _checked(check: Callable[..., Any], value: str | set[str]) -> Any:
    """The result of Django's own check of a value or a model."""
    try:
        return check(value)
    except ValidationError as error:
        raise UnusableCopy(f"It can't be stored: {' '.join(error.messages)}") from error
