"""How gunicorn serves the shop: ``gunicorn -c python:shop.gunicorn_conf shop.wsgi``.

Each thread keeps a connection to the database: workers × threads of them, per machine.
"""

import os

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "8"))

timeout = 30  # seconds without a sign of life, then a worker is replaced
graceful_timeout = 20  # seconds that requests under way have when the shop is told to end
keepalive = 5  # seconds; more than the pause between two clicks needs a proxy in front
control_socket_disable = True  # one per user: two shops on a machine would share it

accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s bytes %(M)s ms'
