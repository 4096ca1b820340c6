"""The limit of units that one network address may hold at a time; see also ``holders``.

A buyer is a cookie, and a new one costs nothing: limits per buyer don't stop anybody who takes a
new cookie each time. A network address costs more. An IPv6 customer has a whole /64 and takes any
address in it, so the /64 counts as one.

A request claims its units before it takes them. The claim has the id that the reservation will
have. It counts until the reservation is made; from then on the reservation counts. Claims of one
address wait for each other in PostgreSQL, so that an address never holds more than the limit, not
even for an instant. A claim may still come to nothing. So a request that other claims stand in
the way of waits for them, with no lock taken, before it gives up.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Network, ip_address

import pglock
from django.conf import settings
from django.db import Error, connection
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from inventory import reservations
from inventory.models import Product, Reservation
from inventory.words import counted
from shop.exceptions import LimitPerAddress
from shop.models import HoldAddress

PREFIX = 64  # bits of an IPv6 address: the least that a customer is given
CLAIM_LASTS = timedelta(minutes=2)  # longer than any request: an older claim was left by a crash
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds: most claims last for milliseconds

# Two statements in one round trip, and in one transaction: the second takes its snapshot after the
# first has got the locks. Lapsed holds count, too, since a checkout could still prolong them. The
# buyer reads the number of the live ones only. Of requests from one network, the earlier ones of
# the same batch count as granted.
CLAIM = """
    SELECT pg_advisory_xact_lock(id) FROM unnest(%(locks)s::bigint[]) AS id;
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ), asked AS MATERIALIZED (
        SELECT *, sum(quantity) OVER (PARTITION BY network ORDER BY place) AS together
        FROM unnest(%(ids)s::uuid[], %(networks)s::text[], %(quantities)s::int[])
            WITH ORDINALITY AS asked (id, network, quantity, place)
    ), counted AS MATERIALIZED (
        SELECT address.network,
            coalesce(sum(hold.quantity) FILTER (
                WHERE hold.status = 'HELD' AND hold.expires_at > clock.now
            ), 0)::int AS alive,
            coalesce(sum(hold.quantity) FILTER (
                WHERE hold.status = 'HELD' AND hold.expires_at <= clock.now
            ), 0)::int AS lapsed,
            coalesce(sum(address.quantity) FILTER (
                WHERE hold.id IS NULL
                    AND address.claimed_at > clock.now - make_interval(secs => %(lasts)s)
            ), 0)::int AS claimed
        FROM clock, shop_holdaddress AS address
        LEFT JOIN inventory_reservation AS hold ON hold.id = address.reservation_id
        WHERE address.network = ANY(%(networks)s::text[])
        GROUP BY address.network
    ), claim AS (
        INSERT INTO shop_holdaddress (reservation_id, network, quantity, claimed_at)
        SELECT id, network, quantity, clock.now
        FROM clock, asked LEFT JOIN counted USING (network)
        WHERE coalesce(alive + lapsed + claimed, 0) + together <= %(most)s
        RETURNING reservation_id
    )
    SELECT coalesce(alive, 0), coalesce(lapsed, 0), coalesce(claimed, 0),
        claim.reservation_id IS NOT NULL
    FROM asked LEFT JOIN counted USING (network) LEFT JOIN claim ON claim.reservation_id = asked.id
    ORDER BY place;
"""
DROP = "DELETE FROM shop_holdaddress WHERE reservation_id = ANY(%(ids)s::uuid[]);"
# A claim doesn't wait for the disk, which takes longer than all the rest. PostgreSQL writes its
# log in order: a crash that loses the claim also loses its reservation, which is committed later.
WITHOUT_DISK_WAIT = "SET LOCAL synchronous_commit = off"


@dataclass(frozen=True)
class Claim:
    """The outcome of an attempt to claim units; the address's units at that instant."""

    alive: int
    """Units in holds that are alive."""
    lapsed: int
    """Units in lapsed holds that are not taken back yet."""
    claimed: int
    """Units that requests under way have claimed."""
    is_granted: bool


def network_of(address: str) -> str:
    """The network that counts as one address: an IPv4 address itself, the /64 of an IPv6 address.

    >>> network_of("2001:db8:1:2:3:4:5:6")
    '2001:db8:1:2::/64'
    """
    parsed = ip_address(address)
    if parsed.version == 4:
        return str(parsed)
    return str(IPv6Network((int(parsed), PREFIX), strict=False))


def reserve(
    product: Product, quantity: int, *, address: str, buyer: str, idempotency_key: str
) -> Reservation:
    """Reserve as ``inventory.reservations.reserve`` does, within the limit of the address.

    Raises LimitPerAddress, or an error of that function; then nothing was changed.
    """
    most: int | None = settings.MOST_UNITS_PER_ADDRESS
    if most is None:
        return reservations.reserve(product, quantity, buyer=buyer, idempotency_key=idempotency_key)
    reservation_id = uuid.uuid4()
    try:
        _claim(reservation_id, network_of(address), quantity, most)
    except LimitPerAddress:
        # A double click: its first request may have used the limit up.
        earlier = product.reservations.filter(idempotency_key=idempotency_key, buyer=buyer).first()
        if earlier is None:
            raise
        return earlier
    hold = None
    try:
        hold = reservations.reserve(
            product,
            quantity,
            buyer=buyer,
            idempotency_key=idempotency_key,
            reservation_id=reservation_id,
        )
    finally:
        # No hold was made, or it is an earlier request's hold, which has a claim of its own.
        if hold is None or hold.pk != reservation_id:
            drop_claims([reservation_id])
    return hold


def _claim(reservation_id: uuid.UUID, network: str, quantity: int, most: int) -> None:
    """Claim these units for the network. Raises LimitPerAddress."""
    pauses = iter(PAUSES)
    while not (claim := _try_to_claim(reservation_id, network, quantity, most)).is_granted:
        if claim.alive + quantity > most:
            raise LimitPerAddress(_limit_text(claim.alive, most))
        if claim.lapsed:
            _take_back_lapsed(network)
        elif (pause := next(pauses, None)) is not None:
            time.sleep(pause)
        else:
            raise LimitPerAddress(
                "Others are reserving from your internet connection right now. Please try once "
                "more."
            )


def _try_to_claim(reservation_id: uuid.UUID, network: str, quantity: int, most: int) -> Claim:
    [claim] = try_to_claim([(reservation_id, network, quantity)], most)
    return claim


def try_to_claim(wanted: Sequence[tuple[uuid.UUID, str, int]], most: int) -> list[Claim]:
    """Claim units for each (new reservation's id, network, units), as far as ``most`` allows.

    ``most`` is the number of units that a network may hold. Returns the outcomes in this order.
    """
    networks = {network for _, network, _ in wanted}
    with connection.cursor() as cursor:
        cursor.execute(
            _without_disk_wait(CLAIM),
            {
                "locks": sorted(map(_lock_id, networks)),
                "ids": [reservation_id for reservation_id, _, _ in wanted],
                "networks": [network for _, network, _ in wanted],
                "quantities": [quantity for _, _, quantity in wanted],
                "most": most,
                "lasts": CLAIM_LASTS.total_seconds(),
            },
        )
        cursor.nextset()
        return [Claim(*row) for row in cursor.fetchall()]


def drop_claims(reservation_ids: Sequence[uuid.UUID]) -> None:
    """Drop claims whose reservations weren't made. If this fails, the claims end by themselves."""
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute(_without_disk_wait(DROP), {"ids": list(reservation_ids)})


def _lock_id(network: str) -> int:
    lock: int = pglock.advisory(f"holds of address {network}").int_lock_id
    return lock


def _without_disk_wait(statements: str) -> str:
    """The statements; alone in their transaction, they don't wait for the disk."""
    return statements if connection.in_atomic_block else statements + WITHOUT_DISK_WAIT


def _limit_text(alive: int, most: int) -> str:
    if not alive:
        return (
            f"At most {counted(most, 'unit')} can be reserved from one internet connection at "
            "a time."
        )
    return (
        f"{counted(alive, 'unit is', 'units are')} reserved from your internet connection "
        f"already, and at most {most} can be at a time. Other people may share it with you. Buy or "
        "remove some, or try again in a few minutes."
    )


def _take_back_lapsed(network: str) -> None:
    """Take back the lapsed holds of each product of which the network has one."""
    of_network = HoldAddress.objects.filter(network=network).values("reservation_id")
    lapsed = Reservation.objects.lapsed().filter(pk__in=of_network).order_by("product_id")
    for product_id in lapsed.values_list("product_id", flat=True).distinct():
        reservations.expire_lapsed(product_id)


def delete_ended_addresses() -> int:
    """Delete the addresses of ended holds, and of claims that came to nothing; return how many.

    Addresses are personal data: they are kept only as long as they count.
    """
    reservation = Reservation.objects.filter(pk=OuterRef("reservation_id"))
    ended = HoldAddress.objects.filter(
        Exists(reservation.exclude(status=Reservation.Status.HELD))
    ).delete()
    given_up = HoldAddress.objects.filter(
        ~Exists(reservation), claimed_at__lt=Now() - CLAIM_LASTS
    ).delete()
    return ended[0] + given_up[0]
