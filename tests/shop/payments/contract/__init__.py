"""The contract test: every provider is run through all situations, each in several ways.

``situations`` has a class for each situation. ``ways`` has the ways in which its middle part is
gone through: plainly, with each answer of the provider lost, killed at each moment, twice at once.
``bench`` is the provider's own side, of which each provider needs one: its customers, its staff,
its books and its breakdowns. ``world`` is the shop's side, and the checks at the end.

``python -m tests.tools.contract_table`` prints how they all went.
"""
