"""What the shop says of itself to programs, with each answer of ``/healthz``: nothing of Django."""

HEADER = "Shop-Kind"
DEMO = "demo"
"""A shop that is there to be tried out (the setting DEMO): programs may buy in it."""
LIVE = "live"
