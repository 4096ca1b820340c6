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
        "the shop on this machine. Running it again changes nothing that is there."
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
        self.set_up()
        self.stdout.write("\nA flash sale, once per strategy:\n\n")
        call_command("flash_sale", stdout=self.stdout, stderr=self.stderr)
        if no_serve:
            self.stdout.write("\nNext: python manage.py demo serves the shop; ")
            self.stdout.write("python manage.py flash_sale --help lists what else to try.")
            return
        self.say_where_to_look(port)
        sys.exit(serving.run_together([serving.web_server(f"127.0.0.1:{port}")]))

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

    def set_up(self) -> None:
        call_command("migrate", verbosity=0)
        made = catalogue.load()
        self.stdout.write(f"{len(made)} products added." if made else "The catalogue is there.")
        who = staff.ensure_somebody()
        if who:
            name, password = who
            self.stdout.write(f"Staff user made: {name}, password {password} (told only now).")

    def say_where_to_look(self, port: int) -> None:
        shop = f"http://localhost:{port}"
        self.stdout.write(
            f"\nThe shop:      {shop}/"
            f"\nThe admin:     {shop}/admin/"
            "\nMore sales:    python manage.py flash_sale --help"
            "\nEnd with Ctrl-C.\n"
        )
        self.stdout.flush()
