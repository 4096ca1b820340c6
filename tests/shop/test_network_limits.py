"""The limit of units that one network address may hold, with however many cookies."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.db.models.functions import Now
from django.test import Client

from inventory import reservations, strategies
from inventory.exceptions import ReservationEnded
from inventory.models import Product, Reservation
from inventory.races import RaceFound, Run, explore
from shop import basket, money, network_limits, tasks
from shop.models import HoldAddress
from shop.waiting_rooms import ProductBusy
from tests.concurrency import at_once, lapse, of_kind, wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve
from tests.shop.orders import steps
from tests.shop.test_basket import error

pytestmark = pytest.mark.django_db
commits = pytest.mark.django_db(transaction=True)

SAFE = [each.slug for each in strategies.all_strategies() if each.is_safe]
UNLIKE = ["combined", "conditional_update"]  # one answers many at once, the others one each
HOME, OFFICE = "203.0.113.7", "198.51.100.20"
_buyers = itertools.count(1)


def take(product: Product, units: int = 1, *, address: str = HOME, **keys: Any) -> Reservation:
    """Reserve as a buyer with a new cookie."""
    new = {"buyer": f"buyer {next(_buyers)}", "key": uuid.uuid4()}
    return basket.reserve(product, units, address=address, **{**new, **keys})


def held(product: Product) -> int:
    return Reservation.objects.alive().filter(product=product).units()


@pytest.fixture(autouse=True)
def limit(settings: Any) -> int:
    """The limit of units per address; one buyer may hold more."""
    settings.MOST_UNITS_PER_ADDRESS, settings.MOST_UNITS_PER_BUYER = 10, 30
    return 10


# The limit


def test_a_new_cookie_each_time_gets_no_more_than_the_limit(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(100)
    answers = [reserve(product, 3, by=Client()) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [302] * 3 + [409] * 2
    assert error(answers[-1]) == (
        "9 units are reserved from your internet connection already, and at most 10 can be at a "
        "time. Other people may share it with you. Buy or remove some, or try again in a few "
        "minutes."
    )
    assert held(product) == 9
    assert reserve(product, 1, by=Client()).status_code == 302  # exactly the limit


def test_more_than_the_limit_at_once_has_an_error(make_product: MakeProduct) -> None:
    product = make_product(100)
    with pytest.raises(basket.BasketError, match=r"^At most 10 units can be reserved from one"):
        take(product, 11)
    take(product, 10)


def test_products_count_together(make_product: MakeProduct) -> None:
    take(make_product(100), 6)
    with pytest.raises(basket.BasketError, match=r"^6 units are reserved from"):
        take(make_product(100), 5)


def test_more_units_of_a_line_in_the_basket_count_too(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(100)
    reserve(product, 8)
    form = {"quantity": 11, "seen": 8, "key": uuid.uuid4()}
    hold = Reservation.objects.get()
    response = client.post(f"/basket/holds/{hold.pk}/", form)
    assert error(response).startswith("8 units are reserved from your internet connection")
    assert held(product) == 8


def test_addresses_do_not_disturb_each_other(make_product: MakeProduct) -> None:
    product = make_product(100)
    take(product, 10, address=HOME)
    take(product, 10, address=OFFICE)
    assert held(product) == 20


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),  # one /64
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),  # IPv4 as an IPv6 socket shows it
    ],
)
def test_the_parts_of_addresses_that_count_as_one(
    make_product: MakeProduct, reserve: Reserve, one: str, other: str, are_one: bool
) -> None:
    product = make_product(100)
    assert reserve(product, 10, by=Client(REMOTE_ADDR=one)).status_code == 302
    answer = reserve(product, 10, by=Client(REMOTE_ADDR=other))
    assert answer.status_code == (409 if are_one else 302)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("ffff:ffff:ffff:ffff::1", "ffff:ffff:ffff:ffff::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_limits.network_of(address) == network
    HoldAddress(reservation_id=uuid.uuid4(), network=network, quantity=1).clean_fields()


def test_behind_a_proxy_the_customers_address_counts(
    make_product: MakeProduct, reserve: Reserve, settings: Any
) -> None:
    settings.PROXIES = 1
    product = make_product(100)

    def behind(forwarded: str) -> Client:
        return Client(headers={"x-forwarded-for": forwarded})

    assert reserve(product, 10, by=behind(HOME)).status_code == 302
    assert reserve(product, 1, by=behind(f"6.6.6.6, {HOME}")).status_code == 409  # made up
    assert reserve(product, 10, by=behind(OFFICE)).status_code == 302


def test_without_a_limit_no_address_is_kept(make_product: MakeProduct, settings: Any) -> None:
    settings.MOST_UNITS_PER_ADDRESS = None
    product = make_product(100)
    for _ in range(3):
        take(product, 10)
    assert held(product) == 30
    assert not HoldAddress.objects.exists()


# Units that count


def lapsed(hold: Reservation) -> None:
    lapse(hold)


def taken_back(hold: Reservation) -> None:
    lapse(hold)
    reservations.expire_lapsed()


def released(hold: Reservation) -> None:
    reservations.release(hold.pk)


def sold(hold: Reservation) -> None:
    reservations.confirm(hold.pk)


@pytest.mark.parametrize("end", [lapsed, taken_back, released, sold])
def test_ended_holds_do_not_count(
    make_product: MakeProduct, end: Callable[[Reservation], None]
) -> None:
    product = make_product(100)
    hold = take(product, 10)
    with pytest.raises(basket.BasketError):
        take(product, 1)
    end(hold)
    take(product, 10)
    assert held(product) == 10


def test_released_units_of_a_hold_do_not_count(make_product: MakeProduct) -> None:
    product = make_product(100)
    reservations.shrink(take(product, 10).pk, 4)
    take(product, 4)
    with pytest.raises(basket.BasketError, match=r"^10 units"):
        take(product, 1)


def test_holds_in_an_unpaid_order_count(make_product: MakeProduct) -> None:
    product = make_product(100)
    steps.order_holds([take(product, 10, buyer="A")], buyer="A")
    with pytest.raises(basket.BasketError, match=r"^10 units"):
        take(product, 1)


def test_a_lapsed_hold_can_not_be_prolonged_on_top_of_the_limit(
    make_product: MakeProduct,
) -> None:
    """A checkout prolongs a lapsed hold unless it was taken back: here it was."""
    product = make_product(100)
    hold = lapse(take(product, 10))
    take(product, 10)
    with pytest.raises(ReservationEnded):
        reservations.prolong([hold.pk], hold_for=timedelta(hours=1), at_most=timedelta(hours=2))
    assert held(product) == 10


def test_a_refusal_for_another_reason_leaves_nothing_behind(make_product: MakeProduct) -> None:
    with pytest.raises(basket.BasketError, match="sold out"):
        take(make_product(0), 10)
    assert not HoldAddress.objects.exists()
    take(make_product(10), 10)


def test_the_same_form_again_counts_once_also_at_the_limit(make_product: MakeProduct) -> None:
    product, again = make_product(100), partial(take, buyer="A", key=uuid.uuid4())
    hold = again(product, 10)
    assert again(product, 10) == hold
    assert HoldAddress.objects.count() == 1


def test_the_same_form_again_gets_the_hold_that_the_first_one_made_meanwhile(
    make_product: MakeProduct,
) -> None:
    """The second request looks before the first one is done, and claims after it."""
    product, form = make_product(100), {"buyer": "A", "idempotency_key": "A's"}
    first = network_limits.reserve(product, 10, address=HOME, **form)
    assert network_limits.reserve(product, 10, address=HOME, **form) == first
    assert held(product) == 10


@commits
def test_a_form_that_reserves_nothing_leaves_no_claim_behind(
    make_product: MakeProduct,
    client: Client,
    reserve: Reserve,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    """Its units are claimed in the round trip that reads the product and the buyer's holds."""
    product, key = make_product(100), uuid.uuid4()
    assert reserve(product, 2, key=key).status_code == 302
    kept = HoldAddress.objects.get().pk
    assert reserve(product, 2, key=key).status_code == 302  # sent twice
    assert reserve(make_product(100), 2, key=key).status_code == 409  # for something else
    assert reserve(Product(slug="nothing")).status_code == 404
    settings.MOST_HOLDS_PER_BUYER = 1
    assert "basket is full" in error(reserve(product))
    settings.MOST_HOLDS_PER_BUYER = 20
    monkeypatch.setattr(money, "MOST_TOTAL", 50)
    assert "can come to" in error(reserve(product, 1))

    def refuse(*args: object) -> None:
        raise ProductBusy(product.name)

    monkeypatch.undo()
    monkeypatch.setattr("shop.basket.slot_for", refuse)
    assert reserve(product).status_code == 503
    assert [each.pk for each in HoldAddress.objects.all()] == [kept]


# At once


@commits
@pytest.mark.parametrize(
    "strategy",
    [pytest.param(slug, marks=[] if slug in UNLIKE else pytest.mark.thorough) for slug in SAFE],
)
def test_forty_cookies_at_once_fill_the_limit_exactly(
    make_product: MakeProduct, reserve: Reserve, strategy: str
) -> None:
    product = make_product(1000, strategy=strategy)
    answers = at_once([lambda: reserve(product, 1, by=Client())] * 40)
    assert sorted(answer.status_code for answer in answers) == [302] * 10 + [409] * 30
    assert held(product) == 10


@commits
def test_an_address_never_holds_more_even_for_an_instant(make_product: MakeProduct) -> None:
    """Not even between a reservation and a release."""
    product = make_product(1000)
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(Reservation.objects.held().units())

    def hoard() -> None:
        try:
            for _ in range(5):
                hold = take(product, 4)
                reservations.release(hold.pk)
        except basket.BasketError:
            pass

    watcher = threading.Thread(target=at_once, args=[[watch]])
    watcher.start()
    at_once([hoard] * 20)
    done.set()
    watcher.join()
    assert max(seen) <= 10


@commits
def test_two_addresses_at_once_each_fill_their_own(make_product: MakeProduct) -> None:
    product = make_product(1000)
    calls = [partial(take, product, 1, address=each) for each in (HOME, OFFICE)] * 15
    assert len(of_kind(at_once(calls), Reservation)) == 20
    by_network = HoldAddress.objects.values_list("network").annotate(Sum("quantity"))
    assert dict(by_network) == {HOME: 10, OFFICE: 10}


@commits
def test_claims_of_one_address_wait_for_each_other(make_product: MakeProduct) -> None:
    """Else both would count before either of them has written."""
    product = make_product(100)
    with transaction.atomic():
        network_limits.reserve(product, 10, address=HOME, buyer="A", idempotency_key="A's")
        second = in_a_thread(partial(take, make_product(0), 1))
        wait_until_somebody_waits_for_a_lock()
        take(product, 10, address=OFFICE)  # another address doesn't wait
    assert str(second.result()).startswith("10 units are reserved from")


@commits
def test_no_buyer_fails_because_of_a_claim_that_comes_to_nothing(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has claimed units, and waits for the product's row; it will be refused."""
    monkeypatch.setattr(network_limits, "PAUSES", [0.01] * 1000)
    waits = noted_when_a_claim_is_in_the_way(monkeypatch)
    scarce, plenty = (make_product(8, strategy="single_statement") for _ in range(2))
    with transaction.atomic():
        reservations.reserve(scarce, 8, buyer="somebody quicker")
        first = in_a_thread(partial(take, scarce, 8))
        wait_until_somebody_waits_for_a_lock()
        second = in_a_thread(partial(take, plenty, 8))
        assert waits.wait(timeout=20)
    assert isinstance(first.result(), basket.BasketError)
    assert isinstance(second.result(), Reservation)


@commits
def test_a_buyer_who_waits_too_long_for_a_claim_is_asked_to_try_again(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_limits, "PAUSES", [0.01])
    product = make_product(100)
    claim(8)
    with pytest.raises(basket.BasketError, match=r"^Others are reserving from your internet"):
        take(product, 8)
    take(product, 2)
    assert product.reservations.units() == 2


def in_a_thread(call: Callable[[], Any]) -> Future[Any]:
    """Start the call on a connection of its own; the result is its value or its error."""
    pool = ThreadPoolExecutor(1)
    started = pool.submit(lambda: at_once([call])[0])
    pool.shutdown(wait=False)
    return started


def noted_when_a_claim_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    noted, try_to_claim = threading.Event(), network_limits._try_to_claim

    def note(*arguments: Any) -> network_limits.Claim:
        claim = try_to_claim(*arguments)
        if not claim.is_granted:
            noted.set()
        return claim

    monkeypatch.setattr(network_limits, "_try_to_claim", note)
    return noted


def two_at_the_limit(make_product: MakeProduct) -> Any:
    """Explore two buyers of one address, whose limit is enough for one of them."""
    product = make_product(100, strategy="single_statement")

    def setup() -> None:
        HoldAddress.objects.all().delete()
        Reservation.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=100, version=1)

    def one_of_two(run: Run) -> None:
        assert Reservation.objects.held().units() == 6
        [refused] = run.raised.values()
        assert isinstance(refused, basket.BasketError), repr(refused)

    def six(buyer: str) -> Reservation:
        return take(product, 6, buyer=buyer, key=uuid.UUID(int=1))

    return explore(
        [lambda: six("A"), lambda: six("B")],
        setup=setup,
        invariant=one_of_two,
        max_preemptions=2,
        serial=False,
    )


@commits
def test_two_buyers_at_the_limit_in_every_order(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_limits, "PAUSES", [0, 0])
    two_at_the_limit(make_product).assert_holds()


@commits
def test_two_buyers_get_past_the_limit_if_claims_do_not_count(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless = network_limits.CLAIM.replace("lapsed + claimed, 0)", "lapsed, 0)")
    monkeypatch.setattr(network_limits, "CLAIM", careless)
    with pytest.raises(RaceFound):
        two_at_the_limit(make_product).assert_holds()


@commits
def test_only_claims_do_not_wait_for_the_disk(make_product: MakeProduct) -> None:
    """Later statements do wait, and so does a transaction that makes a claim."""
    product = make_product(100)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")  # in the test database it is off
    take(product)
    assert synchronous_commit() == "on"
    with transaction.atomic():
        claim(1)
        assert synchronous_commit() == "on"


def synchronous_commit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        value: str = cursor.fetchone()[0]
        return value


# After a crash, and after the end of holds


def claim(units: int) -> uuid.UUID:
    """A claim that a crashed request leaves behind."""
    reservation_id = uuid.uuid4()
    network_limits._claim(reservation_id, HOME, units, 10)
    return reservation_id


def let_pass(reservation_id: uuid.UUID, time: timedelta) -> None:
    HoldAddress.objects.filter(pk=reservation_id).update(claimed_at=Now() - time)


def test_claims_of_a_crashed_request_count_for_two_minutes(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_limits, "PAUSES", [])
    product, left = make_product(100), claim(10)
    let_pass(left, network_limits.CLAIM_LASTS - timedelta(seconds=30))
    with pytest.raises(basket.BasketError):
        take(product, 10)
    let_pass(left, network_limits.CLAIM_LASTS)
    take(product, 10)


def test_addresses_are_kept_only_as_long_as_they_count(make_product: MakeProduct) -> None:
    product = make_product(100)
    kept = take(product)
    for end in (taken_back, released, sold):
        end(take(product))
    let_pass(claim(1), network_limits.CLAIM_LASTS)
    waiting = claim(1)
    tasks.delete_ended_addresses(0)
    assert set(HoldAddress.objects.values_list("pk", flat=True)) == {kept.pk, waiting}


@pytest.mark.parametrize("way", ["released", "taken back", "sold"])
def test_without_a_worker_each_claim_deletes_the_addresses_that_count_no_more(
    make_product: MakeProduct, way: str
) -> None:
    product = make_product(1000)
    kept = take(product, 3, address=OFFICE)
    for _ in range(8):
        hold = take(product, 1)
        if way == "sold":
            reservations.confirm(hold.pk)
        elif way == "released":
            reservations.release(hold.pk)
        else:
            reservations.expire([lapse(hold).pk])
        assert HoldAddress.objects.filter(network=HOME).count() == 1
    HoldAddress.objects.filter(network=HOME).delete()
    HoldAddress.objects.create(reservation_id=uuid.uuid4(), network=HOME, quantity=9)
    HoldAddress.objects.update(claimed_at=Now() - network_limits.CLAIM_LASTS * 2)  # a crash
    last = take(product, 4)
    # Another address's row, as old as it is, stays: its hold is alive.
    assert set(HoldAddress.objects.values_list("pk", flat=True)) == {kept.pk, last.pk}


def test_a_claim_deletes_only_some_addresses_and_waits_for_nobody(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_limits, "DELETE_AT_ONCE", 2)
    product = make_product(1000)
    for hold in [take(product, 1) for _ in range(6)]:
        reservations.release(hold.pk)
    left = []
    for _ in range(4):
        take(product, 1)
        left.append(HoldAddress.objects.count())
    assert left == [6 - 2 + 1, 4 - 2 + 2, 2 - 2 + 3, 4]


@commits
def test_a_claim_does_not_wait_for_somebody_who_deletes_the_same_addresses(
    make_product: MakeProduct,
) -> None:
    product = make_product(1000)
    reservations.release(take(product, 1).pk)
    with transaction.atomic():
        HoldAddress.objects.all().delete()
        assert isinstance(in_a_thread(partial(take, product, 1)).result(timeout=20), Reservation)


def test_only_the_lapsed_holds_of_the_address_are_taken_back_for_its_limit(
    make_product: MakeProduct,
) -> None:
    """Not all of the product: a million of others may be there."""
    product = make_product(1000)
    others = lapse(take(product, 5, address=OFFICE))
    own = [lapse(take(product, 5)) for _ in range(2)]
    take(product, 8)
    status = dict(Reservation.objects.values_list("pk", "status"))
    assert {status[hold.pk] for hold in own} == {"EXPIRED"}
    assert status[others.pk] == "HELD"


def test_reservations_that_ended_long_ago_are_deleted_all_the_same(
    make_product: MakeProduct,
) -> None:
    hold = take(make_product(100))
    released(hold)
    assert reservations.delete_ended(timedelta(0)) == 1
    network_limits.delete_ended_addresses()
    let_pass(hold.pk, network_limits.CLAIM_LASTS)
    network_limits.delete_ended_addresses()
    assert not HoldAddress.objects.exists()
