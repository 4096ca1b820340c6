"""received = available + held + sold: the two numbers that say how it is broken."""

from __future__ import annotations


class Figures:
    """What was seen of a product's stock, in units; mixed into what holds the four figures."""

    received: int
    available: int
    held: int
    sold: int

    @property
    def oversold(self) -> int:
        """Units promised that do not exist."""
        return max(0, self.held + self.sold - self.received)

    @property
    def drift(self) -> int:
        """Not zero: an update was lost, or units leaked."""
        return self.available + self.held + self.sold - self.received
