"""A flash sale over HTTP: buyers who come as browsers do, from the product's page to the bank.

Where to start reading: ``sale`` (``run``: a sale with every strategy, on a database of its own),
``outside`` (the same on a shop that somebody else serves), ``buyers`` (how Locust sends them).
``shop/load_tests/locustfile.py`` says what each buyer does. It runs in Locust's processes and
never in Django's: Locust patches Python's sockets and threads.
"""
