"""The speed of the strategies, compared with ceilings that are measured in the same rounds.

Start reading at ``run`` (the rounds). Then come ``rows`` (the strategies and ceilings), ``shapes``
(the products), ``buyers``, and ``report`` and ``picture`` (the results).
"""
