"""All in one: a shop with goods, a flash sale to watch, and the pages to look at."""

from __future__ import annotations

import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from shop import catalogue, serving, staff

USAGE_ERROR = 2


class Command(BaseCommand):
    help = (
        "Set the shop up with a small catalogue, run a flash sale with every strategy, and serve "
        "the shop on this machine, with a worker beside it. Running it again changes nothing "
        "that is there."
    )
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
        parser.add_argument(
            "--no-serve", action="store_true", help="end after the flash sale, serve nothing"
        )

    def handle(self, *, port: int, no_serve: bool, **options: Any) -> None:
        if not no_serve:
            self.check_port(port)
        staff_made = self.set_up()
        self.stdout.write("\nA flash sale, once per strategy:\n\n")
        call_command("flash_sale", stdout=self.stdout, stderr=self.stderr)
        self.say_where_to_look(port, no_serve, staff_made)
        if not no_serve:
            programs = [serving.web_server(f"127.0.0.1:{port}"), serving.worker()]
            sys.exit(serving.run_together(programs))

    def check_port(self, port: int) -> None:
        """Before the flash sale, not after it."""
        if not 0 < port < 65536:
            raise CommandError(f"port: {port} won't do; it must be 1 to 65535.", returncode=2)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(
                    f"port: {port} can't be used ({error.strerror}). Choose another one, as in: "
                    f"python manage.py demo --port {port + 1 if port < 65535 else 8000}",
                    returncode=USAGE_ERROR,
                ) from error

    def set_up(self) -> tuple[str, str] | None:
        """Migrate and fill the shop; return name and password of a member of staff, if made."""
        call_command("migrate", verbosity=0)
        made = catalogue.load()
        self.stdout.write(f"{len(made)} products added." if made else "The catalogue is there.")
        return staff.ensure_somebody()

    def say_where_to_look(
        self, port: int, no_serve: bool, staff_made: tuple[str, str] | None
    ) -> None:
        shop = f"http://localhost:{port}"
        lines = ["", "More sales:    python manage.py flash_sale --help"]
        if no_serve:
            lines += ["The shop:      python manage.py demo"]
        else:
            lines += [f"The shop:      {shop}/", f"The admin:     {shop}/admin/"]
        if staff_made:
            name, password = staff_made
            lines += [f"Staff user:    {name}, password {password} (told only this once)"]
        if not no_serve:
            lines += ["End with Ctrl-C."]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()
