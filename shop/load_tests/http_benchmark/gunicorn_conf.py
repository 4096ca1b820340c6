"""gunicorn as it serves the shop, with the benchmark's ceiling as one more strategy."""

from shop.gunicorn_conf import *  # noqa: F403

loglevel = "warning"  # the command's own output is enough


def post_worker_init(worker: object) -> None:
    """Called by gunicorn in each worker, once the shop is loaded."""
    from inventory import strategies
    from inventory.experiments.benchmark.rows import InsertOnly

    strategies.register(InsertOnly)
