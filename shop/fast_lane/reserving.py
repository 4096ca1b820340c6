"""Reserving for all who wait for a product, by the rules of the basket and the limits of addresses.

A batch takes five statements: the product, a look at the buyers, a claim for their addresses, the
taking, and a look whether a buyer has got more than allowed by another request at the same moment.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID, uuid4

from django.conf import settings
from django.db import Error

from inventory import reservations, signals
from inventory.exceptions import InsufficientStock
from inventory.models import Product
from inventory.reservations import Wanted
from inventory.snapshots import HoldsOfBuyer, available_now, holds_of_buyers
from shop import basket, catalogue, network_limits, notices, refusals
from shop.database_errors import is_outage
from shop.fast_lane.visitors import buyers_with_something
from shop.forms import PRICE
from shop.middleware.buyer import ShopRequest
from shop.middleware.rate_limits import client_address
from shop.notice_storage import NoticeStorage

SLUG = re.compile(r"[-a-zA-Z0-9_]{1,100}")
QUANTITY = re.compile(r"[1-9][0-9]{0,3}")
KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Outcome(enum.Enum):
    """The outcome of a form for its buyer."""

    UNKNOWN = enum.auto()
    """Django must find out."""
    RESERVED = enum.auto()
    REFUSED = enum.auto()
    """There are too few units, and the buyer has none. It is on record once the buyer is told."""
    OVER_LIMIT = enum.auto()
    """Another request at the same moment has filled the basket. The hold was released."""


@dataclass(eq=False)
class Form:
    """A form to reserve that waits for its outcome."""

    slug: str
    quantity: int
    key: UUID
    seen_price: Decimal | None
    buyer: str
    network: str
    began: float = field(default_factory=time.perf_counter)
    outcome: Outcome = Outcome.UNKNOWN
    hold_id: UUID | None = None
    why: str = ""
    """The reason for OVER_LIMIT."""
    refused_of: Product | None = None
    """The product of a refusal."""
    is_on_record: bool = False
    """Whether the refusal is."""


def read_form(request: ShopRequest) -> Form | None:
    """Read the form as pages of the shop send it; None if it looks otherwise."""
    sent = request.POST
    slug, quantity, key = (sent.get(name, "") for name in ("product", "quantity", "key"))
    if not (SLUG.fullmatch(slug) and QUANTITY.fullmatch(quantity) and KEY.fullmatch(key)):
        return None
    price = sent.get("seen_price", "")
    return Form(
        slug=slug,
        quantity=int(quantity),
        key=UUID(key),
        seen_price=Decimal(price) if PRICE.fullmatch(price) else None,
        buyer=request.buyer,
        network=network_limits.network_of(client_address(request)),
    )


def note_reserved(request: ShopRequest, form: Form) -> str:
    """The value of the cookie that lets the next page tell of the hold."""
    assert form.hold_id is not None
    storage = request._messages = NoticeStorage(request)  # type: ignore[attr-defined]
    notices.note_reserved(
        request, form.hold_id, wanted=form.quantity, seen_price=form.seen_price, more=False
    )
    return storage.value_to_send()


def serve(slug: str, forms: Sequence[Form]) -> None:
    """Find the outcome of each form. All are for this product, each of another buyer."""
    product = catalogue.find_in_catalogue(slug)
    if product is None or not reservations.can_reserve_for_many(product):
        return
    forms = _within_limits(product, forms)
    refused = _refused_at_once(product, forms)
    wanted = {
        form: Wanted(form.quantity, form.buyer, _once(form), uuid4(), form.began)
        for form in forms
        if form not in refused
    }
    refused |= _take(product, wanted) if wanted else set()
    if refused:
        _refuse(product, refused)


def _within_limits(product: Product, forms: Iterable[Form]) -> list[Form]:
    """The forms that were not sent before, of buyers who may have so much more."""
    found = holds_of_buyers({form.buyer: _once(form) for form in forms})
    return [
        form
        for form in forms
        if not found[form.buyer].has_key and _may_have(found[form.buyer], form.quantity, product)
    ]


def _may_have(holds: HoldsOfBuyer, more: int, product: Product) -> bool:
    try:
        basket.check_limits(holds, more, product.price)
    except basket.BasketError:
        return False
    return True


def _once(form: Form) -> str:
    return basket.idempotency_key(form.buyer, form.key)


def _refused_at_once(product: Product, forms: Sequence[Form]) -> set[Form]:
    """The forms that ask for more than there is, if the product seems to be sold out."""
    if not forms or product.stock >= min(form.quantity for form in forms):
        return set()
    now = available_now(product.pk, max(form.quantity for form in forms))
    return _with_room({form for form in forms if now.is_active and form.quantity > now.units})


def _with_room(forms: set[Form]) -> set[Form]:
    """The forms whose address may surely hold so many units more: Django looks at that first."""
    most: int | None = settings.MOST_UNITS_PER_ADDRESS
    if most is None or not forms:
        return forms
    units = network_limits.units_at_most({form.network for form in forms})
    return {form for form in forms if units.get(form.network, 0) + form.quantity <= most}


def _take(product: Product, wanted: dict[Form, Wanted]) -> set[Form]:
    """Take for all whose address may hold so much more; return the forms that were refused."""
    claimed = _claim(wanted)
    if not claimed:
        return set()
    errors = _reserve(product, [wanted[form] for form in claimed])
    outcomes = dict(zip(claimed, errors, strict=True))
    if failed := [wanted[form].reservation_id for form, error in outcomes.items() if error]:
        network_limits.drop_claims(failed)
    reserved = {form: wanted[form].reservation_id for form in claimed if outcomes[form] is None}
    if reserved:
        _look_again(reserved)
    return {form for form in claimed if _is_refusal(outcomes[form], form)}


def _claim(wanted: dict[Form, Wanted]) -> list[Form]:
    """The forms whose address may hold so many units more. They are claimed now."""
    most: int | None = settings.MOST_UNITS_PER_ADDRESS
    if most is None:
        return list(wanted)
    claims = network_limits.try_to_claim(
        [(each.reservation_id, form.network, form.quantity) for form, each in wanted.items()],
        most,
    )
    return [form for form, claim in zip(wanted, claims, strict=True) if claim.is_granted]


def _reserve(product: Product, wanted: Sequence[Wanted]) -> list[Exception | None]:
    """Reserve for all of them. If PostgreSQL says no, their claims are in nobody's way."""
    try:
        return reservations.reserve_for_many(product, wanted)
    except Error as error:
        if not is_outage(error):  # else a reservation may still be committed
            network_limits.drop_claims([each.reservation_id for each in wanted])
        raise


def _look_again(reserved: dict[Form, UUID]) -> None:
    """Release the hold of a buyer who has too much: another request came at the same moment."""
    found = holds_of_buyers({form.buyer: None for form in reserved})
    for form, hold_id in reserved.items():
        try:
            basket.check_limits(found[form.buyer])
        except basket.BasketError as refused:
            reservations.release(hold_id)
            form.outcome, form.why = Outcome.OVER_LIMIT, str(refused)
        else:
            form.outcome, form.hold_id = Outcome.RESERVED, hold_id


def _is_refusal(error: Exception | None, form: Form) -> bool:
    """Whether there are too few units. If lapsed holds have them, Django takes those back."""
    return isinstance(error, InsufficientStock) and error.available < form.quantity


def _refuse(product: Product, refused: Collection[Form]) -> None:
    """Refuse those who see the page of everybody; the others are Django's."""
    known = buyers_with_something({form.buyer for form in refused})
    for form in refused:
        if form.buyer not in known:
            form.outcome, form.refused_of = Outcome.REFUSED, product


def record_refusals(slug: str, forms: Sequence[Form]) -> None:
    """Put the refusals on record, and report them. All are of this product.

    Each has a page to be told by. Without one Django finds the outcome anew, and records it.
    """
    product = forms[0].refused_of
    assert product is not None
    refusals.record(product, [form.quantity for form in forms])
    for form in forms:
        form.is_on_record = True
    now = time.perf_counter()
    waited = [now - form.began for form in forms]
    signals.report_tried(product.strategy_slug, signals.Outcome.REFUSED, waited)
