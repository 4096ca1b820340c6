"""A shop of the drill's own is hit by faults while people buy in it. It must be right all the time.

- ``drill``: the rounds: buyers come, faults begin and are healed, everything is compared
- ``machines``: the programs, as in production; ``kept`` starts them again; ``postgres``, ``disk``
  and ``mail`` are parts of them
- ``faults``: a class for each kind of fault
- ``catalogue``: the products
- ``buyers``: they buy over HTTP, and keep a list of all that the shop has told them
- ``unfinished``: everything that is still under way; ``books``: everything that must be true then
- ``logs``: the errors that programs may log
- ``report``: the figures
"""
