"""The command demo: a shop with goods, a flash sale to watch, and the pages to look at."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from inventory.management import tables
from inventory.management.base import USAGE_ERROR, FoldingCommand
from inventory.words import counted
from shop.demo import catalogue, staff
from shop.load_tests import serving

LOG = "demo-{port}.log"  # in the checkout
ON_THE_TERMINAL = "-"
LINES_OF_LOG = 20  # printed when the shop ends by itself


class Command(FoldingCommand):
    help = (
        "Set the shop up with a small catalogue, run a flash sale with every strategy, and serve "
        "the shop on this machine, with a worker beside it. A second run changes nothing that "
        "exists already."
    )
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the shop (%(default)s)")
        parser.add_argument(
            "--no-serve",
            action="store_true",
            help="end after the flash sale, and don't serve the shop",
        )
        parser.add_argument(
            "--log",
            metavar="FILE",
            help="the file for the log of the web server and the worker "
            f'({LOG.format(port="PORT")} in the checkout); "-" for the terminal',
        )
        parser.add_argument(
            "--password",
            action="store_true",
            help="only set a new password for the staff user, and print it",
        )

    def handle(
        self, *, port: int, no_serve: bool, log: str | None, password: bool, **options: Any
    ) -> None:
        if password:
            self.renew_password()
            return
        if not no_serve:
            self.check_port(port)
        with contextlib.nullcontext() if no_serve else open_log(log, port) as log_file:
            staff_made = self.set_up()
            self.stdout.write("\nA flash sale, once per strategy:\n\n")
            call_command("flash_sale", stdout=self.stdout, stderr=self.stderr)
            if no_serve:
                self.say(("The shop", f"{manage_py()} demo"), *staff_lines(staff_made), MORE_SALES)
            else:
                sys.exit(self.serve(port, log_file, staff_made))

    def renew_password(self) -> None:
        tables.ensure(self.stderr.write, "shop")
        name, password = staff.renew_password()
        self.say(("Staff user", f"{name}, password {password}"))

    def check_port(self, port: int) -> None:
        """Raise CommandError before the flash sale, not after it, if the port can't be used."""
        if not 0 < port < 65536:
            raise CommandError(f"port: must be 1 to 65535, not {port}.", returncode=2)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(
                    f"port: {port} can't be used ({error.strerror}). Choose another one, as in: "
                    f"{manage_py()} demo --port {port + 1 if port < 65535 else 8000}",
                    returncode=USAGE_ERROR,
                ) from error

    def set_up(self) -> tuple[str, str] | None:
        """Migrate and fill the shop; return the name and password of the staff user, if made."""
        tables.migrate()
        made = catalogue.load()
        added = f"{counted(len(made), 'product')} added."
        self.stdout.write(added if made else "The catalogue exists already.")
        return staff.ensure_staff()

    def serve(self, port: int, log: IO[bytes] | None, staff_made: tuple[str, str] | None) -> int:
        """Serve the shop until Ctrl-C; return the exit code."""
        shop = f"http://localhost:{port}"
        code = serving.run_together(
            [serving.web_server(f"127.0.0.1:{port}"), serving.worker()],
            variables=variables(),
            log=log,
            url=f"http://127.0.0.1:{port}",
            on_ready=lambda: self.say(
                ("The shop", f"{shop}/"),
                ("The admin", f"{shop}/admin/"),
                *staff_lines(staff_made),
                (
                    "E-mails",
                    f"{shop}/demo/outbox/" if keeps_emails() else "sent, as EMAIL_URL says",
                ),
                *([("Log", short_path(log.name))] if log else []),
                MORE_SALES,
                ("To end", "Ctrl-C"),
            ),
        )
        if code and log:
            self.stderr.write(f"The end of {short_path(log.name)}:\n{last_lines(Path(log.name))}")
        return code

    def say(self, *lines: tuple[str, str]) -> None:
        """Print text lines, each with its name before it."""
        self.stdout.write("".join(f"\n{name and name + ':':<13}{words}" for name, words in lines))
        self.stdout.flush()


@contextlib.contextmanager
def open_log(log: str | None, port: int) -> Iterator[IO[bytes] | None]:
    """Open the log, and empty it; None stands for the terminal. Raises CommandError."""
    if log == ON_THE_TERMINAL:
        yield None
        return
    try:
        file = Path(log or serving.ROOT / LOG.format(port=port)).open("wb")  # noqa: SIM115  (below)
    except OSError as error:
        raise CommandError(f"log: {error}", returncode=USAGE_ERROR) from error
    with file:
        yield file


def variables() -> dict[str, str]:
    """The environment variables of a demo. Printed e-mails would only fill its log."""
    return {"DEMO": "true", **({"EMAIL_URL": "outbox://"} if keeps_emails() else {})}


def keeps_emails() -> bool:
    """Whether e-mails stay on this machine: EMAIL_URL names no mail server."""
    return settings.EMAIL_BACKEND in (
        "django.core.mail.backends.console.EmailBackend",
        "shop.notifications.outbox.EmailBackend",
    )


def staff_lines(made: tuple[str, str] | None) -> list[tuple[str, str]]:
    another = f"{manage_py()} demo --password"
    if made is None:
        return [("Staff user", f"exists already. A new password: {another}")]
    name, password = made
    return [("Staff user", f"{name}, password {password}"), ("", f"Lost it? {another}")]


def manage_py() -> str:
    """The words with which people type manage.py here."""
    python = Path(sys.executable)
    inside = python.is_relative_to(Path.cwd())
    return f"{python.relative_to(Path.cwd()) if inside else 'python'} manage.py"


def short_path(path: str) -> str:
    """A path as people would type it from here."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def last_lines(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-LINES_OF_LOG:])


MORE_SALES = ("More sales", f"{manage_py()} flash_sale --help")
