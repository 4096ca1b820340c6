"""The key that a checkout makes for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from shop.deployment import secret_key
from tests.shop.programs import NOBODY, ROOT, needs_root


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = secret_key.of_checkout(tmp_path)
    assert len(key) >= 50
    assert secret_key.of_checkout(tmp_path) == key
    assert (tmp_path / ".secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".secret_key"]


def test_each_checkout_has_another(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert secret_key.of_checkout(tmp_path / "one") != secret_key.of_checkout(tmp_path / "two")


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shop.deployment import secret_key\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(secret_key.of_checkout(Path(sys.argv[1])))"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    keys = {maker.communicate(timeout=60)[0].strip() for maker in makers}
    assert keys == {(tmp_path / ".secret_key").read_text()}


def test_an_editors_line_break_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / ".secret_key").write_text("my own key\n")
    assert secret_key.of_checkout(tmp_path) == "my own key"


@needs_root
def test_what_root_makes_belongs_to_the_checkouts_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    secret_key.of_checkout(tmp_path)
    assert (tmp_path / ".secret_key").stat().st_uid == NOBODY


def test_a_place_where_it_cannot_be_kept_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY isn't set, and none can be kept"):
        secret_key.of_checkout(tmp_path / "missing")
    (tmp_path / ".secret_key").mkdir()
    with pytest.raises(ImproperlyConfigured, match="Set SECRET_KEY"):
        secret_key.of_checkout(tmp_path)


def test_an_empty_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".secret_key").touch()
    with pytest.raises(ImproperlyConfigured, match=r"\.secret_key is empty: delete it"):
        secret_key.of_checkout(tmp_path)
