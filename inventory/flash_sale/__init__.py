"""Many real buyers at the same instant on little stock, once per strategy.

Where to start reading: ``sale`` (``run``), then ``buyers`` (the processes and threads) and
``report`` (what is told about it). Nothing is imported here: a buyer process must be able to
import this package before Django is set up.
"""
