"""The speed of the shop's pages, and of reserving on them by each strategy.

The rounds, the measurements and the report are those of ``inventory.experiments.benchmark``. Here
are the requests of a buyer (``rows``), and the connection for them (``client``).
"""
