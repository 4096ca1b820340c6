"""The life of a reservation: reserved, then confirmed or released; each exactly once.

One conditional UPDATE on the old status decides every race, in the transaction that moves the
units. Locks are taken in the order of ``inventory.locking``.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from operator import or_
from uuid import UUID, uuid4

from django.db.models import Exists, F, ForeignObjectRel, OuterRef, Q
from django.db.models.functions import Least, Now

from inventory import conf, signals, strategies
from inventory.database import atomic
from inventory.exceptions import (
    BuyerLimitExceeded,
    DuplicateKey,
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidQuantity,
    InventoryError,
    NotForSale,
    ReservationChanged,
    ReservationEnded,
)
from inventory.holds import (
    Request,
    check_quantity,
    confirm_all,
    free_lapsed,
    give_back,
    prolong_all,
    take_back_lapsed,
)
from inventory.locking import (
    lock_product,
    lock_product_to_take,
    lock_products,
    lock_reservations,
    missing_error,
    queue_buyer,
    queue_buyers,
)
from inventory.models import Product, Reservation, ReservationQuerySet
from inventory.snapshots import check_buyer_limit, refusal
from inventory.strategies.base import Pay, Strategy, no_payment, refusals_of_the_database
from inventory.strategies.combined import Combined, Waiting, serve
from inventory.strategies.single_statement import SingleStatement, take_if_available

# A buyer waits for at most one such batch. 200 holds take some milliseconds. With 1,000, the
# slowest percent of that product's buyers waited five times as long (measured).
SWEEP_AT_ONCE = 200
DELETE_AT_ONCE = 500

HELD, SOLD, RELEASED, EXPIRED = (
    Reservation.Status.HELD,
    Reservation.Status.SOLD,
    Reservation.Status.RELEASED,
    Reservation.Status.EXPIRED,
)


def reserve(
    product: Product,
    quantity: int,
    *,
    buyer: str,
    idempotency_key: str | None = None,
    hold_for: timedelta | None = None,
    strategy: Strategy | str | None = None,
    pay: Pay = no_payment,
    reservation_id: UUID | None = None,
) -> Reservation:
    """Hold ``quantity`` units of ``product`` for ``buyer`` (an opaque key) and return the hold.

    A second request with the same ``idempotency_key`` changes nothing. It returns the reservation
    of the first, whatever its status is now. ``hold_for`` is by default the setting's, and
    ``strategy`` the product's. ``pay`` is for flash sales (see ``Strategy.take``). Give
    ``reservation_id``, a new random id, if you must know it before the hold exists.

    Raises InvalidQuantity, InvalidText, InsufficientStock, NotForSale, BuyerLimitExceeded,
    IdempotencyKeyReused, TooMuchContention or CannotJoinTransaction; then nothing was changed.
    """
    chosen = _strategy(strategy or product.strategy_slug)
    request = Request(
        product_id=product.pk,
        sku=product.sku,
        quantity=quantity,
        buyer=buyer,
        hold_for=conf.hold_for() if hold_for is None else hold_for,
        strategy=chosen.slug,
        idempotency_key=idempotency_key,
        max_per_buyer=product.max_per_buyer,
        reservation_id=reservation_id or uuid4(),
    )
    began = time.perf_counter()
    try:
        reservation = _take_or_find(chosen, request, pay)
    except InsufficientStock:
        seconds = time.perf_counter() - began
        signals.report_tried(chosen.slug, signals.Outcome.REFUSED, [seconds])
        raise
    if reservation.pk == request.reservation_id:  # it isn't the one of an earlier request
        signals.report_reserved(chosen.slug, [time.perf_counter() - began])
    return reservation


def _take_or_find(chosen: Strategy, request: Request, pay: Pay) -> Reservation:
    """Take the units, also those of lapsed holds, or find the reservation of the same request."""
    try:
        return chosen.take(request, pay)
    except InsufficientStock as refused:
        if refused.available < request.quantity:
            raise  # stock and lapsed holds were too few together, on one snapshot
    except BuyerLimitExceeded as refused:
        if not _has_lapsed(request):
            return _earlier_or_raise(refused, request)
    except DuplicateKey as refused:
        return _earlier_or_raise(refused, request)
    try:
        return _take_with_lapsed(request)
    except (InsufficientStock, NotForSale, BuyerLimitExceeded, DuplicateKey) as refused:
        return _earlier_or_raise(refused, request)


@dataclass(frozen=True)
class Wanted:
    """Units that one of many buyers of a product wants; the words are those of ``reserve``."""

    quantity: int
    buyer: str
    idempotency_key: str
    reservation_id: UUID
    began: float = field(default_factory=time.perf_counter)
    """The time at which the buyer began to wait, by ``time.perf_counter``."""


def can_reserve_for_many(product: Product) -> bool:
    """Whether the product's buyers can be served together."""
    return product.strategy_slug == Combined.slug and product.max_per_buyer is None


def reserve_for_many(product: Product, wanted: Sequence[Wanted]) -> list[Exception | None]:
    """Hold units of ``product`` for many buyers by one statement, as the strategy ``combined``.

    Returns for each, in their order, None if the reservation was made, with the id that was asked
    for, or the error that ``reserve`` would raise. It takes no lapsed holds back: an
    InsufficientStock whose ``available`` is enough is a case for ``reserve``. All the idempotency
    keys must differ. Call it outside a transaction, only if ``can_reserve_for_many``. It reports
    the reservations (``signals``), and no refusals: the caller knows which of them are final.

    Raises an error of the database. Then nobody knows which reservations were made; ``reserve``
    with the same key finds out.
    """
    waiting = [
        Waiting(
            Request(
                product_id=product.pk,
                sku=product.sku,
                quantity=each.quantity,
                buyer=each.buyer,
                hold_for=conf.hold_for(),
                strategy=Combined.slug,
                idempotency_key=each.idempotency_key,
                reservation_id=each.reservation_id,
            )
        )
        for each in wanted
    ]
    serve(waiting)
    now = time.perf_counter()
    reserved = [
        now - buyer.began
        for buyer, each in zip(wanted, waiting, strict=True)
        if each.granted is not None
    ]
    signals.report_tried(Combined.slug, signals.Outcome.RESERVED, reserved)
    return [each.error for each in waiting]


def reserve_together(lines: Sequence[tuple[Product, int]], *, buyer: str) -> list[Reservation]:
    """Hold all of these (product, units) for ``buyer``, or nothing; return them in this order.

    Takes products in the order of primary keys, so that buyers never wait in a circle. Uses
    ``single_statement`` in place of a strategy that needs a transaction of its own.

    Raises what ``reserve`` raises.
    """
    taken: dict[int, Reservation] = {}
    with atomic():
        for place, (product, quantity) in sorted(
            enumerate(lines), key=lambda line: (line[1][0].pk, line[0])
        ):
            chosen = _strategy(product.strategy_slug)
            if not chosen.joins_transaction:
                chosen = SingleStatement()
            taken[place] = reserve(product, quantity, buyer=buyer, strategy=chosen)
    return [taken[place] for place in range(len(lines))]


def _strategy(strategy: Strategy | str) -> Strategy:
    return strategies.get(strategy) if isinstance(strategy, str) else strategy


def _has_lapsed(request: Request) -> bool:
    """Whether a lapsed hold of the buyer counts against ``max_per_buyer``."""
    lapsed = Reservation.objects.lapsed().of_buyer(request.buyer, request.product_id)
    return lapsed.exists()


def _take_with_lapsed(request: Request) -> Reservation:
    """Take back the product's lapsed holds, and serve the buyer from them, in one transaction.

    Other buyers of the product wait meanwhile, so they can't take the freed units first.
    """
    with refusals_of_the_database(request), atomic():
        limited = request.max_per_buyer is not None
        if limited:
            queue_buyer(request.product_id, request.buyer)
        stock = lock_product_to_take(request.product_id).stock
        if limited:
            # A lapsed hold can still be confirmed, so it counts until it is taken back.
            stock += take_back_lapsed(request.product_id, buyer=request.buyer)[1]
            check_buyer_limit(request)
        stock += free_lapsed(request.product_id, request.quantity - stock)
        reservation = take_if_available(request)
        if reservation is not None:
            return reservation
    raise InsufficientStock(request.sku, request.quantity, stock)


def _earlier_or_raise(refused: InventoryError, request: Request) -> Reservation:
    """The reservation of the first request with this key. Raises ``refused`` if there is none."""
    key = request.idempotency_key
    if key is None:
        raise refused
    earlier = Reservation.objects.filter(idempotency_key=key).first()
    if earlier is None:
        raise refused
    if (earlier.buyer, earlier.product_id) != (request.buyer, request.product_id):
        raise IdempotencyKeyReused("This key was used for another request: choose a new one.")
    return earlier


def prolong(
    reservation_ids: Iterable[UUID], *, hold_for: timedelta, at_most: timedelta
) -> list[Reservation]:
    """Hold all of these for ``hold_for`` from now, or none; return them by product.

    A hold lasts at most ``at_most`` from when it was made, and never gets shorter. A lapsed hold
    is held again unless it was taken back.

    Raises ReservationEnded if one of them is no longer a hold, or has been one for ``at_most``;
    Reservation.DoesNotExist.
    """
    ids = set(reservation_ids)
    prolonged = prolong_all(ids, hold_for=hold_for, at_most=at_most)
    if len(prolonged) < len(ids):
        for reservation in _find_all(ids):
            if reservation.status != HELD:
                raise _ended_error(reservation)
        raise ReservationEnded(HELD, "This reservation can't be held any longer.")
    return prolonged


def confirm(reservation_id: UUID) -> Reservation:
    """Make a hold a sale, and return it. Confirming again changes nothing.

    A lapsed hold can still be confirmed, unless it was taken back.

    Raises ReservationEnded if it was released or taken back, Reservation.DoesNotExist.
    """
    _held(reservation_id).update(status=SOLD, decided_at=Now())
    reservation = Reservation.objects.get(pk=reservation_id)
    if reservation.status != SOLD:
        raise _ended_error(reservation)
    return reservation


def confirm_together(reservation_ids: Iterable[UUID]) -> list[Reservation]:
    """Make all of these sales, or none; return them by product. Doing it again changes nothing.

    A lapsed hold can still be confirmed, unless it was taken back.

    Raises ReservationEnded if one of them was released or taken back, Reservation.DoesNotExist.
    Then nothing was changed. A caller's transaction has locked the others, and so it must not lock
    products any more.
    """
    ids = set(reservation_ids)
    confirmed = confirm_all(ids)
    if len(confirmed) == len(ids):
        return confirmed
    with atomic():
        for reservation in lock_reservations(ids):
            if reservation.status not in (HELD, SOLD):
                raise _ended_error(reservation)
        _confirm_held(ids)
        return _find_all(ids)


def confirm_or_retake(
    reservation_ids: Iterable[UUID], *, returned: Mapping[UUID, int] | None = None
) -> list[Reservation]:
    """Make all of these sales, or none; return them by product. Doing it again changes nothing.

    For a buyer who has paid. If a hold was released or taken back meanwhile, its units are taken
    again by ``single_statement``, whatever the product's strategy. Lapsed holds of other buyers
    count as available. ``returned`` are units, by reservation, that the buyer has given back since:
    they are not taken again, and the sale has them as returned.

    Raises InsufficientStock, NotForSale or BuyerLimitExceeded if units that are gone can't be
    taken again, Reservation.DoesNotExist. Then nothing was changed.
    """
    ids = set(reservation_ids)
    with suppress(ReservationEnded), atomic():
        return confirm_together(ids)
    with atomic():
        products = _lock_products_to_retake(ids)
        # First the holds that are left: our own lapsed ones must not be taken back for the others.
        gone = [each for each in lock_reservations(ids) if each.status not in (HELD, SOLD)]
        _confirm_held(ids)
        for reservation in gone:
            units = (returned or {}).get(reservation.pk, 0)
            _retake(reservation, products[reservation.product_id], returned=units)
        return _find_all(ids)


def record_lapsed(lost: Collection[Reservation]) -> None:
    """Put reservations on record that a database restored from a backup lacks, as lapsed ones.

    ``lost`` aren't saved: each has its old id, product, quantity, price, buyer and strategy. They
    take no units: ``confirm_or_retake`` does that. A reservation may be on record as it was in the
    backup. It gets the quantity that it had in the end, and if it is held, it lapses.

    Raises ReservationChanged if one is on record as a sale, or as another buyer's or of another
    product or price; then nothing was changed.
    """
    by_id = {each.pk: each for each in lost}
    with atomic():
        _lock_products_of(lost)
        found = Reservation.objects.filter(pk__in=by_id).values_list("pk", flat=True)
        for earlier in lock_reservations(found):
            _let_lapse(earlier, by_id.pop(earlier.pk))
        for each in by_id.values():
            each.status = EXPIRED
        Reservation.objects.bulk_create(by_id.values())
        new = Reservation.objects.filter(pk__in=by_id)
        new.update(decided_at=Now(), expires_at=Now())


def _lock_products_of(reservations: Collection[Reservation]) -> None:
    """Lock their products, each after its queues."""
    products = Product.objects.filter(pk__in={each.product_id for each in reservations})
    for product in products.order_by("pk"):
        if product.max_per_buyer is not None:
            buyers = {each.buyer for each in reservations if each.product_id == product.pk}
            queue_buyers(product.pk, buyers)
        lock_product_to_take(product.pk)


def _let_lapse(earlier: Reservation, lost: Reservation) -> None:
    """Let a reservation lapse, with the lost one's quantity. It and the product are locked."""
    for name in ("product_id", "unit_price", "buyer"):
        if getattr(earlier, name) != getattr(lost, name):
            raise ReservationChanged(f"Reservation {earlier.pk} is another one.")
    if earlier.status == SOLD:
        raise ReservationChanged(f"Reservation {earlier.pk} has been sold.")
    if earlier.status == HELD:
        give_back(earlier.product_id, earlier.quantity)
    Reservation.objects.filter(pk=earlier.pk).update(
        status=EXPIRED, quantity=lost.quantity, decided_at=Now()
    )


def _confirm_held(ids: set[UUID]) -> None:
    Reservation.objects.held().filter(pk__in=ids).update(status=SOLD, decided_at=Now())


def _find_all(ids: set[UUID]) -> list[Reservation]:
    """These reservations, by product. Raises Reservation.DoesNotExist if one of them is missing."""
    found = list(Reservation.objects.filter(pk__in=ids).order_by("product_id", "pk"))
    if missing := ids - {reservation.pk for reservation in found}:
        raise missing_error(missing)
    return found


def _lock_products_to_retake(ids: set[UUID]) -> dict[int, Product]:
    """Lock the products, each after its queues, and return them by primary key."""
    locked: dict[int, Product] = {}
    products = Product.objects.filter(reservations__in=ids).order_by("pk")
    for product in products.distinct():
        if product.max_per_buyer is not None:
            of_product = Reservation.objects.filter(pk__in=ids, product=product)
            for buyer in sorted(set(of_product.values_list("buyer", flat=True))):
                queue_buyer(product.pk, buyer)
        locked[product.pk] = lock_product_to_take(product.pk)
    return locked


def _retake(reservation: Reservation, product: Product, *, returned: int) -> None:
    """Take the units of an ended reservation again. It and the product are locked."""
    if returned < reservation.quantity:
        _take_again(reservation, product, reservation.quantity - returned)
    Reservation.objects.filter(pk=reservation.pk).update(
        status=SOLD, returned=returned, strategy=SingleStatement.slug, decided_at=Now()
    )


def _take_again(reservation: Reservation, product: Product, units: int) -> None:
    request = Request(
        product_id=product.pk,
        sku=product.sku,
        quantity=units,
        buyer=reservation.buyer,
        hold_for=timedelta(0),
        strategy=SingleStatement.slug,
        max_per_buyer=product.max_per_buyer,
    )
    if not product.is_active:
        raise NotForSale(product.sku)
    if product.max_per_buyer is not None:
        # A lapsed hold can still be confirmed, so it counts until it is taken back.
        take_back_lapsed(product.pk, buyer=reservation.buyer)
    check_buyer_limit(request)
    while not _take_units(request):
        if not free_lapsed(product.pk, 1):
            raise refusal(request)


def _take_units(request: Request) -> bool:
    return bool(
        Product.objects.filter(pk=request.product_id, stock__gte=request.quantity).update(
            stock=F("stock") - request.quantity, version=F("version") + 1
        )
    )


def release(reservation_id: UUID) -> Reservation:
    """Release a hold and make its units available. Releasing again changes nothing.

    Raises ReservationEnded if it is a sale (see ``return_units``), Reservation.DoesNotExist.
    """
    with _product_locked(reservation_id) as reservation:
        if _held(reservation_id).update(status=RELEASED, decided_at=Now()):
            give_back(reservation.product_id, reservation.quantity)
        reservation.refresh_from_db()  # here: after it, somebody may have taken the units again
    if reservation.status == SOLD:
        raise _ended_error(reservation)
    return reservation


def release_all(reservation_ids: Collection[UUID]) -> list[Reservation]:
    """Release those that are still held, in one transaction, and return them as they were.

    The others stay unchanged. Raises Reservation.DoesNotExist.
    """
    with atomic():
        lock_products(
            Reservation.objects.filter(pk__in=reservation_ids).values_list("product_id", flat=True)
        )
        holds = [each for each in lock_reservations(reservation_ids) if each.status == HELD]
        Reservation.objects.held().filter(pk__in=[hold.pk for hold in holds]).update(
            status=RELEASED, decided_at=Now()
        )
        units: Counter[int] = Counter()
        for hold in holds:
            units[hold.product_id] += hold.quantity
        for product_id in sorted(units):
            give_back(product_id, units[product_id])
    return holds


def shrink(reservation_id: UUID, units: int, *, seen: int | None = None) -> Reservation:
    """Release ``units`` of a hold; all of its units release the hold.

    ``seen`` is the quantity that the caller saw. Give it wherever a request may be repeated:
    the second one finds another quantity, and changes nothing.

    Raises InvalidQuantity for more units than are held, ReservationChanged if the quantity is
    not the one ``seen``, ReservationEnded if it is no hold any more, Reservation.DoesNotExist.
    """
    check_quantity(units)
    with _product_locked(reservation_id) as reservation:
        if reservation.status != HELD:
            raise _ended_error(reservation)
        if seen not in (None, reservation.quantity):
            raise ReservationChanged(f"You hold {reservation.quantity} now, not {seen}.")
        if units > reservation.quantity:
            raise InvalidQuantity(f"{units} is more than the {reservation.quantity} held.")
        if units == reservation.quantity:
            shrunk = _held(reservation_id).update(status=RELEASED, decided_at=Now())
        else:
            shrunk = _held(reservation_id).update(quantity=F("quantity") - units)
        if shrunk:
            give_back(reservation.product_id, units)
        reservation.refresh_from_db()
    if not shrunk:  # it was confirmed meanwhile
        raise _ended_error(reservation)
    return reservation


def return_units(reservation_id: UUID, units: int, *, seen: int | None = None) -> Reservation:
    """Put ``units`` of a sale back on sale: they came back, or were never sent.

    They are units that the buyer has; for written-off units see ``return_written_off``. ``seen``
    is the number of returned units that the caller saw. Give it if the request may be repeated:
    the second request finds another number, and changes nothing.

    Raises InvalidQuantity for more units than the buyer has, ReservationChanged if the number
    differs from ``seen``, ReservationEnded if it is not a sale, Reservation.DoesNotExist.
    """
    check_quantity(units)
    with _product_locked(reservation_id) as reservation:
        if reservation.status != SOLD:
            raise _ended_error(reservation)
        if seen not in (None, reservation.returned):
            raise ReservationChanged(f"{reservation.returned} are returned already, not {seen}.")
        if units > reservation.kept:
            raise InvalidQuantity(f"{units} can't be returned: {reservation.kept} are still sold.")
        Reservation.objects.sold().filter(pk=reservation_id).update(returned=F("returned") + units)
        give_back(reservation.product_id, units)
        reservation.refresh_from_db()
    return reservation


def write_off(reservation_id: UUID, units: int) -> Reservation:
    """Note that the buyer no longer has ``units`` of a sale, and that they don't go back on sale.

    They broke, or got lost on the way. They stay sold, but no longer count against
    ``max_per_buyer``, so that the buyer can order a replacement.

    Raises InvalidQuantity for more units than the buyer has, ReservationEnded if it is not a
    sale, Reservation.DoesNotExist.
    """
    check_quantity(units)
    # One conditional statement: other returns and write-offs of this sale may be racing.
    written = Reservation.objects.sold().filter(
        pk=reservation_id, quantity__gte=F("returned") + F("written_off") + units
    )
    done = written.update(written_off=F("written_off") + units)
    reservation = Reservation.objects.get(pk=reservation_id)
    if not done:
        if reservation.status != SOLD:
            raise _ended_error(reservation)
        raise InvalidQuantity(f"{units} can't be written off: {reservation.kept} are still sold.")
    return reservation


def return_written_off(reservation_id: UUID, units: int) -> Reservation:
    """Put ``units`` that were written off back on sale.

    Raises InvalidQuantity for more units than are written off, Reservation.DoesNotExist.
    """
    check_quantity(units)
    with _product_locked(reservation_id) as reservation:
        returned = Reservation.objects.sold().filter(pk=reservation_id, written_off__gte=units)
        if not returned.update(
            written_off=F("written_off") - units, returned=F("returned") + units
        ):
            raise InvalidQuantity(
                f"{units} can't be put on sale: {reservation.written_off} are written off."
            )
        give_back(reservation.product_id, units)
        reservation.refresh_from_db()
    return reservation


def let_lapse(reservation_ids: Collection[UUID]) -> int:
    """End the time of these holds now, and return how many are still held.

    They lapse like all others: a buyer who needs the units takes them back.
    """
    holds = Reservation.objects.held().filter(pk__in=reservation_ids)
    return holds.update(expires_at=Least(F("expires_at"), Now()))


def expire_lapsed(product_id: int | None = None, *, batch: int = SWEEP_AT_ONCE) -> tuple[int, int]:
    """Take back the lapsed holds of a product, or of all; return (holds, units) taken back.

    Without it nothing goes wrong: a buyer who needs the units takes them back. It works in short
    transactions of at most ``batch`` holds, so that buyers hardly wait for it.
    """
    if product_id is None:
        with_lapsed = Product.objects.with_lapsed_holds().order_by("pk")
        product_ids = list(with_lapsed.values_list("pk", flat=True))
    else:
        product_ids = [product_id]
    all_holds = all_units = 0
    for each in product_ids:
        holds = batch
        while holds == batch:
            with atomic():
                lock_product(each)
                holds, units = take_back_lapsed(each, batch)
            all_holds += holds
            all_units += units
    return all_holds, all_units


def expire(reservation_ids: Iterable[UUID]) -> int:
    """Take back those of these holds that have lapsed, and return how many.

    Call it before a buyer's holds are counted: a lapsed one can still be confirmed, so it counts
    until it is taken back. Each product gets a short transaction; call it outside of one.
    """
    of_product: dict[int, list[UUID]] = defaultdict(list)
    holds = Reservation.objects.held().filter(pk__in=set(reservation_ids))
    lapsed = holds.filter(expires_at__lte=Now()).order_by("product_id")
    for product_id, pk in lapsed.values_list("product_id", "pk"):
        of_product[product_id].append(pk)
    taken_back = 0
    for product_id, ids in of_product.items():
        with atomic():
            lock_product(product_id)
            taken_back += take_back_lapsed(product_id, only=ids)[0]
    return taken_back


def delete_ended(older_than: timedelta, *, batch: int = DELETE_AT_ONCE) -> int:
    """Delete reservations released or taken back longer than ``older_than`` ago; return how many.

    Keeps every sale, and reservations that a foreign key refers to, such as an order's line. The
    deleted ones count in no stock, so nobody waits, and transactions of at most ``batch``
    reservations are short. The idempotency key of a deleted reservation can be used again.
    """
    old = Reservation.objects.filter(
        status__in=[RELEASED, EXPIRED], decided_at__lt=Now() - older_than
    )
    unreferred = old.exclude(reduce(or_, _references(), Q(pk__in=[])))
    forgotten, further = 0, Q()
    while True:
        with atomic():
            # Locked, since a late payment could still make it a sale.
            rows = unreferred.filter(further).select_for_update(skip_locked=True)
            found = list(rows.order_by("decided_at").values_list("pk", "decided_at")[:batch])
            old.filter(pk__in=[pk for pk, _ in found]).delete()
        forgotten += len(found)
        if len(found) < batch:
            return forgotten
        further = Q(decided_at__gte=found[-1][1])  # don't read the kept ones again each time


def _references() -> list[Exists]:
    """For each foreign key to a reservation, in any app: whether it refers to this one."""
    return [
        Exists(field.related_model._base_manager.filter(**{field.field.name: OuterRef("pk")}))
        for field in Reservation._meta.get_fields(include_hidden=True)
        if isinstance(field, ForeignObjectRel)
    ]


@contextmanager
def _product_locked(reservation_id: UUID) -> Iterator[Reservation]:
    """A transaction with the reservation's product locked, so that its quantities don't change.

    Its status can change: ``confirm`` needs no lock on the product.
    """
    with atomic():
        lock_product(
            Reservation.objects.values_list("product_id", flat=True).get(pk=reservation_id)
        )
        yield Reservation.objects.get(pk=reservation_id)


def _held(reservation_id: UUID) -> ReservationQuerySet:
    return Reservation.objects.held().filter(pk=reservation_id)


def _ended_error(reservation: Reservation) -> ReservationEnded:
    words = {
        Reservation.Status.HELD: "is still held, not sold",
        Reservation.Status.SOLD: "has been sold",
        Reservation.Status.RELEASED: "was let go",
        Reservation.Status.EXPIRED: "has lapsed, and its units are back on sale",
    }
    status = Reservation.Status(reservation.status)
    return ReservationEnded(status, f"This reservation {words[status]}.")
