"""Experiments with the ways of taking stock: flash sales, benchmarks, races of the strategies.

Start reading at ``flash_sale`` (many buyers at once on little stock), ``benchmark`` (the speed of
each strategy) or ``strategy_races`` (every order of the buyers' statements). This is an app of its
own. A shop needs none of it to take stock.
"""
