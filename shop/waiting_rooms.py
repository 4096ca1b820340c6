"""A limit on the threads of this process that wait for one product: never all of them.

A row that stays locked stops every request for its product. Without a limit, such requests would
soon occupy all threads, and stop the rest of the shop. In a healthy rush nobody notices the limit:
a request without a slot waits at the door for a few milliseconds, until another is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings

from inventory.models import Product
from shop.database_errors import is_timeout

THREADS_FOR_OTHERS = 2
SECONDS_WITHOUT_PROGRESS = 2.0  # at the door, while no request inside gets done


class ProductBusy(Exception):
    """Too many requests wait for the product, and none gets done. Nothing was changed."""

    def __init__(self, product_name: str) -> None:
        self.product_name = product_name
        super().__init__(f"Too many requests wait for {product_name or 'a product'} already.")


class Room:
    """The requests for one product."""

    def __init__(self) -> None:
        self.inside = 0
        self.at_the_door = 0
        self.done = 0
        """How many requests have ended, well or not."""
        self.is_stuck = False
        """Whether the last request that had to wait, inside or at the door, waited in vain."""


class WaitingRooms:
    """The rooms of one process, by product."""

    def __init__(self, slots: int) -> None:
        """Each room takes as many requests at a time as there are ``slots``."""
        self.slots = max(1, slots)
        self._rooms: dict[int, Room] = {}
        self._changed = threading.Condition()  # guards all of the above

    @contextmanager
    def enter(self, product_id: int, name: str = "") -> Iterator[None]:
        """Take a slot in the product's room for the length of the block.

        Raises ProductBusy if no slot is free: at once if the product is known to be stuck, else
        when no request inside has got done for a while. While the product is stuck, one request
        at a time is let in: it finds out whether that is still so.
        """
        with self._changed:
            room = self._rooms.setdefault(product_id, Room())
            self._wait_for_slot(room, name)
            room.inside += 1
        in_vain = False
        try:
            yield
        except Exception as error:
            in_vain = is_timeout(error)
            raise
        finally:
            with self._changed:
                room.inside -= 1
                room.done += 1
                room.is_stuck = in_vain
                if not (room.inside or room.at_the_door or room.is_stuck):
                    self._rooms.pop(product_id, None)
                self._changed.notify_all()

    def _wait_for_slot(self, room: Room, name: str) -> None:
        room.at_the_door += 1
        try:
            while not self._has_slot(room):
                done = room.done
                if room.is_stuck:
                    raise ProductBusy(name)
                self._changed.wait_for(
                    lambda: self._has_slot(room) or room.is_stuck, SECONDS_WITHOUT_PROGRESS
                )
                if not self._has_slot(room) and room.done == done:
                    room.is_stuck = True
                    raise ProductBusy(name)
        finally:
            room.at_the_door -= 1

    def _has_slot(self, room: Room) -> bool:
        return room.inside < (1 if room.is_stuck else self.slots)


_rooms = WaitingRooms(settings.WEB_THREADS - THREADS_FOR_OTHERS)


@contextmanager
def slot_for(*products: Product) -> Iterator[None]:
    """Take a slot in the room of each of these products. Raises ProductBusy."""
    with ExitStack() as slots:
        for product_id, name in sorted({(product.pk, product.name) for product in products}):
            slots.enter_context(_rooms.enter(product_id, name))
        yield
