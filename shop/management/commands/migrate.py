"""The command migrate, as a shop that is open needs it: buyers never queue behind it for long.

A migration that alters a table needs a lock that excludes everybody. While it waits for one long
reader, all buyers wait behind it. So it waits for a few seconds, gives up, lets the buyers pass,
and tries again. PostgreSQL has rolled back whole what it had done.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pglock
from django.core.management import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DatabaseError, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from inventory.management.base import folding
from inventory.postgres_errors import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, sqlstate
from shop.deployment import lock_waits
from shop.deployment.migration_watch import SECONDS_BETWEEN_LINES, MigrationWatch

LOCK_TIMEOUT = 2.0  # seconds; a buyer's own statement waits for longer (LOCK_TIMEOUT in settings)
LOCK_TRIES = 5
LONGEST_PAUSE = 8.0  # seconds between two tries
LOST_TO_OTHERS = (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)
SECONDS_BETWEEN_TURNS = 0.5
ADVISORY_LOCK = "shop.migrate"
THROUGH_POOLER = (
    "The connection goes through a pooler, whose timeouts count. Start migrate with a DATABASE_URL "
    "that leads to PostgreSQL directly."
)
AFTERWARDS = "The work after the migrations (permissions, groups)"


class Command(migrate.Command):
    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        return folding(super().create_parser(prog_name, subcommand, **options))

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout",
            type=seconds,
            default=LOCK_TIMEOUT,
            metavar="SECONDS",
            help=f"How long a statement waits for a lock (default: {LOCK_TIMEOUT:g}). Buyers may "
            "have to wait behind it.",
        )
        parser.add_argument(
            "--lock-tries",
            type=whole_number,
            default=LOCK_TRIES,
            metavar="NUMBER",
            help=f"How often a migration tries to get its locks (default: {LOCK_TRIES}).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"] or options["check_unapplied"] or options["prune"]:
            super().handle(*args, **options)
            return
        connection = connections[options["database"]]
        self.verbosity = options["verbosity"]
        self.under_way: Migration | None = None
        self.long_ones: list[str] = []
        with (
            self.one_at_a_time(connection),
            lock_waits.bounded(connection, options["lock_timeout"]),
            MigrationWatch(connection, self.write_between) as self.watch,
        ):
            self.migrate_patiently(*args, **options)
        if self.long_ones and self.verbosity:
            self.stdout.write(f"These took long: {', '.join(self.long_ones)}.")

    def migrate_patiently(self, *args: Any, **options: Any) -> None:
        """Try until all migrations are done, or one didn't get its locks too often.

        Those that are done stay so: the next try goes on with the one that failed.
        """
        failed, tries = "", 0
        while True:
            try:
                super().handle(*args, **options)
                return
            except DatabaseError as error:
                if sqlstate(error) not in LOST_TO_OTHERS:
                    self.warn_if_half_done()
                    raise
                name = str(self.under_way or AFTERWARDS)
                tries = tries + 1 if name == failed else 1
                failed = name
                if tries >= options["lock_tries"] or not self.was_rolled_back():
                    message = self.failure(name, tries, options["lock_timeout"])
                    raise CommandError(message) from error
            except BaseException:
                self.warn_if_half_done()
                raise
            pause = min(2.0 ** (tries - 1), LONGEST_PAUSE)
            self.write_between(
                f"{name} is rolled back, and tried again in {pause:g} s. It could not get "
                f"{self.missing_lock()}"
            )
            if self.verbosity:
                self.stdout.write("")
            time.sleep(pause)

    def migration_progress_callback(
        self, action: str, migration: Migration | None = None, fake: bool = False
    ) -> None:
        super().migration_progress_callback(action, migration, fake)
        if action in ("apply_start", "unapply_start"):
            self.under_way = migration
            self.watch.begin(str(migration))
        elif action in ("apply_success", "unapply_success"):
            took = self.watch.end()
            if took >= SECONDS_BETWEEN_LINES:
                self.long_ones.append(f"{migration} ({took:.0f} s)")
            self.under_way = None

    @contextmanager
    def one_at_a_time(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Let only one migrate at a time work at a database: the others find its work done.

        We try again and again. A session that waits for the lock would be waited for itself, by an
        index that is made concurrently.
        """
        if lock_waits.goes_through_pooler(connection):
            self.stderr.write(self.style.WARNING(THROUGH_POOLER))
            yield
            return
        lock = pglock.advisory(ADVISORY_LOCK, using=connection.alias, timeout=0)
        started, lines = time.monotonic(), 0
        while not lock.acquire():
            if time.monotonic() - started >= SECONDS_BETWEEN_LINES * lines:
                lines += 1
                self.write_between("Another migrate is at work at this database. We wait for it.")
            time.sleep(SECONDS_BETWEEN_TURNS)
        try:
            yield
        finally:
            with suppress(Error):  # a connection that is lost has lost the lock, too
                lock.release()

    # In words

    def write_between(self, line: str) -> None:
        """Write a line, also in the middle of Django's line on a migration."""
        if self.verbosity:
            self.stdout.write(f"\n    {line}", ending="")
            self.stdout.flush()

    def was_rolled_back(self) -> bool:
        return self.under_way is None or self.under_way.atomic

    def warn_if_half_done(self) -> None:
        if not self.was_rolled_back():
            self.stderr.write(f"\n{self.half_done()}")

    def half_done(self) -> str:
        return (
            f"{self.under_way} isn't atomic, and was begun: what it did before the error is done, "
            "and it is not recorded as applied."
        )

    def failure(self, name: str, tries: int, lock_timeout: float) -> str:
        times = "once" if tries == 1 else f"{tries} times"
        waited = f"{name} waited for {lock_timeout:g} s, {times},"
        rest = "It is rolled back: nothing is half done."
        return (
            f"{waited} and could not get {self.missing_lock()}\n"
            f"{rest if self.was_rolled_back() else self.half_done()}\n"
            "Wait until these sessions end, or end one by SELECT pg_terminate_backend(process). "
            "Then run migrate again."
        )

    def missing_lock(self) -> str:
        return str(self.watch.last_wait or "a lock")


def seconds(text: str) -> float:
    try:
        if 0.001 <= float(text) <= 3600:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"must be a number of seconds from 0.001 to 3600, not {text!r}"
    )


def whole_number(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 1000:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 1000, not {text!r}")
