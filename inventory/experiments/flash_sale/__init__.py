"""Many real buyers at the same instant on little stock, once per strategy.

Start reading at ``sale.run``. Then come ``buyers`` (the processes that buy) and ``report`` (the
results for people and programs).
"""
