"""The machines: PostgreSQL, the web server, the worker, the bank and the mail server."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from shop.load_tests.serving import ServedShop, is_served
from tests.stripe_standin.remote import StandinProcess
from tests.tools.fault_drill.disk import Disk
from tests.tools.fault_drill.kept import Kept
from tests.tools.fault_drill.mail import MailServer
from tests.tools.fault_drill.postgres import DrilledPostgres
from tests.tools.fault_drill.waiting import wait_until

MANAGER = "manager@shop.example.org"
SECONDS_TO_COME_UP = 60.0
VARIABLES = {
    "PAYMENT_PROVIDER": "stripe",
    "WEB_CONCURRENCY": "2",
    "WEB_THREADS": "4",
    "HTTPS": "false",
    "ALLOWED_HOSTS": "127.0.0.1",
    "MANAGERS": MANAGER,
    "DEFAULT_FROM_EMAIL": "orders@shop.example.org",
    # So long that no hold lapses: each refusal and each hold can be told right from wrong.
    "HOLD_MINUTES": "1440",
    "HOLD_AT_MOST_MINUTES": "2880",
    "PAYMENT_MINUTES": "600",
    "PYTHONFAULTHANDLER": "1",  # see Machines.describe
}


class Machines:
    """All programs, and the faults that they have now."""

    def __init__(
        self,
        *,
        postgres: DrilledPostgres,
        disk: Disk,
        standin: StandinProcess,
        mail: MailServer,
        shop: ServedShop,
        log: Path,
    ) -> None:
        self.postgres = postgres
        self.disk = disk
        self.standin = standin
        self.mail = mail
        self.shop = shop
        self.log = log
        """Written by the web server and the worker."""
        self.web_variables: Mapping[str, str] = {}
        """Of the web server from its next start on, such as another clock."""
        self.web = Kept("web", lambda: shop.begin_web(self.web_variables))
        self.worker = Kept("worker", shop.start_worker)

    def web_processes(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        with suppress(psutil.NoSuchProcess):
            return self.web.process.children()
        return []

    def is_up(self) -> bool:
        """Whether all programs run, and the shop can serve customers."""
        return (
            self.postgres.kept.is_running()
            and self.web.is_running()
            and self.worker.is_running()
            and is_served(self.shop.url)
        )

    def describe(self, directory: Path) -> None:
        """Write into the logs what all programs and the database are doing; end the programs."""
        lines = []
        with suppress(psycopg.Error), self.postgres.connect() as connection:
            for table in ("pg_stat_activity", "procrastinate_jobs", "procrastinate_workers"):
                rows = connection.execute(f"SELECT * FROM {table}")
                lines += [table, str([column.name for column in rows.description])]
                lines += map(str, rows.fetchall())
        (directory / "database.txt").write_text("\n".join(lines))
        for process in [*self.web_processes(), psutil.Process(self.worker.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGABRT)  # it prints where each thread is
        time.sleep(1)

    def wait_until_up(self) -> float:
        """Wait until all is up; return the seconds that it took. Raises TimeoutError."""
        return wait_until(self.is_up, "all programs are up", SECONDS_TO_COME_UP)


@contextmanager
def begun_postgres(disk: Disk, logs: Path) -> Iterator[DrilledPostgres]:
    """The server with the shop's database, which has no tables yet."""
    postgres = DrilledPostgres(disk.directory / "postgres", logs / "postgres.log")
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()


@contextmanager
def begun_machines(postgres: DrilledPostgres, disk: Disk, logs: Path) -> Iterator[Machines]:
    """Everything else, on the database of our own connection; all ends with the block."""
    with ExitStack() as ends:
        standin = ends.enter_context(StandinProcess())
        mail = MailServer()
        mail.start()
        ends.callback(mail.stop)
        variables = {
            **VARIABLES,
            "DATABASE_URL": postgres.url,
            "EMAIL_URL": mail.url,
            "STRIPE_SECRET_KEY": standin.secret_key,
            "STRIPE_WEBHOOK_SECRET": standin.webhook_secret,
            "STRIPE_API_BASE": standin.url,
        }
        log = logs / "shop.log"
        shop = ServedShop(variables, log=ends.enter_context(log.open("ab")))
        standin.webhooks.set_url(f"{shop.url}/payments/stripe/events/")
        standin.webhooks.start_courier(0.2)
        machines = Machines(
            postgres=postgres, disk=disk, standin=standin, mail=mail, shop=shop, log=log
        )
        for program in (machines.web, machines.worker):
            program.start()
            ends.callback(program.stop)
        machines.wait_until_up()
        yield machines
