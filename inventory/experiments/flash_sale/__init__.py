"""Many real buyers at the same instant on little stock, once per strategy.

Where to start reading: ``sale`` (``run``), then ``buyers`` (what each of them does) and
``report`` (what is told about it).
"""
