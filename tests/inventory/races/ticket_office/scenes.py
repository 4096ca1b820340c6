"""Functions for --setup and --invariant. None of them clears anything: the command does that."""

from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.db import connection, transaction
from extras.models import Extra
from tickets.models import Booking, Concert, Wallet


def one_seat():
    Concert.objects.create(pk=1, name="Goldberg Variations", seats=1)


def one_seat_and_an_extra():
    one_seat()
    Extra.objects.create(text="a glass of wine")


def one_booking():
    concert = Concert.objects.create(name="Goldberg Variations", seats=2)
    ann = User.objects.create(username="ann")
    User.objects.create(username="bob")
    Wallet.objects.create(user=ann, cents=500)
    booking = Booking.objects.create(concert=concert, user=ann, email="ann@tickets.example")
    cache.set("something", 1)
    return {"booking": booking.pk}


def one_session():
    session = SessionStore()
    session.create()
    return {"session": session.session_key, "name": "baroque"}


def guarded_wallet():
    """Nobody may add or delete a wallet any more: bringing rows back must not be noticed."""
    values = one_booking()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''no wallets''; END';"
            "CREATE TRIGGER refuse BEFORE INSERT OR DELETE ON tickets_wallet "
            "FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    return values


def at_most_one_booking(run):
    return Booking.objects.count() <= 1


def each_charge_counts():
    cents = Wallet.objects.get().cents
    assert cents == 300, f"500 - 2 * 100 cents are {cents}"


def noted():
    """Holds; a file beside the project grows with each schedule."""
    with open("judged", "a") as file:
        file.write(".")


def wrong_invariant(run):
    return run.nothing


def wrong_setup():
    Concert.objects.create(title="?")


def without_table():
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM kept_by_hand")


def left_open():
    transaction.set_autocommit(False)
    one_seat()


def elsewhere():
    Concert.objects.using("other").count()


def takes_two(one, other):
    pass


number = 3
