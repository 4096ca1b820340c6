"""``manage.py reconcile``: its times, its table and its exit codes."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.core.management.base import CommandParser
from django.utils import timezone

from inventory import stock
from shop.management.commands.reconcile import Command, read_time
from shop.models import Order, ShopAlert
from shop.orders import settle
from tests import command_line
from tests.conftest import MakeProduct
from tests.shop.orders.steps import go_to_bank, place
from tests.shop.reconcile.backup import all_rows
from tests.shop.reconcile.memory_bank import MemoryBank
from tests.shop.reconcile.test_reconcile import again, charge_of, lose_everything_since, pay
from tests.stripe_standin import StripeStandin

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> tuple[int, str]:
    """The exit code, and the text that a person reads."""
    output = io.StringIO()
    try:
        call_command("reconcile", *arguments, stdout=output, stderr=output)
    except SystemExit as end:
        return int(end.code or 0), output.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, output.getvalue()


def ago(**time: int) -> str:
    return (timezone.now() - timedelta(**time)).isoformat()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01T13:45", datetime(2026, 5, 1, 11, 45, tzinfo=UTC)),  # in Berlin
        ("2026-05-01 13:45:10", datetime(2026, 5, 1, 11, 45, 10, tzinfo=UTC)),
        ("2026-05-01T13:45Z", datetime(2026, 5, 1, 13, 45, tzinfo=UTC)),
        ("2026-05-01T13:45+09:00", datetime(2026, 5, 1, 4, 45, tzinfo=UTC)),
        ("2026-05-01", datetime(2026, 4, 30, 22, tzinfo=UTC)),
        # Twice on the clock: the earlier one, so that nothing is left out.
        ("2025-10-26T02:30", datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
    ],
)
def test_times(text: str, moment: datetime, settings: LazySettings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    assert read_time(text) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "13:45", "2026-13-01", "1 May", "0001-01-01", "9" * 400, "-1"]
)
def test_no_times(text: str) -> None:
    code, words = run(f"--since={text}")
    assert code == 2
    assert words.startswith("--since: ")
    assert "2026-05-01T13:45" in words


def test_a_time_to_come() -> None:
    code, words = run("--since", ago(days=-1))
    assert code == 2
    assert "has not come yet" in words


def test_no_time_at_all() -> None:
    assert run() == (1, "Error: the following arguments are required: --since")


def test_another_provider() -> None:
    code, words = run("--since", ago(hours=1), "--provider", "paypal")
    assert code == 2
    assert words == "--provider: there is no provider “paypal” in the settings, only memory."


def test_a_provider_that_is_down() -> None:
    MemoryBank.is_down = True
    rows = all_rows()
    code, words = run("--since", ago(hours=1), "--apply")
    assert (code, words) == (
        1,
        "Nothing was changed. The memory bank is down. Try again later.",
    )
    assert all_rows() == rows


def test_a_provider_that_is_down_beside_another(settings: LazySettings) -> None:
    MemoryBank.is_down = True
    settings.FORMER_PAYMENT_PROVIDERS = ["demo"]
    code, words = run("--since", ago(hours=1))
    assert code == 1
    assert words.endswith("Try again later. With --provider, only one provider is asked.")


def test_waiting_is_no_advice_for_a_wrong_key(
    settings: LazySettings, stripe_standin: StripeStandin
) -> None:
    settings.PAYMENT_PROVIDER = "stripe"
    settings.STRIPE_SECRET_KEY = "sk_test_Ab12"
    settings.STRIPE_API_BASE = stripe_standin.url
    code, words = run("--since", ago(hours=1))
    assert code == 1
    assert words.startswith("Nothing was changed. Stripe doesn't let us in: Invalid API Key")
    assert words.endswith(". Look at the setting STRIPE_SECRET_KEY.")


def test_another_account_of_stripe(
    make_product: MakeProduct, settings: LazySettings, stripe_standin: StripeStandin
) -> None:
    settings.PAYMENT_PROVIDER = "stripe"
    settings.STRIPE_SECRET_KEY = stripe_standin.secret_key
    settings.STRIPE_API_BASE = stripe_standin.url
    settings.BASE_URL = "http://testserver"
    order = place((make_product(1), 1))
    go_to_bank(order)
    settings.STRIPE_SECRET_KEY = stripe_standin.live_secret_key
    lost = pay_at(stripe_standin, place((make_product(1), 1), buyer="B"))
    lose_everything_since(lost.placed_at)
    code, words = run("--since", ago(hours=1), "--apply")
    assert code == 1
    assert f"Order {order.number}: the provider stripe can't say how this payment stands." in words
    assert "No such checkout.session: 'cs_[…]'" in words
    assert "Is it of another account?" in words
    assert "1 order made again, 1 payment recorded, 1 left for a person." in words
    assert again(lost).state == "PAID"


def pay_at(standin: StripeStandin, order: Order) -> Order:
    go_to_bank(order)
    standin.sessions.pay(order.payments.get().reference)
    return settle(order.pk)


def test_nothing_to_do(make_product: MakeProduct) -> None:
    pay(place((make_product(1), 1)))
    code, words = run("--since", ago(hours=1))
    assert code == 0
    assert words.endswith(": memory has 1 payment.\nNothing to do, 1 payment agrees.\n")


def test_the_time_as_it_was_understood(settings: LazySettings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    words = run("--since", "2026-05-01T11:45Z")[1]
    assert words.startswith("Since 2026-05-01 13:45:00+02:00: memory has 0 payments.\n")


def test_a_bad_time_to_the_program() -> None:
    with command_line.start("reconcile", "--since", "yesterday") as program:
        output, errors = program.communicate(timeout=60)
    assert (program.returncode, output) == (2, "")
    assert errors.startswith("CommandError: --since: “yesterday” is no time.")


@pytest.fixture
def lost(make_product: MakeProduct) -> list[Order]:
    since = timezone.now()
    pot = make_product(2)
    orders = [pay(place((pot, 1), buyer=buyer)) for buyer in "AB"]
    lose_everything_since(since)
    stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    return orders


def test_the_plan(lost: list[Order]) -> None:
    rows = all_rows()
    code, words = run("--since", ago(hours=1), "--provider", "memory")
    assert code == 0
    assert all_rows() == rows
    assert all(len(line) <= 80 for line in words.split("\n") if "─" in line or "│" in line)
    assert "This would be done" in words
    assert all(order.number in words for order in lost)
    assert "2 orders made again, 2 payments recorded, 1 new refund, 1 order without units" in words
    assert "receive them first" in words
    assert "add --apply" in words


def test_it_is_done_and_then_there_is_nothing_to_do(lost: list[Order]) -> None:
    since = ago(hours=1)
    code, words = run("--since", since, "--apply")
    assert code == 0
    assert "This was done" in words
    assert "add --apply" not in words
    assert "1 paid order may have been sent after the backup" in words
    assert [again(order).state for order in lost] == ["PAID", "REFUNDED"]
    assert ShopAlert.objects.filter(kind="RESTORED").count() == 1
    code, words = run("--since", since, "--apply")
    assert code == 0
    assert words.endswith("\nNothing to do, 2 payments agree.\n")


def test_changes_that_are_only_recorded(make_product: MakeProduct) -> None:
    charge = charge_of(pay(place((make_product(2), 1))))
    charge.dispute(charge.amount)
    words = " ".join(run("--since", ago(hours=1))[1].replace("│", " ").split())
    assert "This would be done" in words
    assert "Recorded: The buyer's bank has taken back" in words
    assert words.endswith(
        "1 change at the provider recorded. Nothing was changed. To do it, add --apply."
    )


def test_something_is_left_for_a_person(make_product: MakeProduct) -> None:
    since = timezone.now()
    order = pay(place((make_product(2), 1)))
    charge = charge_of(order)
    charge.copy = ""
    lose_everything_since(since)
    code, words = run("--since", ago(hours=1))
    assert code == 1
    assert "1 left for a person" in words
    assert charge.reference in words
    assert "[" not in words  # no markup


def test_the_help_explains_the_time() -> None:
    parser: CommandParser = Command().create_parser("manage.py", "reconcile")
    words = " ".join(parser.format_help().split())
    assert "without a zone it is in the shop's TIME_ZONE" in words
