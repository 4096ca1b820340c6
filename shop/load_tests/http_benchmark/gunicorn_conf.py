"""The shop's gunicorn settings, with the benchmark's ceiling as one more strategy."""

from shop.gunicorn_conf import *  # noqa: F403

loglevel = "warning"  # the command's own output is enough


def post_worker_init(worker: object) -> None:
    """Add the ceiling. gunicorn calls this in each worker, once the shop is loaded."""
    from django.conf import settings

    from inventory import conf

    ceiling = "inventory.experiments.benchmark.rows.InsertOnly"
    settings.INVENTORY_STRATEGIES = [*conf.strategies(), ceiling]
