"""A flash sale over HTTP: buyers who come as browsers do, from the product's page to the bank.

Start reading at ``sale.run``, a sale with every strategy on a database of its own. ``outside`` does
the same on a shop that is served already. ``buyers`` starts Locust, and
``shop/load_tests/locustfile.py`` has the steps of each buyer. That file runs in Locust's processes
and never in Django's: Locust patches Python's sockets and threads.
"""
