"""Limited stock that can't be oversold: products, reservations, and the law that holds for them.

    received = available + held + sold

Where to start reading: ``reservations`` (reserve, confirm, release, expire, return), ``stock``
(receive, remove, repair), ``strategies`` (the ways of taking stock), ``monitor`` (the law,
checked). The app imports nothing from the project around it.
"""
