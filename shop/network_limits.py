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

import functools
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Network, ip_address
from typing import Any

import pglock
from django.conf import settings
from django.db import Error, connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from inventory import reservations
from inventory.database import Question, ask, ask_together
from inventory.models import Product, Reservation
from inventory.words import counted
from shop.exceptions import LimitPerAddress
from shop.models import HoldAddress

PREFIX = 64  # bits of an IPv6 address: the least that a customer is given
CLAIM_LASTS = timedelta(seconds=50)  # longer than any request: an older claim was left by a crash
DELETE_AT_ONCE = 100  # addresses that a claim deletes at most; it adds one or a few
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds: most claims last for milliseconds

# Two statements in one round trip, and in one transaction: the second takes its snapshot after the
# first has got the locks. Lapsed holds count, too, since a checkout could still prolong them. The
# buyer reads the number of the live ones only. Of requests from one network, the earlier ones of
# the same batch count as granted.
# Addresses of ended holds, and of claims that came to nothing, never count again. Each claim
# deletes those that it comes upon, so that they don't get more and more where no worker deletes
# them. A worker may just be doing so: SKIP LOCKED, since two who delete the same rows could wait
# for each other in a circle.
CLAIM = """
    SELECT pg_advisory_xact_lock(id) FROM unnest(%(locks)s::bigint[]) AS id;
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ), asked AS MATERIALIZED (
        SELECT *, sum(quantity) OVER (PARTITION BY network ORDER BY place) AS together
        FROM unnest(%(ids)s::uuid[], %(networks)s::text[], %(quantities)s::int[])
            WITH ORDINALITY AS asked (id, network, quantity, place)
    ), held AS MATERIALIZED (
        SELECT address.reservation_id, address.network, address.claimed_at, hold.status,
            hold.expires_at, coalesce(hold.quantity, address.quantity) AS units
        FROM shop_holdaddress AS address
        LEFT JOIN LATERAL (
            SELECT * FROM inventory_reservation WHERE id = address.reservation_id
            LIMIT 1  -- so that PostgreSQL reads these few by their ids, and never all reservations
        ) AS hold ON true
        WHERE address.network = ANY(%(networks)s::text[])
    ), counted AS MATERIALIZED (
        SELECT network,
            coalesce(sum(units) FILTER (
                WHERE status = 'HELD' AND expires_at > clock.now
            ), 0)::int AS alive,
            coalesce(sum(units) FILTER (
                WHERE status = 'HELD' AND expires_at <= clock.now
            ), 0)::int AS lapsed,
            coalesce(sum(units) FILTER (
                WHERE status IS NULL AND claimed_at > clock.now - make_interval(secs => %(lasts)s)
            ), 0)::int AS claimed
        FROM clock, held GROUP BY network
    ), ended AS (
        DELETE FROM shop_holdaddress WHERE reservation_id = ANY(ARRAY(
            SELECT reservation_id FROM shop_holdaddress WHERE reservation_id = ANY(ARRAY(
                SELECT reservation_id FROM held, clock
                WHERE status <> 'HELD'
                    OR status IS NULL AND claimed_at < clock.now - make_interval(secs => %(lasts)s)
                LIMIT %(ended)s
            )) FOR UPDATE SKIP LOCKED
        ))
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
AT_MOST = """
    SELECT network, sum(quantity)::int FROM shop_holdaddress
    WHERE network = ANY(%(networks)s::text[]) GROUP BY network
"""
DROP = """
    DELETE FROM shop_holdaddress AS address
    WHERE reservation_id = ANY(%(ids)s::uuid[]) AND NOT EXISTS (
        SELECT FROM inventory_reservation WHERE id = address.reservation_id
    );
"""
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


@functools.lru_cache(maxsize=10_000)
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
    with begin(address, quantity) as (attempt, _):
        return attempt.reserve(product, buyer=buyer, idempotency_key=idempotency_key)


@contextmanager
def begin(
    address: str, quantity: int, *questions: Question[Any]
) -> Iterator[tuple[Attempt, list[Any]]]:
    """Begin to reserve: claim the units, and ask other questions first in the same round trip.

    Yields the attempt, for its ``reserve``, and the answers to the questions. A claim that came to
    nothing is dropped at the end of the block.
    """
    attempt = Attempt(quantity, network_of(address), settings.MOST_UNITS_PER_ADDRESS)
    answers = attempt.claim_and_ask(*questions)
    try:
        yield attempt, answers
    finally:
        if attempt.claim_is_left:
            drop_claims([attempt.reservation_id])


class Attempt:
    """An attempt to reserve units within the limit of a network; see ``begin``."""

    def __init__(self, quantity: int, network: str, most: int | None) -> None:
        self.reservation_id = uuid.uuid4()
        self.quantity = quantity
        self.network = network
        self.most = most
        self.claim: Claim | None = None
        """The outcome of the last claim; None without a limit."""
        self.has_reserved = False
        """Whether the claim has become a reservation."""

    @property
    def claim_is_left(self) -> bool:
        """Whether no hold was made of the claim: an earlier request's hold has its own."""
        return self.claim is not None and self.claim.is_granted and not self.has_reserved

    def claim_and_ask(self, *questions: Question[Any]) -> list[Any]:
        """Claim the units for the first time, after the questions; return their answers."""
        if self.most is None:
            return ask_together(*questions) if questions else []
        # Nobody has checked the number yet: it may be larger than PostgreSQL's integers.
        wanted = (self.reservation_id, self.network, min(self.quantity, self.most + 1))
        *answers, [self.claim] = ask_together(*questions, _question_of_claims([wanted], self.most))
        return answers

    def reserve(self, product: Product, *, buyer: str, idempotency_key: str) -> Reservation:
        """Reserve the units. Raises LimitPerAddress if others have claimed too many."""
        if self.claim and self.most is not None:
            try:
                self.claim = _claim(
                    self.reservation_id, self.network, self.quantity, self.most, self.claim
                )
            except LimitPerAddress:
                # A double click: its first request may have used the limit up.
                earlier = Reservation.objects.filter(idempotency_key=idempotency_key).first()
                if earlier is None or (earlier.product_id, earlier.buyer) != (product.pk, buyer):
                    raise
                return earlier
        hold = reservations.reserve(
            product,
            self.quantity,
            buyer=buyer,
            idempotency_key=idempotency_key,
            reservation_id=self.reservation_id,
        )
        self.has_reserved = hold.pk == self.reservation_id
        return hold


def _claim(
    reservation_id: uuid.UUID, network: str, quantity: int, most: int, claim: Claim | None = None
) -> Claim:
    """Claim these units for the network. ``claim`` was tried before. Raises LimitPerAddress."""
    pauses = iter(PAUSES)
    claim = claim or _try_to_claim(reservation_id, network, quantity, most)
    while not claim.is_granted:
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
        claim = _try_to_claim(reservation_id, network, quantity, most)
    return claim


def _try_to_claim(reservation_id: uuid.UUID, network: str, quantity: int, most: int) -> Claim:
    [claim] = try_to_claim([(reservation_id, network, quantity)], most)
    return claim


def try_to_claim(wanted: Sequence[tuple[uuid.UUID, str, int]], most: int) -> list[Claim]:
    """Claim units for each (new reservation's id, network, units), as far as ``most`` allows.

    ``most`` is the number of units that a network may hold. Returns the outcomes in this order.
    """
    return ask(_question_of_claims(wanted, most))


def _question_of_claims(
    wanted: Sequence[tuple[uuid.UUID, str, int]], most: int
) -> Question[list[Claim]]:
    """The statement of ``try_to_claim``, to be sent together with others, as the last of them."""
    networks = {network for _, network, _ in wanted}

    def read(cursor: CursorWrapper) -> list[Claim]:
        cursor.nextset()
        return [Claim(*row) for row in cursor.fetchall()]

    return Question(
        _without_disk_wait(CLAIM),
        {
            "locks": sorted(map(_lock_id, networks)),
            "ids": [reservation_id for reservation_id, _, _ in wanted],
            "networks": [network for _, network, _ in wanted],
            "quantities": [quantity for _, _, quantity in wanted],
            "most": most,
            "lasts": CLAIM_LASTS.total_seconds(),
            "ended": DELETE_AT_ONCE,
        },
        read,
    )


def drop_claims(reservation_ids: Sequence[uuid.UUID]) -> None:
    """Drop those claims whose reservations weren't made, and none will be.

    If this fails, the claims end by themselves.
    """
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute(_without_disk_wait(DROP), {"ids": list(reservation_ids)})


def units_at_most(networks: Collection[str]) -> dict[str, int]:
    """The units of each network, or more: those of ended holds count until a claim deletes them.

    It locks nothing, and waits for nobody. A network without units is left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(AT_MOST, {"networks": list(networks)})
        return dict(cursor.fetchall())


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
    """Take back the network's lapsed holds; they are no more than it may hold."""
    of_network = HoldAddress.objects.filter(network=network)
    reservations.expire(of_network.values_list("reservation_id", flat=True))


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
