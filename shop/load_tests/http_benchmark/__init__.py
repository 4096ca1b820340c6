"""How fast the shop's pages are, and reserving on them by each strategy.

The rounds, the figures and the report are those of ``inventory.experiments.benchmark``; here is
what a buyer does over HTTP (``rows``), and the connection for it (``client``).
"""
