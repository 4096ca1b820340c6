from django.db import connection, transaction

from tickets.models import Log


class Payment:
    def __init__(self, booking):
        self.booking = booking

    def charge(self):
        wallet = self.booking.user.wallet
        wallet.cents -= 100
        wallet.save()
        self._note()

    def _note(self):
        from tickets.models import Log as Notes

        Notes.objects.create(text="paid")


def take_a_seat(pk):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tickets_concert SET seats = seats - 1 WHERE id = %s", [pk])


def save_somehow(thing):
    thing.save()


def later(pk):
    transaction.on_commit(lambda: Log.objects.create(text=f"{pk}"))
