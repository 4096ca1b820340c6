"""The header of ``/healthz`` that tells programs whether this shop is a demo.

Nothing of Django is imported here: Locust reads it, too.
"""

HEADER = "Shop-Kind"
DEMO = "demo"
"""A shop that is there to be tried out (the setting DEMO): programs may buy in it."""
LIVE = "live"
