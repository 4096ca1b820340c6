"""After the restore of a backup: compare the payment provider's records with ours."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management import CommandError
from django.db import OperationalError
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inventory.management import tables
from inventory.management.base import USAGE_ERROR, FoldingCommand
from inventory.management.folding import folded, terminal_width
from inventory.words import counted
from shop import payments, shop_alerts
from shop.clock import read_clock
from shop.orders.reconcile import Report, reconcile

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
COUNTS = {
    "made again": ("order made again", "orders made again"),
    "payments recorded": ("payment recorded", "payments recorded"),
    "refunds recorded": ("refund recorded", "refunds recorded"),
    "news": ("change at the provider recorded", "changes at the provider recorded"),
    "refunds owed": ("new refund", "new refunds"),
    "without units": ("order without units", "orders without units"),
    "open": ("payment still open", "payments still open"),
    "declined": ("payment declined", "payments declined"),
    "agreed": ("payment agrees", "payments agree"),
    "never paid": ("unknown payment never paid", "unknown payments never paid"),
}


class Command(FoldingCommand):
    help = (
        "After the restore of a backup: ask the payment providers which payments and refunds they "
        "have, and compare them with ours. Without --apply this shows a plan and changes nothing. "
        "Exits 1 if something is left for a person, or if a provider can't be reached."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since",
            required=True,
            metavar="TIME",
            help="when the backup was made, or earlier, such as 2026-05-01T13:45 or "
            "2026-05-01T11:45Z; without a zone it is in the shop's TIME_ZONE, without a time of "
            "day it is midnight",
        )
        parser.add_argument(
            "--apply", action="store_true", help="do it; any number of times, until nothing is left"
        )
        parser.add_argument(
            "--provider", metavar="SLUG", help="ask only this one (default: all in the settings)"
        )

    def handle(self, *, since: str, apply: bool, provider: str | None, **options: Any) -> None:
        moment, slugs = read_time(since), self.slugs(provider)
        tables.ensure(self.stderr.write, "shop")
        try:
            report = reconcile(moment, slugs, apply=apply)
        except payments.ProviderUnavailable as error:
            raise CommandError(_unreachable(error, slugs)) from error
        except OperationalError as error:
            raise CommandError(
                f"The database was busy or broke off ({_in_a_line(error)}). Stop the web servers "
                "and workers, and run this again: the orders that are done stay done."
            ) from error
        self.stdout.write(folded(_asked_in_words(report, moment)))
        self.show(report, apply=apply)
        if report.findings:
            sys.exit(1)

    def slugs(self, provider: str | None) -> list[str]:
        known = payments.known_slugs()
        if provider is None:
            return known
        if provider not in known:
            raise CommandError(
                f"--provider: there is no provider “{provider}” in the settings, only "
                f"{', '.join(known)}.",
                returncode=USAGE_ERROR,
            )
        return [provider]

    def show(self, report: Report, *, apply: bool) -> None:
        console = Console(
            file=self.stdout,  # type: ignore[arg-type]  # it writes
            width=terminal_width(),
            highlight=False,
        )
        if report.steps:
            console.print(_table(report, "This was done" if apply else "This would be done"))
        for finding in report.findings:
            self.stdout.write(folded(f"For a person: {finding}"))
        self.stdout.write(folded(_counts_in_words(report)))
        if report.to_ship:
            words = counted(len(report.to_ship), "paid order may", "paid orders may")
            self.stdout.write(
                folded(f"{words} have been sent after the backup. Check before you send.")
            )
        if report.steps and not apply:
            self.stdout.write(folded(_advice(report)))


def read_time(text: str) -> datetime:
    """The time that a person wrote, in UTC. Raises CommandError."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if timezone.is_naive(moment):
            moment = timezone.make_aware(moment)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CommandError(
            f"--since: “{text}” is no time. Write it like 2026-05-01T13:45, or 2026-05-01T11:45Z "
            "for UTC.",
            returncode=USAGE_ERROR,
        ) from error
    if not EARLIEST <= moment <= read_clock():
        words = "has not come yet" if moment > EARLIEST else "is long ago"
        raise CommandError(
            f"--since: {text} {words}. Give the time of the backup, like 2026-05-01T13:45.",
            returncode=USAGE_ERROR,
        )
    return moment


def _table(report: Report, title: str) -> Table:
    table = Table("Order", "Amount", title, expand=False)
    table.columns[1].justify = "right"
    for step in report.steps:
        table.add_row(step.order, step.amount, Text(step.done))
    return table


def _asked_in_words(report: Report, moment: datetime) -> str:
    """The time as we understood it, and whether the right account was asked."""
    listed = [f"{slug} has {counted(n, 'payment')}" for slug, n in report.listed.items()]
    return f"Since {timezone.localtime(moment).isoformat(' ')}: {', '.join(listed)}."


def _counts_in_words(report: Report) -> str:
    words = [counted(report.counts[name], *COUNTS[name]) for name in COUNTS if report.counts[name]]
    words += [f"{len(report.findings)} left for a person"] if report.findings else []
    if not report.steps:
        words.insert(0, "nothing to do")
    text = ", ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def _advice(report: Report) -> str:
    words = "Nothing was changed. To do it, add --apply."
    if report.counts["without units"]:
        words = (
            "Orders without units get their money back. If units were received after the backup, "
            f"receive them first, and run this again. {words}"
        )
    return words


def _unreachable(error: payments.ProviderUnavailable, slugs: list[str]) -> str:
    """Waiting helps only where the provider will come back by itself."""
    words = f"Nothing was changed. {shop_alerts.as_sentence(str(error))}"
    if not isinstance(error, payments.ProviderMisconfigured):
        words += " Try again later."
    if len(slugs) > 1:
        words += " With --provider, only one provider is asked."
    return words


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())
