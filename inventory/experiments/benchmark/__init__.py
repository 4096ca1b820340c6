"""How fast the strategies are, against ceilings measured beside them in the same rounds.

Where to start reading: ``run`` (the rounds), then ``rows`` (what is measured), ``shapes`` (on
which products), ``buyers`` (by whom), ``report`` and ``picture`` (what is shown).
"""
