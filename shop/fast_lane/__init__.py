"""The fast lane: answers the three requests of a rush before Django sees them.

These are the form to reserve, a product's page, and the part of it that an open page asks for
again (``lane``). It answers only what it is sure of. All else goes on to Django, untouched. So no
rule stands twice, and nothing that the shop does depends on the lane:

- ``sure``: the request is read by Django's own classes, and checked by its own middleware.
- ``pages``: Django makes each page for a visitor without anything, twice a second at most. The
  lane fills in what is the visitor's own.
- ``reserving``: all who wait for a product are served together, by the strategy ``combined``.
- ``batches``: an event loop has no threads to wake. Those who wait in a process are one list.
"""

from shop.fast_lane.lane import FastLane
from shop.fast_lane.pages import Answer

__all__ = ["Answer", "FastLane"]
