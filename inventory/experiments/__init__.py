"""Experiments with the ways of taking stock: flash sales, benchmarks, races of the strategies.

Where to start reading: ``flash_sale`` (many buyers at once on little stock), ``benchmark`` (how
fast each strategy is), ``strategy_races`` (every order of the buyers' statements). An app of its
own: a shop takes stock without it.
"""
