"""Going up a release: the code of before sells on the new tables, beside the new code.

The releases of before are commits of this repository: the one before the last that changed a
migration, and the last one at all.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory.models import Product
from shop.load_tests.serving import ROOT, ServedShop
from shop.models import Order, Refund
from tests.conftest import MakeProduct
from tests.http.shopper import Form, Page, Shopper
from tests.shop.admin.conftest import fields_of
from tests.shop.orders.steps import delete_jobs
from tests.shop.programs import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.longest]

MIGRATIONS = ("shop/migrations/*.py", "inventory/**/migrations/*.py", "inventory/migrations/*.py")
SHARED = {"SECRET_KEY": "k" * 50, "WEB_CONCURRENCY": "1"}


def git(*arguments: str) -> str:
    """Return what git prints. Skip the test where there is no history of the shop."""
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("There is no history of the shop to take a release from.")
    return run.stdout.decode().strip()


def before_the_last_migration() -> str:
    """The commit before the last that changed a migration; HEAD if changes aren't committed yet."""
    if git("status", "--porcelain", "--", *MIGRATIONS):
        return git("rev-parse", "HEAD")
    last = git("log", "-1", "--format=%H", "--", *MIGRATIONS)
    return git("rev-parse", f"{last}^")


def last_commit() -> str:
    """The commit before HEAD, unless it serves the same as what is tried already."""
    commit = git("rev-parse", "HEAD^")
    changed = git("diff", "--name-only", commit, "--", "shop", "inventory", "templates")
    if not changed or commit == before_the_last_migration():
        pytest.skip("The last commit changed nothing that serves.")
    return commit


def unpack(commit: str, directory: Path) -> None:
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")


@pytest.fixture(params=[before_the_last_migration, last_commit], ids=lambda find: find.__name__)
def old_code(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with the code of a release of before."""
    unpack(request.param(), tmp_path)
    return tmp_path


@pytest.fixture
def old_and_new(old_code: Path) -> Iterator[tuple[ServedShop, ServedShop]]:
    """Both releases, each with a web server and a worker, on one database."""
    delete_jobs()
    old, new = ServedShop(SHARED, root=old_code), ServedShop(SHARED)
    try:
        for each in (old, new):
            each.start_web()
            each.start_worker()
        yield old, new
    finally:
        old.stop()
        new.stop()


class TwoReleases(Shopper):
    """A buyer whose requests a proxy sends to one release, then to the other."""

    def __init__(self, number: int, first: ServedShop, second: ServedShop) -> None:
        super().__init__(first.url, number)
        self.urls = (first.url, second.url)

    def change(self) -> None:
        first, second = self.urls
        self.shop = second if self.shop == first else first

    def buy_from_both(self, slug: str) -> Page:
        assert self.reserve(slug).status == 200
        self.change()
        bank = self.check_out()
        self.change()
        return self.pay(bank)

    def cancel(self, order: Order) -> Page:
        page = self.get(f"/orders/{order.token}/cancellation/")
        return self.send(page.form("/cancellation/"))


def test_both_releases_sell_on_one_database(
    old_and_new: tuple[ServedShop, ServedShop], make_product: MakeProduct
) -> None:
    old, new = old_and_new
    product = make_product(10)
    for number, releases in enumerate([(old, old), (old, new), (new, old)]):
        buyer = TwoReleases(number, *releases)
        page = buyer.buy_from_both(product.slug)
        assert page.status == 200, page.html
        order = Order.objects.latest("pk")
        assert order.state == Order.State.PAID
        buyer.change()
        assert buyer.get(f"/orders/{order.token}/").status == 200
        assert buyer.cancel(order).status == 200
        assert set(buyer.statuses) == {200}
    for release in (old, new):
        save_in_the_admin(release, product)
    wait_until(no_job_waits, "all jobs are done")
    assert not ProcrastinateJob.objects.filter(status="failed").exists()
    assert {order.state for order in Order.objects.all()} == {Order.State.CANCELLED}
    assert [refund.state for refund in Refund.objects.all()] == [Refund.State.DONE] * 3
    product.refresh_from_db()
    assert product.stock == 10


def save_in_the_admin(release: ServedShop, product: Product) -> None:
    User.objects.all().delete()
    User.objects.create_superuser("staff", password="a long one")
    staff = Shopper(release.url, 0)
    login = staff.get("/admin/login/")
    staff.send(form_of(login, "username"), username="staff", password="a long one")
    page = staff.get(f"/admin/inventory/product/{product.pk}/change/")
    assert staff.send(form_of(page, "name"), name=release.url).status == 200
    product.refresh_from_db()
    assert product.name == release.url


def form_of(page: Page, field: str) -> Form:
    return Form(page.url, list(fields_of(page.html, field).items()))


def no_job_waits() -> bool:
    """Whether all jobs are done that may start now, but for periodic ones (with a timestamp)."""
    queued = ProcrastinateJob.objects.filter(status__in=["todo", "doing"], scheduled_at=None)
    return not queued.exclude(args__has_key="timestamp").exists()


# Jobs

PRINT_TASKS = """
import django, inspect, json
django.setup()
from procrastinate.contrib.django import app
print(json.dumps({
    name: [each.name for each in inspect.signature(task.func).parameters.values()]
    for name, task in app.tasks.items()
}))
"""


def test_a_worker_can_do_the_jobs_of_the_release_before(old_code: Path) -> None:
    """Each old task has its name, or an alias of it, and takes the arguments that it took."""
    program = subprocess.run(
        [sys.executable, "-c", PRINT_TASKS],
        cwd=old_code,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"},
        stdout=subprocess.PIPE,
        check=True,
    )
    for name, parameters in json.loads(program.stdout).items():
        assert name in app.tasks, f"Give the task that was {name} this name as an alias."
        inspect.signature(app.tasks[name].func).bind(**dict.fromkeys(parameters))
